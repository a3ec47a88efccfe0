"""A checkpoint is a folder that appears whole or not at all.

    step-00000500/
      model/          a stock Hugging Face folder: config, safetensors, tokenizer, generation config
      adapter/        of a model with an adapter: PEFT's files; model/ holds the merged model
      state/          optimizer state (torch.distributed.checkpoint, so that it can be resharded),
                      trainer.json: step, data cursor, best so far, loss scale; and what an
                      objective keeps from step to step (rollouts): objective.safetensors
      manifest.json   written last: size and sha256 of every file, step, tokens, recipe hash, parent

It is written under another name, synced and renamed, so a kill or a full disk leaves the
one before as it was. Loading a model reads safetensors and JSON and never unpickles.
"""

from __future__ import annotations

import json
import os
import shutil
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import torch.distributed.checkpoint as dcp
from safetensors.torch import load_file, save_file
from torch import Tensor

from linnet import __version__
from linnet.config import RequestError, RunError
from linnet.data.shards.store import sha256_of
from linnet.data.shards.writing import sync_folder
from linnet.model import Transformer, lora, save_adapter, save_model
from linnet.text import Tokenizer

FORMAT = 1
_OBJECTIVE = "objective.safetensors"


@dataclass(frozen=True)
class Checkpoint:
    """A whole checkpoint on disk."""

    path: Path
    manifest: dict[str, Any]

    @property
    def step(self) -> int:
        """Optimizer steps done when it was saved."""
        return int(self.manifest["step"])

    @property
    def model_folder(self) -> Path:
        """The stock model folder."""
        return self.path / "model"

    def trainer_state(self) -> dict[str, Any]:
        """What the trainer put into `state/trainer.json`.

        Raises:
            RunError: when it cannot be read; what is in it, `verify` checks.
        """
        file = self.path / "state" / "trainer.json"
        try:
            return json.loads(file.read_text(encoding="utf-8"))
        except OSError as error:
            raise RunError(
                f"cannot be read ({error.strerror})", str(file), "run the same command again"
            ) from None

    @property
    def adapter_folder(self) -> Path | None:
        """The adapter in PEFT's format, where the model has one."""
        folder = self.path / "adapter"
        return folder if folder.is_dir() else None

    def objective_state(self) -> dict[str, Tensor]:
        """What the objective put into `state/`."""
        file = self.path / "state" / _OBJECTIVE
        return load_file(file) if file.exists() else {}

    def load_tensors(self, into: dict[str, Tensor]) -> None:
        """Fill the given tensors in place from `state/`."""
        with _one_process():
            dcp.load(dict(into), checkpoint_id=self.path / "state", no_dist=True)


def step_name(step: int) -> str:
    """Folder name of a step's checkpoint; sorts by step."""
    return f"step-{step:08d}"


class CheckpointFolder:
    """The checkpoints of one stage: saving, finding, retaining."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save(
        self,
        step: int,
        model: Transformer,
        tokenizer: Tokenizer,
        tensors: dict[str, Tensor],
        trainer: dict[str, Any],
        facts: dict[str, Any],
        objective: Mapping[str, Tensor] | None = None,
        base: str = "",
    ) -> Checkpoint:
        """Write a checkpoint; it is whole when this returns, and absent when this raises.

        Args:
            tensors: optimizer state by name.
            trainer: what the trainer needs to go on; JSON.
            facts: what the manifest should say besides (tokens, recipe hash, parent).
            objective: what the objective needs to go on.
            base: of an adapter, the stock model that is adapted.

        Raises:
            RunError: when the disk is full or the folder cannot be written; earlier checkpoints are intact.
        """
        final = self.folder / step_name(step)
        aside = self.folder / f".{step_name(step)}.partial"
        try:
            self.clean()
            (aside / "model").mkdir(parents=True)
            (aside / "state").mkdir()
            _save_model(model, tokenizer, aside, base)
            with _one_process():
                dcp.save(dict(tensors), checkpoint_id=aside / "state", no_dist=True)
            if objective:
                save_file(dict(objective), aside / "state" / _OBJECTIVE)
            (aside / "state" / "trainer.json").write_text(json.dumps(trainer, indent=1), encoding="utf-8")
            manifest = self._manifest(aside, step, facts)
            (aside / "manifest.json").write_text(json.dumps(manifest, indent=1), encoding="utf-8")
            _sync(aside)
            before = self.folder / f".{step_name(step)}.before"
            if final.exists():  # saved again with more to say; a kill right here is mended by `clean`
                final.rename(before)
            aside.rename(final)
            sync_folder(self.folder)
            shutil.rmtree(before, ignore_errors=True)
        except (Exception, dcp.CheckpointException) as error:  # torch's is no Exception
            shutil.rmtree(aside, ignore_errors=True)
            reason = _reason(error)
            if reason is None:
                raise
            raise RunError(
                f"the checkpoint cannot be written ({reason})", str(final),
                "earlier checkpoints are intact; make room and run the same command again",
            ) from None  # fmt: skip
        return Checkpoint(final, manifest)

    def _manifest(self, aside: Path, step: int, facts: dict[str, Any]) -> dict[str, Any]:
        files = sorted(path for path in aside.rglob("*") if path.is_file())
        return {
            "format": FORMAT,
            "linnet": __version__,
            "torch": torch.__version__,
            "step": step,
            **facts,
            "files": {
                path.relative_to(aside).as_posix(): {"size": path.stat().st_size, "sha256": sha256_of(path)}
                for path in files
            },
        }

    def all(self) -> list[Checkpoint]:
        """Every whole checkpoint, by step.

        Raises:
            RequestError: when a manifest cannot be read.
        """
        return [open_checkpoint(path) for path in sorted(self.folder.glob("step-*")) if path.is_dir()]

    def latest(self) -> Checkpoint | None:
        """The checkpoint with the highest step."""
        found = self.all()
        return found[-1] if found else None

    def chosen(self, which: Literal["last", "best"]) -> Checkpoint:
        """The checkpoint that a finished stage hands on: its last, or its best where one was recorded.

        Raises:
            RunError: when there is none.
        """
        found = {checkpoint.step: checkpoint for checkpoint in self.all()}
        if not found:
            raise RunError("there is no checkpoint here", str(self.folder), "run the stage again")
        best = self._best_step() if which == "best" else None
        return found[best if best in found else max(found)]

    def _best_step(self) -> int | None:
        try:
            return int(json.loads((self.folder / "best.json").read_text(encoding="utf-8"))["step"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def mark_best(self, step: int, metric: str, value: float) -> None:
        """Name the best checkpoint, and what it is the best by, in `best.json`."""
        aside = self.folder / ".best.json.part"
        aside.write_text(json.dumps({"step": step, metric: value}), encoding="utf-8")
        aside.replace(self.folder / "best.json")

    def retain(self, last: int, best: int | None) -> None:
        """Remove all but the last few and the best."""
        found = self.all()
        for checkpoint in found[:-last]:
            if checkpoint.step != best:
                discard(checkpoint.path)

    def clean(self) -> None:
        """Remove what an interrupted save or removal left, and take back a checkpoint about to be replaced."""
        for before in self.folder.glob(".step-*.before"):
            final = self.folder / before.stem.removeprefix(".")
            if not final.exists():
                before.rename(final)
        for path in self.folder.glob(".step-*"):
            shutil.rmtree(path, ignore_errors=True)


def _save_model(model: Transformer, tokenizer: Tokenizer, folder: Path, base: str) -> None:
    """The model as others load it, adapters merged; the adapters beside it."""
    adapted = bool(lora.adapters(model))
    save_model(
        lora.merged(model) if adapted else model, folder / "model",
        eos_id=tokenizer.eos_id, bos_id=tokenizer.bos_id, pad_id=tokenizer.pad_id,
    )  # fmt: skip
    tokenizer.save(folder / "model")
    if adapted:
        save_adapter(model, folder / "adapter", base)


def discard(path: Path) -> None:
    """Remove a checkpoint such that half of it is never taken for one."""
    gone = path.with_name(f".{path.name}.removed")
    path.rename(gone)
    shutil.rmtree(gone, ignore_errors=True)


def open_checkpoint(path: Path) -> Checkpoint:
    """The checkpoint in a folder, not yet verified.

    Raises:
        RequestError: when there is no manifest, it is damaged, or it is of a newer format.
    """
    file = path / "manifest.json"
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))
        newer = manifest["format"] > FORMAT
        _check_facts(manifest)
    except OSError as error:
        raise RequestError(
            f"the manifest cannot be read ({error.strerror}), so this is no whole checkpoint", str(file),
            "remove the folder, or give another",
        ) from None  # fmt: skip
    except (ValueError, KeyError, TypeError):
        raise RequestError(
            "the manifest is damaged", str(file), "remove the checkpoint and go on from another"
        ) from None
    if newer:
        raise RequestError("this checkpoint was made by a newer Linnet", str(path), "update Linnet")
    return Checkpoint(path, manifest)


def _check_facts(manifest: dict[str, Any]) -> None:
    """Raise ValueError, KeyError or TypeError for a manifest that `Checkpoint` and its readers cannot use."""
    files: list[Any] = [*manifest["files"].values()] if isinstance(manifest["files"], dict) else [None]
    whole = [manifest["step"], manifest.get("tokens", 0), *(facts["size"] for facts in files)]
    words = [facts["sha256"] for facts in files]
    best = manifest.get("best") or {}
    measured = [*best.values()] if isinstance(best, dict) else [None]
    if not (
        all(isinstance(value, int) for value in whole)
        and all(isinstance(value, str) for value in words)
        and all(isinstance(value, int | float) for value in measured)
    ):
        raise TypeError


def verify(checkpoint: Checkpoint) -> None:
    """Check every file of a checkpoint against its manifest.

    Raises:
        RunError: names the first file that is missing, cut or changed.
    """
    mend = f"remove {checkpoint.path} to go on from the one before"
    for name, facts in checkpoint.manifest["files"].items():
        path = checkpoint.path / name
        try:
            size = path.stat().st_size
            digest = sha256_of(path) if size == facts["size"] else ""
        except FileNotFoundError:
            raise RunError("this file of the checkpoint is missing", str(path), mend) from None
        except OSError as error:
            raise RunError(
                f"this file of the checkpoint cannot be read ({error.strerror})", str(path), mend
            ) from None
        if size != facts["size"]:
            raise RunError(f"this file has {size} bytes instead of {facts['size']}", str(path), mend)
        if digest != facts["sha256"]:
            raise RunError("this file is damaged (its sha256 has changed)", str(path), mend)


@contextmanager
def _one_process() -> Iterator[None]:
    """Without torch's warning that nobody else takes part: nobody should."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is", category=UserWarning)
        yield


def _sync(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as stream:
                os.fsync(stream.fileno())
        else:
            sync_folder(path)
    sync_folder(folder)


def _reason(error: BaseException | None) -> str | None:
    """Why the disk refused, wherever in a chain of wrapped errors it said so."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, OSError) and error.strerror:
            return error.strerror
        if type(error).__name__ == "SafetensorError":
            return str(error).splitlines()[0]
        inner = getattr(error, "failures", None)  # torch.distributed.checkpoint's own wrapper
        if isinstance(inner, dict) and inner:
            first = next(iter(inner.values()))
            inner_reason = _reason(first[0] if isinstance(first, tuple) else first)
            if inner_reason:
                return inner_reason
        error = error.__cause__ or error.__context__
    return None
