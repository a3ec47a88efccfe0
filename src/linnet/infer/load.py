"""From a path a person gives to a model that talks.

A person has a run folder, a stage, a checkpoint or a model in hand and means the model in it. Only
the stock `model/` folder is read: nothing is unpickled and no training state is touched.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Literal

import torch

from linnet.config import RequestError
from linnet.infer.generator import Generator
from linnet.infer.hub_model import PREFIX, fetch_model
from linnet.model import Transformer, load_model, read_spec
from linnet.model.stock_files import CONFIG, refuse_adapter
from linnet.text.fitting import tokenizer_of

Choice = Literal["last", "best"]
_STEP = re.compile(r"step-(\d+)")
_STAGE = re.compile(r"(\d+)-.+")


def load_generator(
    path: Path | str,
    choice: Choice = "last",
    device: torch.device | str | None = None,
    dtype: torch.dtype = torch.float32,
) -> Generator:
    """The model and tokenizer at `path`, ready to generate.

    Args:
        path: see `find_model`.
        choice: the last checkpoint, or the best by validation loss.
        device: where to compute; the CPU by default.
        dtype: what to compute in. Matrices are kept in it, so BF16 halves the memory.

    Raises:
        RequestError: there is no whole model with a tokenizer, or one that Linnet does not compute.
    """
    folder = find_model(Path(path), choice)
    spec = read_spec(folder)
    tokenizer = tokenizer_of(folder, spec.vocab_size)
    model = load_model(folder, spec).requires_grad_(False).eval()
    _keep_matrices_in(model, dtype)
    return Generator(model, tokenizer, device, dtype)


def _keep_matrices_in(model: Transformer, dtype: torch.dtype) -> None:
    """Norms and biases stay FP32: norms are computed in it, and both are small."""
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.data = parameter.data.to(dtype)


def find_model(path: Path, choice: Choice = "last") -> Path:
    """The stock model folder that `path` means.

    Args:
        path: a model folder (`config.json`), a checkpoint (`model/`), a folder of checkpoints
            (`step-00000500/`), a stage (`checkpoints/`), or a run (`stages/N-name/`). `hf:owner/name` is a
            model on the hub.
        choice: among checkpoints, the last whole one or the one that `best.json` names.

    Raises:
        RequestError: nothing of this kind is there, or it is an adapter.
        RunError: the hub answered with a failure.
    """
    if str(path).startswith(PREFIX):
        return fetch_model(path.as_posix())
    if not path.is_dir():
        what = "this is a file" if path.exists() else "there is no such folder"
        raise RequestError(what, str(path), "give a run, a checkpoint or a model folder, or hf:owner/name")
    refuse_adapter(path)
    if (path / CONFIG).is_file():
        return path
    if (path / "model" / CONFIG).is_file():
        return path / "model"
    for folder in _checkpoint_folders(path):
        steps = _whole_checkpoints(folder)
        if steps:
            step = max(steps) if choice == "last" else _best_step(folder, steps)
            return steps[step] / "model"
    raise RequestError(
        "there is no model and no whole checkpoint here",
        str(path),
        "give a run that has saved a checkpoint, a checkpoint or a model folder",
    )


def _checkpoint_folders(path: Path) -> list[Path]:
    """Where `path` may keep checkpoints; in a run, the latest stage first."""
    folders = (path / "stages").glob("*")
    numbered = [(int(match[1]), stage) for stage in folders if (match := _STAGE.fullmatch(stage.name))]
    stages = [stage / "checkpoints" for _, stage in sorted(numbered, reverse=True)]
    return [path, path / "checkpoints", *stages]


def _whole_checkpoints(folder: Path) -> dict[int, Path]:
    """Checkpoints by step; a checkpoint without its manifest, which is written last, is not whole."""
    return {
        int(match[1]): checkpoint
        for checkpoint in folder.glob("step-*")
        if (match := _STEP.fullmatch(checkpoint.name))
        and (checkpoint / "manifest.json").is_file()
        and (checkpoint / "model" / CONFIG).is_file()
    }


def _best_step(folder: Path, steps: dict[int, Path]) -> int:
    path = folder / "best.json"
    try:
        step = int(json.loads(path.read_text(encoding="utf-8"))["step"])
    except OSError:
        raise RequestError(
            "no best checkpoint was recorded here",
            str(folder),
            "evaluate while training, or ask for the last",
        ) from None
    except (ValueError, KeyError, TypeError):
        raise RequestError("this does not name a step", str(path), "ask for the last checkpoint") from None
    if step not in steps:
        raise RequestError(
            f"it names step {step}, and there is no whole checkpoint of it", str(path), "ask for the last"
        )
    return step
