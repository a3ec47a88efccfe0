"""One checkpoint on disk: opened by its manifest, verified by it, read by whoever goes on from it.

What lies in it is described beside what writes it, in checkpoints.py.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch.distributed.checkpoint as dcp
from safetensors.torch import load_file
from torch import Tensor

from linnet.config import RequestError, RunError
from linnet.data.shards.store import sha256_of

FORMAT = 1
OBJECTIVE = "objective.safetensors"


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
        file = self.path / "state" / OBJECTIVE
        return load_file(file) if file.exists() else {}

    def load_tensors(self, into: dict[str, Tensor]) -> None:
        """Fill the given tensors in place from `state/`."""
        with one_process():
            dcp.load(dict(into), checkpoint_id=self.path / "state", no_dist=True)


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


def verify(checkpoint: Checkpoint, under: str = "", mend: str = "") -> None:
    """Check the files of a checkpoint against its manifest.

    Args:
        under: only those whose name begins so (`model/`).
        mend: what to do about one that is not whole; by default to go on from the checkpoint before.

    Raises:
        RunError: names the first file that is missing, cut or changed.
    """
    mend = mend or f"remove {checkpoint.path} to go on from the one before"
    for name, facts in checkpoint.manifest["files"].items():
        if not name.startswith(under):
            continue
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
            changed = f"its sha256 has changed from {facts['sha256'][:16]} to {digest[:16]}"
            raise RunError(f"this file is damaged ({changed})", str(path), mend)


@contextmanager
def one_process() -> Iterator[None]:
    """Without torch's warning that nobody else takes part: nobody should."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is", category=UserWarning)
        yield
