"""The weight files of a stock folder: which are read, and why none can be.

As transformers does, `model.safetensors` is read where it is there, else the shards that the index names. Pickled
weights are never read.
"""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath

from safetensors import SafetensorError, safe_open
from torch import Tensor

from linnet.config import RequestError

CONFIG = "config.json"
ADAPTER_CONFIG = "adapter_config.json"
WEIGHTS = "model.safetensors"
INDEX = f"{WEIGHTS}.index.json"
_PICKLED = ("pytorch_model*.bin*", "*.pt", "*.pth", "*.ckpt")


def read_weights(folder: Path) -> dict[str, Tensor]:
    """All weights of the safetensors files in `folder`, on the CPU, in the dtype they were saved in.

    The files are mapped into memory: a tensor is read when it is used.

    Raises:
        RequestError: when no safetensors are there or one is damaged. Pickled weights are never read.
    """
    state: dict[str, Tensor] = {}
    for path in weight_files(folder):
        try:
            with safe_open(path, framework="pt") as opened:
                found = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 (not a dict)
        except (SafetensorError, OSError, KeyError, AttributeError) as error:
            raise RequestError(
                f"the weights cannot be read ({error})", str(path), "restore the file"
            ) from None
        twice = sorted(state.keys() & found.keys())
        if twice:
            raise RequestError(f"{twice[0]} is in another shard as well", str(path), "restore the folder")
        state |= found
    return state


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files that make up the model in `folder`.

    Raises:
        RequestError: when there are none or one is missing; says what is there instead.
    """
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    index = folder / INDEX
    if index.is_file():
        files = [folder / name for name in shard_names(index)]
        missing = [path for path in files if not path.is_file()]
        if missing:
            raise RequestError(
                f"{missing[0].name} is missing, which {INDEX} names", str(folder), "restore the file"
            )
        return files
    pickled = sorted(path.name for pattern in _PICKLED for path in folder.glob(pattern))
    if pickled:
        raise RequestError(
            f"its weights are pickled ({pickled[0]}), which Linnet never reads",
            str(folder),
            "save them with transformers' save_pretrained, which writes safetensors",
        )
    raise RequestError(f"{WEIGHTS} is missing", str(folder), "give a folder with safetensors weights")


def shard_names(index: Path) -> list[str]:
    """The files that a safetensors index names.

    Raises:
        RequestError: when it is no index, or names something else than safetensors files beside or below it.
    """
    try:
        named = list(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise RequestError(
            "this is not an index of safetensors files", str(index), "restore the file"
        ) from None
    for name in named:
        if not isinstance(name, str) or not _is_inside(name):
            raise RequestError(
                f"it names {json.dumps(name)}, which is no safetensors file of this folder",
                str(index),
                "restore the file",
            )
    return sorted(set(named))


def _is_inside(name: str) -> bool:
    path = PurePosixPath(name)
    steps_out = path.is_absolute() or ".." in path.parts or "\\" in name or ":" in name or "\0" in name
    return path.suffix == ".safetensors" and not steps_out


def refuse_adapter(folder: Path, where: str = "") -> None:
    """Refuse a PEFT adapter, alone or beside a model, where a model is wanted.

    transformers applies an adapter that it finds beside a model, so reading the model alone would be another function.

    Args:
        where: what to call the folder, where its path says nothing.

    Raises:
        RequestError: names the base that the adapter belongs to.
    """
    path = folder / ADAPTER_CONFIG
    if not path.is_file():
        return
    try:
        base = json.loads(path.read_text(encoding="utf-8"))["base_model_name_or_path"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        base = None
    of = f" of {base}" if isinstance(base, str) and base else ""
    if (folder / CONFIG).is_file():
        raise RequestError(
            f"a PEFT adapter{of} lies beside this model ({ADAPTER_CONFIG}), which stock tools would apply",
            where or str(folder),
            "merge it into the model, or move it to a folder of its own",
        )
    raise RequestError(
        f"this is a PEFT adapter{of}, not a whole model",
        where or str(folder),
        "merge it into its base (PEFT's merge_and_unload, then save_pretrained), or give the base",
    )
