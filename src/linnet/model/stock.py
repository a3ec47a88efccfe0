"""Stock Hugging Face folders: written here, read here.

A folder written here loads with `AutoModelForCausalLM.from_pretrained` and no custom code;
a stock GPT-2, Llama, SmolLM3 or Qwen3 folder becomes a specification and weights. Pickled
weights are never read.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from linnet.config import RequestError
from linnet.model.spec import ModelSpec
from linnet.model.stock_config import spec_of, stock_config
from linnet.model.stock_weights import State, from_stock, to_stock
from linnet.model.transformer import Transformer


def save_model(
    model: Transformer,
    folder: Path,
    *,
    eos_id: int,
    bos_id: int | None = None,
    pad_id: int | None = None,
    dtype: torch.dtype = torch.float32,
) -> None:
    """Write `config.json`, `generation_config.json` and `model.safetensors` into an existing folder."""
    name = str(dtype).removeprefix("torch.")
    config = stock_config(model.spec, eos_id=eos_id, bos_id=bos_id, pad_id=pad_id, dtype=name)
    generation = {"eos_token_id": eos_id, "bos_token_id": bos_id, "pad_token_id": pad_id}
    write_json(folder / "config.json", config)
    write_json(folder / "generation_config.json", {k: v for k, v in generation.items() if v is not None})
    state = {name: value.to("cpu", dtype).contiguous() for name, value in to_stock(model).items()}
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file as people read it."""
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_spec(folder: Path) -> ModelSpec:
    """The specification of the stock model in `folder`.

    Raises:
        RequestError: when there is no readable stock model, or one that our network cannot be.
    """
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        return spec_of(config, str(path))
    except (OSError, UnicodeDecodeError):
        raise RequestError(
            "there is no stock model here (no config.json)", str(folder), "give a model folder"
        ) from None
    except json.JSONDecodeError as error:
        raise RequestError("this is not valid JSON", f"{path}:{error.lineno}", "restore the file") from None
    except KeyError as error:
        raise RequestError(f"the key {error.args[0]!r} is missing", str(path), "restore the file") from None
    except (TypeError, ValueError, AttributeError):
        raise RequestError("this is not a model's configuration", str(path), "restore the file") from None


def read_weights(folder: Path) -> State:
    """All weights of the safetensors files in `folder`, on the CPU, in the dtype they were saved in.

    Raises:
        RequestError: when no safetensors are there or one is damaged. Pickled weights are never read.
    """
    index = folder / "model.safetensors.index.json"
    files = _shards(index) if index.exists() else [folder / "model.safetensors"]
    state: State = {}
    for path in files:
        try:
            with safe_open(path, framework="pt") as opened:
                for name in opened.keys():  # noqa: SIM118 (not a dict)
                    state[name] = opened.get_tensor(name)
        except FileNotFoundError:
            raise RequestError(
                f"{path.name} is missing", str(folder), "give a folder with safetensors weights"
            ) from None
        except (SafetensorError, OSError) as error:
            raise RequestError(
                f"the weights cannot be read ({error})", str(path), "restore the file"
            ) from None
    return state


def _shards(index: Path) -> list[Path]:
    try:
        mapping = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        return sorted({index.parent / name for name in mapping.values()})
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise RequestError(
            "this is not an index of safetensors files", str(index), "restore the file"
        ) from None


def load_model(folder: Path, spec: ModelSpec | None = None) -> Transformer:
    """The model in a stock folder, FP32, on the CPU.

    Args:
        folder: holds `config.json` and safetensors.
        spec: the specification to build, where it says more than the stock form can
            (a tied, scaled embedding); by default what `config.json` says.

    Raises:
        RequestError: see `read_spec`, `read_weights`, `from_stock`.
    """
    spec = spec or read_spec(folder)
    state = from_stock(read_weights(folder), spec, str(folder))
    with torch.device("meta"):
        model = Transformer(spec)
    wide = {name: value.float().contiguous() for name, value in state.items()}
    model.load_state_dict(wide, assign=True)
    return model.requires_grad_(True)
