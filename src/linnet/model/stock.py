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
from safetensors.torch import save_file

from linnet.config import RequestError
from linnet.model.spec import ModelSpec
from linnet.model.stock_config import stock_config
from linnet.model.stock_files import CONFIG, read_weights, refuse_adapter
from linnet.model.stock_spec import spec_of
from linnet.model.stock_weights import State, from_stock, has_own_head, to_stock
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
    write_json(folder / CONFIG, config)
    write_json(folder / "generation_config.json", {k: v for k, v in generation.items() if v is not None})
    state = {name: value.to("cpu", dtype).contiguous() for name, value in to_stock(model).items()}
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file as people read it."""
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_spec(folder: Path) -> ModelSpec:
    """The specification of the stock model in `folder`.

    A tied model whose weights hold a head of their own is untied, as in transformers.

    Raises:
        RequestError: when there is no readable stock model, or one that our network cannot be.
    """
    refuse_adapter(folder)
    path = folder / CONFIG
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        raise RequestError(
            f"there is no stock model here (no {CONFIG})", str(folder), "give a model folder"
        ) from None
    except json.JSONDecodeError as error:
        raise RequestError("this is not valid JSON", f"{path}:{error.lineno}", "restore the file") from None
    except (ValueError, RecursionError):  # numbers of thousands of digits, brackets without end
        config = None
    if not isinstance(config, dict):
        raise RequestError("this is not a model's configuration", str(path), "restore the file")
    spec = spec_of(config, str(path))
    if spec.tie_word_embeddings and _is_untied(folder, spec):
        return spec.model_copy(update={"tie_word_embeddings": False})
    return spec


def _is_untied(folder: Path, spec: ModelSpec) -> bool:
    try:
        return has_own_head(read_weights(folder), spec.architecture)
    except RequestError:  # said where the weights are wanted
        return False


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
    state = check_weights(folder, spec)
    with torch.device("meta"):
        model = Transformer(spec)
    wide = {name: value.float().contiguous() for name, value in state.items()}
    model.load_state_dict(wide, assign=True)
    return model.requires_grad_(True)


def check_weights(folder: Path, spec: ModelSpec) -> State:
    """The weights of a stock folder under our names, mapped into memory: every one is there, in its shape and dtype.

    Raises:
        RequestError: see `read_weights`, `from_stock`.
    """
    return from_stock(read_weights(folder), spec, str(folder))
