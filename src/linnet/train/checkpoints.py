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
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
import torch.distributed.checkpoint as dcp
from safetensors.torch import save_file
from torch import Tensor

from linnet import __version__
from linnet.config import RunError
from linnet.data.shards.store import sha256_of
from linnet.model import Transformer, lora, save_adapter, save_model
from linnet.storage import keep, sync_folder
from linnet.text import Tokenizer
from linnet.train.checkpoint import FORMAT, OBJECTIVE, Checkpoint, one_process, open_checkpoint

_HAND_ON = "restore the file, or set hand_on=last for this stage"


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
            with one_process():
                dcp.save(dict(tensors), checkpoint_id=aside / "state", no_dist=True)
            if objective:
                save_file(dict(objective), aside / "state" / OBJECTIVE)
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
        """The checkpoint that a finished stage hands on.

        Raises:
            RunError: when there is none, or the best is wanted and `best.json` does not name one.
        """
        found = {checkpoint.step: checkpoint for checkpoint in self.all()}
        if not found:
            raise RunError("there is no checkpoint here", str(self.folder), "run the stage again")
        step = max(found) if which == "last" else self._best_step()
        if step not in found:
            raise RunError(
                f"it names step {step}, and there is no checkpoint of it", str(self._best), _HAND_ON
            )
        return found[step]

    @property
    def _best(self) -> Path:
        return self.folder / "best.json"

    def _best_step(self) -> int:
        try:
            return int(json.loads(self._best.read_text(encoding="utf-8"))["step"])
        except FileNotFoundError:
            raise RunError("no best checkpoint was recorded here", str(self.folder), _HAND_ON) from None
        except OSError as error:
            raise RunError(f"this cannot be read ({error.strerror})", str(self._best), _HAND_ON) from None
        except (ValueError, KeyError, TypeError):
            raise RunError("this does not name a step", str(self._best), _HAND_ON) from None

    def mark_best(self, step: int | None, metric: str = "", value: float = 0.0) -> None:
        """Name the best checkpoint, and what it is the best by, in `best.json`; None: none is kept.

        Raises:
            RunError: when the disk does not take it.
        """
        if step is not None:
            keep(self._best, json.dumps({"step": step, metric: value}), "which checkpoint is the best")
            return
        with _removing(self._best):
            self._best.unlink(missing_ok=True)

    def retain(self, last: int, best: int | None) -> None:
        """Remove all but the last few and the best.

        Raises:
            RunError: when one cannot be removed.
        """
        found = self.all()
        for checkpoint in found[:-last]:
            if checkpoint.step != best:
                with _removing(checkpoint.path):
                    discard(checkpoint.path)

    def clean(self) -> None:
        """Remove what an interrupted save or removal left, and take back a checkpoint about to be replaced."""
        for before in self.folder.glob(".step-*.before"):
            final = self.folder / before.stem.removeprefix(".")
            if not final.exists():
                with _removing(before):
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


@contextmanager
def _removing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RunError(f"this cannot be removed ({error.strerror or error})", str(path),
                       "what was saved is intact; run the same command again") from None  # fmt: skip


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
