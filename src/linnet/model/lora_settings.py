"""What a low-rank adapter is, as a recipe says it, and which linears it means, by their stock names.

A person names layers as PEFT and the papers do: as the *stock* architecture has them. This is the one
place that knows which of our modules those are (GPT-2's c_attn is three of ours).
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field, PositiveInt, field_validator

from linnet.config import RequestError, Section
from linnet.model.spec import ModelSpec


class LoraSettings(Section):
    """A low-rank adapter, in PEFT's names.

    `target_modules` is `all-linear` (every linear layer but the head) or a list of stock names: `q_proj`,
    `c_attn`, or longer ones as `mlp.c_proj`. `init_lora_weights`: A is drawn Kaiming-uniform (`default`)
    or normal with deviation 1/r (`gaussian`); B is 0, so an adapter begins as no change at all.
    """

    r: PositiveInt = 16
    lora_alpha: float = Field(default=32, gt=0)
    lora_dropout: float = Field(default=0.0, ge=0, lt=1)
    target_modules: Literal["all-linear"] | list[str] = "all-linear"
    use_rslora: bool = False
    use_dora: bool = False
    init_lora_weights: Literal["default", "gaussian"] = "default"

    habits: ClassVar[Mapping[str, str]] = {
        "rank": "write 'r'",
        "lora_r": "write 'r'",
        "lora_rank": "write 'r'",
        "alpha": "write 'lora_alpha'",
        "dropout": "write 'lora_dropout'",
        "targets": "write 'target_modules'",
        "lora_target": "write 'target_modules'",
        "lora_target_modules": "write 'target_modules'",
        "lora_target_linear": "write 'target_modules: all-linear'",
        "rslora": "write 'use_rslora'",
        "dora": "write 'use_dora'",
        "init": "write 'init_lora_weights'",
        "bias": "biases stay frozen; leave it out",
        "lora_bias": "biases stay frozen; leave it out",
        "modules_to_save": "whole layers are not trained beside an adapter; leave it out",
        "fan_in_fan_out": "it follows from the architecture; leave it out",
        "task_type": "it is always CAUSAL_LM; leave it out",
        "peft_type": "it is always LORA; leave it out",
    }

    @field_validator("target_modules", mode="before")
    @classmethod
    def _a_list(cls, value: Any) -> Any:
        if isinstance(value, str) and value != "all-linear":
            raise ValueError(f"write a list, [{value}], or all-linear")
        if value == []:
            raise ValueError("the list is empty, so nothing would be trained; write all-linear or names")
        return value

    @property
    def scaling(self) -> float:
        """What the pair's product is multiplied by."""
        return self.lora_alpha / (self.r**0.5 if self.use_rslora else self.r)


_ATTENTION = [f"self_attn.{part}_proj" for part in "qkvo"]
_LLAMA = {name: (name,) for name in (*_ATTENTION, "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")}
_GPT2 = {
    "attn.c_attn": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "attn.c_proj": ("self_attn.o_proj",),
    "mlp.c_fc": ("mlp.up_proj",),
    "mlp.c_proj": ("mlp.down_proj",),
}
_TABLES = ("embed_tokens", "embed_positions", "wte", "wpe")


def stock_linears(spec: ModelSpec) -> dict[str, tuple[str, ...]]:
    """Every linear that can be adapted: its full stock name → our modules that are its rows, in order."""
    gpt2 = spec.architecture == "gpt2"
    prefix, table = ("transformer.h", _GPT2) if gpt2 else ("model.layers", _LLAMA)
    return {
        f"{prefix}.{layer}.{theirs}": tuple(f"layers.{layer}.{name}" for name in ours)
        for layer in range(spec.num_hidden_layers)
        for theirs, ours in table.items()
    }


def targets(spec: ModelSpec, settings: LoraSettings) -> list[str]:
    """Full stock names of the linears that `settings` means in a model of `spec`; a name means what it ends.

    Raises:
        RequestError: a name is no linear of the architecture, or is the head or an embedding.
    """
    linears = stock_linears(spec)
    if settings.target_modules == "all-linear":
        return list(linears)
    chosen: set[str] = set()
    for target in settings.target_modules:
        found = {name for name in linears if f".{name}".endswith(f".{target}")}
        if not found:
            raise _refused(target, spec)
        chosen |= found
    return [name for name in linears if name in chosen]


def _refused(target: str, spec: ModelSpec) -> RequestError:
    last, where = target.rsplit(".", 1)[-1], "target_modules"
    if last == "lm_head" and spec.tie_word_embeddings:
        what = "lm_head is the embedding itself (tie_word_embeddings), and adapted they would come apart"
        return RequestError(what, where, "leave it out")
    if last == "lm_head" or last in _TABLES:
        why = "a matrix that the loss reads whole" if last == "lm_head" else "an embedding"
        return RequestError(f"{last} is {why}, and adapters go on linears", where, "leave it out")
    gpt2 = spec.architecture == "gpt2"
    known = list(dict.fromkeys(name.rsplit(".", 1)[-1] for name in (_GPT2 if gpt2 else _LLAMA)))
    pairs = [
        (name.rsplit(".", 1)[-1], theirs.rsplit(".", 1)[-1]) for theirs in _GPT2 for name in _GPT2[theirs]
    ]
    same = [theirs if gpt2 else name for name, theirs in pairs if last == (name if gpt2 else theirs)]
    meant = ", ".join(same) or "".join(difflib.get_close_matches(last, known, n=1))
    mend = f"its linears are {', '.join(known)}"
    mend = f"did you mean {meant}? {mend}" if meant else mend
    return RequestError(f"a {spec.architecture} has no linear {target!r}", where, mend)
