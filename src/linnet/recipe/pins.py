"""What a stage depends on and does not own, pinned by sha256: the model it begins with, and what judges its answers.

Every checkpoint's manifest keeps the digests. A stage that is resumed compares them with what is there now: a
low-rank adapter on other weights, another reference or another reward function would go on to other losses.
What a function of rewards imports from other files is not seen.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from linnet.config import RequestError
from linnet.data.shards.store import sha256_of
from linnet.infer import find_model
from linnet.objectives.verifiers import VerifierSettings
from linnet.recipe.stages import AnyStage, RewardStage
from linnet.recipe.work import Start
from linnet.train import Checkpoint, open_checkpoint, verify

BEGAN_WITH = "began_with"  # in a manifest
_START = " of the start"
_READING = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")  # of a judge

Digests = dict[str, str]


def pins_of(stage: AnyStage, start: Start) -> Digests:
    """The sha256 of everything outside that a stage depends on, by what a person calls it.

    Raises:
        RequestError: a file cannot be read. RunError: a checkpoint that it begins with is damaged.
    """
    found: Digests = {}
    if start.folder is not None:
        found = {f"{file}{_START}": digest for file, digest in model_digests(start.folder).items()}
    if isinstance(stage, RewardStage):
        found |= verifier_digests(stage.verifiers)
    return found


def verifier_digests(verifiers: Iterable[VerifierSettings]) -> Digests:
    """The sha256 of the files and models that judge answers; verifiers that come with Linnet have none."""
    found: Digests = {}
    for verifier in verifiers:
        if verifier.word == "python":
            path = verifier.detail.rpartition(":")[0]
            found[f"python:{path}"] = _sha256(Path(path).expanduser())
        if verifier.word == "model":
            folder = find_model(Path(verifier.detail).expanduser())
            found |= {f"{file} of {verifier.kind}": sha for file, sha in judge_digests(folder).items()}
    return found


def model_digests(folder: Path) -> Digests:
    """The sha256 of a model folder's configuration and weights; a checkpoint's are verified by its manifest.

    Raises:
        RequestError: a file cannot be read. RunError: the folder is a checkpoint's and damaged.
    """
    known = verified_files(folder)
    paths = [folder / "config.json", *sorted(folder.glob("*.safetensors*"))]
    return {path.name: known[f"model/{path.name}"]["sha256"] if f"model/{path.name}" in known else _sha256(path)
            for path in paths}  # fmt: skip


def judge_digests(folder: Path) -> Digests:
    """As `model_digests`, with the files that decide how a judge reads text.

    Raises:
        RequestError: a file cannot be read. RunError: the folder is a checkpoint's and damaged.
    """
    return model_digests(folder) | {
        name: _sha256(folder / name) for name in _READING if (folder / name).is_file()
    }


def verified_files(folder: Path) -> Mapping[str, Any]:
    """What the manifest says of a checkpoint's files, its model's verified; empty for a folder that is none's.

    Raises:
        RunError: a file of the model is damaged.
    """
    if folder.name != "model" or not (folder.parent / "manifest.json").is_file():
        return {}
    checkpoint = open_checkpoint(folder.parent)
    verify(checkpoint, "model/", "restore it, or begin with another model")
    return checkpoint.manifest["files"]


def began_with(start: Start, pins: Digests) -> dict[str, Any]:
    """What a checkpoint's manifest says of them."""
    folder = str(start.folder.resolve()) if start.folder else None
    return {BEGAN_WITH: {"folder": folder, "sha256": pins}}


def kept_folder(checkpoint: Checkpoint | None) -> Path | None:
    """The model folder that a stage began with, where it still is."""
    folder = (checkpoint.manifest.get(BEGAN_WITH) or {}).get("folder") if checkpoint else None
    return Path(folder) if folder and (Path(folder) / "config.json").is_file() else None


def check_pins(checkpoint: Checkpoint, now: Digests) -> bool:
    """Refuse to go on where something is not what the stage began with.

    Returns:
        Whether the checkpoint says what it was; those of earlier versions do not.

    Raises:
        RequestError: names the first that changed, and both its digests.
    """
    kept = checkpoint.manifest.get(BEGAN_WITH)
    if kept is None:
        return False
    before: Digests = kept["sha256"]
    for name in sorted(before.keys() | now.keys()):
        if before.get(name) != now.get(name):
            shown = f"{name} {kept['folder']}" if name.endswith(_START) else name
            was, is_now = ((digests.get(name) or "absent")[:16] for digests in (before, now))
            raise RequestError(
                f"{shown} is not what this stage began with (sha256 {was}, now {is_now})", str(checkpoint.path),
                "restore it, or start another run with --run DIR or --fresh",
            )  # fmt: skip
    return True


def _sha256(path: Path) -> str:
    try:
        return sha256_of(path)
    except OSError as error:
        raise RequestError(f"this cannot be read ({error.strerror})", str(path), "restore it") from None
