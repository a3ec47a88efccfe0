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
        """What the trainer put into `state/trainer.json`."""
        return json.loads((self.path / "state" / "trainer.json").read_text(encoding="utf-8"))

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
        int(manifest["step"]), dict(manifest["files"])
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
        if not path.exists():
            raise RunError("this file of the checkpoint is missing", str(path), mend)
        if path.stat().st_size != facts["size"]:
            raise RunError(
                f"this file has {path.stat().st_size} bytes instead of {facts['size']}", str(path), mend
            )
        found = sha256_of(path)
        if found != facts["sha256"]:
            raise RunError(
                f"this file is damaged (its sha256 has changed from {facts['sha256'][:16]} to {found[:16]})",
                str(path), mend,
            )  # fmt: skip


@contextmanager
def one_process() -> Iterator[None]:
    """Without torch's warning that nobody else takes part: nobody should."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is", category=UserWarning)
        yield
