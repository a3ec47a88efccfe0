"""Adapters as PEFT keeps them: `adapter_config.json` beside `adapter_model.safetensors`.

A folder written here loads with `PeftModel.from_pretrained` on the stock model, and whatever serves PEFT's
adapters takes it too; a folder that PEFT wrote loads here. The tensors in the file decide which layers are
adapted, since a config may say that by patterns, layer numbers and exclusions. What our adapters do not
compute is refused by its name, never left out, and nothing is unpickled.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from linnet.config import Layers, RequestError, validate
from linnet.model.lora import Adapter, adapters, attach
from linnet.model.lora_settings import LoraSettings, stock_linears
from linnet.model.stock import write_json
from linnet.model.stock_files import ADAPTER_CONFIG
from linnet.model.transformer import Transformer

CONFIG, WEIGHTS = ADAPTER_CONFIG, "adapter_model.safetensors"
_PREFIX = "base_model.model."
_KINDS = {
    "lora_A.weight": "lora_A",
    "lora_B.weight": "lora_B",
    "lora_magnitude_vector": "lora_magnitude_vector",
}
# Keys of a config that change nothing about the function, or whose effect is in the tensors' names.
_HARMLESS = {
    "auto_mapping", "base_model_name_or_path", "corda_config", "ensure_weight_tying", "eva_config",
    "exclude_modules", "fan_in_fan_out", "inference_mode", "layers_pattern", "layers_to_transform",
    "loftq_config", "lora_ga_config", "megatron_core", "peft_version",
    "qalora_group_size", "revision", "runtime_config", "target_modules", "task_type",
}  # fmt: skip
_READ = {
    "peft_type", "r", "lora_alpha", "lora_dropout", "use_rslora", "use_dora", "bias", "init_lora_weights",
    "rank_pattern", "alpha_pattern",
}  # fmt: skip
_LEAVES_BASE = (
    True,
    False,
    None,
    "gaussian",
    "orthogonal",
    "eva",
)  # the other inits change the base's weights


def adapter_state(model: Transformer) -> dict[str, Tensor]:
    """The adapters' tensors under PEFT's names; views on the model's device."""
    return {
        f"{_PREFIX}{name}.{theirs}": getattr(adapter, ours).detach()
        for name, adapter in adapters(model).items()
        for theirs, ours in _KINDS.items()
        if getattr(adapter, ours) is not None
    }


def save_adapter(model: Transformer, folder: Path, base: str) -> None:
    """Write the model's adapters in PEFT's format; the folder is made if need be.

    Args:
        base: the stock model that was adapted, a folder or a name of the hub; PEFT loads it by this.

    Raises:
        RequestError: when the model has no adapter.
    """
    found = adapters(model)
    if not found:
        raise RequestError("this model has no adapter to save", str(folder))
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / CONFIG, _config(model, found, base))
    state = {
        name: value.to("cpu", torch.float32).contiguous() for name, value in adapter_state(model).items()
    }
    save_file(state, folder / WEIGHTS, metadata={"format": "pt"})


def _config(model: Transformer, found: dict[str, Adapter], base: str) -> dict[str, Any]:
    settings = {name: adapter.settings for name, adapter in found.items()}
    common = next(iter(settings.values()))
    r = Counter(each.r for each in settings.values()).most_common(1)[0][0]
    alpha = Counter(each.lora_alpha for each in settings.values()).most_common(1)[0][0]
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "inference_mode": True,
        "r": r,
        "lora_alpha": _whole(alpha),
        "lora_dropout": common.lora_dropout,
        "target_modules": _shortest(list(settings), list(stock_linears(model.spec))),
        "use_rslora": common.use_rslora,
        "use_dora": common.use_dora,
        "init_lora_weights": True if common.init_lora_weights == "default" else common.init_lora_weights,
        "rank_pattern": {name: each.r for name, each in settings.items() if each.r != r},
        "alpha_pattern": {
            name: _whole(each.lora_alpha) for name, each in settings.items() if each.lora_alpha != alpha
        },
        "bias": "none",
        "fan_in_fan_out": model.spec.architecture == "gpt2",  # the stock weight is stored transposed
        "modules_to_save": None,
    }


def _whole(number: float) -> float | int:
    return int(number) if number == int(number) else number


def _shortest(chosen: list[str], every: list[str]) -> list[str]:
    """`q_proj` where all layers' are chosen, `mlp.c_proj` where the short name means more, else in full."""
    names: dict[str, None] = {}
    for name in chosen:
        parts = name.split(".")
        ends = [".".join(parts[-count:]) for count in (1, 2)]
        meant = (end for end in ends if all(n in chosen for n in every if n.endswith(f".{end}")))
        names[next(meant, name)] = None
    return list(names)


def load_adapter(model: Transformer, folder: Path, base_dtype: torch.dtype = torch.float32) -> LoraSettings:
    """Put the adapter in `folder` on its base model, in place; the base is frozen.

    Args:
        model: the base that it was trained on.
        base_dtype: see `lora.apply`.

    Returns:
        What its config says for most layers.

    Raises:
        RequestError: there is no readable adapter, it is no LoRA of ours, or it is another model's.
            The model is then as it was.
    """
    config = _read_config(folder)
    common = _settings(config, folder)
    state = _read_tensors(folder)
    named: dict[str, dict[str, Tensor]] = {}
    linears = stock_linears(model.spec)
    for key, value in state.items():
        name, kind = _place(key)
        if kind is None or name not in linears:
            raise RequestError(
                f"{key} has no place in a {model.spec.architecture} with LoRA on its linears", str(folder),
                "use an adapter of this model, trained without modules_to_save, head or embeddings",
            )  # fmt: skip
        named.setdefault(name, {})[kind] = value
    if not named:
        raise RequestError("this adapter holds no tensors", str(folder / WEIGHTS), "restore the file")
    plan = {name: _settings(config, folder, name) for name in named}
    for name, tensors in named.items():
        _check_shapes(model, name, plan[name], tensors, folder)
    for name, adapter in attach(model, plan, base_dtype).items():
        for kind, value in named[name].items():
            getattr(adapter, kind).data.copy_(value)
    return common


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        raise RequestError(
            f"there is no adapter here (no {CONFIG})", str(folder), "give its folder"
        ) from None
    except ValueError:
        raise RequestError("this is not valid JSON", str(path), "restore the file") from None
    if not isinstance(config, dict):
        raise RequestError("this is not an adapter's configuration", str(path), "restore the file")
    kind = config.get("peft_type")
    if kind != "LORA":
        raise RequestError(f"peft_type is {kind!r}, and only LORA is computed", str(path))
    for key, value in config.items():
        if value and key not in _HARMLESS | _READ:
            raise RequestError(f"this adapter uses {key}, which Linnet does not compute", str(path))
    if config.get("bias", "none") != "none":
        raise RequestError("this adapter holds trained biases, which Linnet does not compute", str(path))
    if config.get("init_lora_weights") not in _LEAVES_BASE:
        raise RequestError(
            f"init_lora_weights {config['init_lora_weights']!r} changes the base model's weights", str(path),
            "save it with PEFT's path_initial_model_for_weight_conversion",
        )  # fmt: skip
    return config


def _settings(config: dict[str, Any], folder: Path, name: str = "") -> LoraSettings:
    """The settings of one linear, or those that hold where no pattern speaks.

    PEFT's patterns are regular expressions of how a linear's name ends; the first that fits counts.
    """

    def own(key: str, default: Any) -> Any:
        patterns = config.get(key) or {}
        return next((patterns[end] for end in patterns if re.match(rf"(.*\.)?({end})$", name)), default)

    gaussian = config.get("init_lora_weights") == "gaussian"
    try:
        values = {
            "r": own("rank_pattern", config.get("r", 8)),  # 8 and 8 are PEFT's defaults
            "lora_alpha": own("alpha_pattern", config.get("lora_alpha", 8)),
            "lora_dropout": config.get("lora_dropout") or 0.0,
            "use_rslora": bool(config.get("use_rslora")),
            "use_dora": bool(config.get("use_dora")),
            "init_lora_weights": "gaussian" if gaussian else "default",
        }
    except (re.error, TypeError, AttributeError):
        raise RequestError(
            "rank_pattern or alpha_pattern cannot be read", str(folder / CONFIG), "restore the file"
        ) from None
    return validate(LoraSettings, Layers(values, {(): str(folder / CONFIG)}))


def _read_tensors(folder: Path) -> dict[str, Tensor]:
    path = folder / WEIGHTS
    if not path.exists():
        pickled = (folder / "adapter_model.bin").exists()
        what = "adapter_model.bin is pickled, which is never read" if pickled else f"{WEIGHTS} is missing"
        raise RequestError(what, str(folder), f"save the adapter as {WEIGHTS}, as PEFT does by default")
    try:
        with safe_open(path, framework="pt") as opened:
            return {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError) as error:
        raise RequestError(f"the adapter cannot be read ({error})", str(path), "restore the file") from None


def _place(key: str) -> tuple[str, str | None]:
    """The stock linear that a tensor belongs to and which of its adapter's tensors it is."""
    for theirs, ours in _KINDS.items():
        if key.startswith(_PREFIX) and key.endswith(f".{theirs}"):
            return key[len(_PREFIX) : -len(theirs) - 1], ours
    return key, None


def _check_shapes(
    model: Transformer, name: str, settings: LoraSettings, tensors: dict[str, Tensor], folder: Path
) -> None:
    shapes = [model.get_parameter(f"{part}.weight").shape for part in stock_linears(model.spec)[name]]
    outputs, inputs = sum(shape[0] for shape in shapes), shapes[0][1]
    wanted: dict[str, tuple[int, ...]] = {"lora_A": (settings.r, inputs), "lora_B": (outputs, settings.r)}
    if settings.use_dora:
        wanted["lora_magnitude_vector"] = (outputs,)
    for kind in sorted(wanted.keys() | tensors.keys()):
        has = tuple(tensors[kind].shape) if kind in tensors else "missing"
        if has != wanted.get(kind):
            raise RequestError(
                f"{name}.{kind} is {has} and should be {wanted.get(kind, 'absent')}", str(folder),
                "use the model that the adapter was trained on",
            )  # fmt: skip
