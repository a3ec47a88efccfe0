"""LoRA: a frozen model learns through pairs of thin matrices, so a domain costs megabytes, not a model.

y = x Wᵀ + scaling · drop(x) Aᵀ Bᵀ (Hu et al. 2021), with A [r, in] and B [out, r] beside any linear
layer, exactly as PEFT parametrises the *stock* architecture: names are stock names, and where one stock
layer is several of ours (GPT-2's c_attn is query, key and value) there is one A, one B of all their rows
and one dropout mask. rsLoRA (Kalajdzievski 2023) scales by alpha/sqrt(r) instead of alpha/r; DoRA (Liu et
al. 2024) learns the length of each output's weights apart from their direction.

A linear keeps its names when it is adapted, and the pair is its child `adapter`. Pairs are FP32 masters
like every weight here, cast where they are used; dropout masks belong to rows (`model/dropout.py`). What
is not here: adapters on embeddings and on the head. The head is a matrix that a loss reads in chunks, and a
tied one would come apart from its embeddings.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from linnet.config import RequestError
from linnet.model.dropout import Dropout
from linnet.model.lora_settings import LoraSettings, stock_linears, targets
from linnet.model.transformer import Linear, Transformer


class Adapter(nn.Module):
    """The trained part of one stock linear: A [r, in], B [out, r] and for DoRA a length for each output.

    Args:
        name: full stock name of the linear.
        parts: our linears that are its rows, from top to bottom.
    """

    def __init__(self, name: str, parts: list[Linear], settings: LoraSettings) -> None:
        super().__init__()
        device, outputs = parts[0].weight.device, sum(part.out_features for part in parts)
        self.name, self.settings = name, settings
        self.lora_A = nn.Parameter(torch.zeros(settings.r, parts[0].in_features, device=device))
        self.lora_B = nn.Parameter(torch.zeros(outputs, settings.r, device=device))
        lengths = [torch.linalg.norm(part.weight.detach().float(), dim=1) for part in parts]
        self.lora_magnitude_vector = nn.Parameter(torch.cat(lengths)) if settings.use_dora else None
        self.scaling = settings.scaling
        self.dropout, self.enabled = Dropout(settings.lora_dropout), True

    @torch.no_grad()
    def draw(self, generator: torch.Generator) -> None:
        """Draw A on the CPU, as PEFT's `init_lora_weights` does; B stays 0."""
        drawn = torch.empty(self.lora_A.shape)
        if self.settings.init_lora_weights == "gaussian":
            drawn.normal_(0.0, 1 / self.settings.r, generator=generator)
        else:
            nn.init.kaiming_uniform_(drawn, a=5**0.5, generator=generator)
        self.lora_A.copy_(drawn)


class LoraLinear(Linear):
    """A linear, or some rows of a stock one, with an adapter beside it.

    Args:
        linear: gives its parameters and precision. rows: which of the adapter's outputs are this one's.
    """

    def __init__(self, linear: Linear, adapter: Adapter, rows: slice) -> None:
        with torch.device("meta"):
            super().__init__(linear.in_features, linear.out_features, bias=linear.bias is not None)
        self.weight, self.bias = linear.weight, linear.bias
        self.compute_dtype = linear.compute_dtype
        self.adapter, self.rows = adapter, rows

    def forward(self, x: Tensor) -> Tensor:
        y, adapter, dtype = super().forward(x), self.adapter, self.compute_dtype
        if not adapter.enabled:
            return y
        seen = adapter.dropout(x.to(dtype))
        low = F.linear(seen, adapter.lora_A.to(dtype)) * adapter.scaling
        change = F.linear(low, adapter.lora_B[self.rows].to(dtype))
        if adapter.lora_magnitude_vector is None:
            return y + change
        # The frozen product of what the adapter saw, without the bias: DoRA scales weights, not biases.
        if adapter.dropout.active:
            frozen = F.linear(seen, self.weight.to(dtype))
        else:
            frozen = y if self.bias is None else y - self.bias.to(dtype)
        gain = self._gain(self._summed().detach())  # FP32: in BF16 a gain of 1.003 would be 1
        return (y + (gain - 1) * frozen + gain * change).to(dtype)

    def _summed(self) -> Tensor:
        """W + scaling · B A in FP32, [out, in]."""
        pair = self.adapter.lora_B[self.rows] @ self.adapter.lora_A
        return self.weight.float() + self.adapter.scaling * pair

    def _gain(self, summed: Tensor) -> Tensor:
        """DoRA's m / ‖W + scaling · B A‖ for each output (equation 5 of the paper), [out]."""
        assert self.adapter.lora_magnitude_vector is not None
        return self.adapter.lora_magnitude_vector[self.rows] / torch.linalg.norm(summed, dim=1)

    @torch.no_grad()
    def plain(self) -> Linear:
        """A linear without an adapter that computes the same, in FP32: BF16 would round the change away."""
        with torch.device("meta"):
            linear = Linear(self.in_features, self.out_features, bias=self.bias is not None)
        summed = self._summed()
        if self.adapter.lora_magnitude_vector is not None:
            summed = self._gain(summed).unsqueeze(1) * summed
        linear.weight, linear.bias = nn.Parameter(summed, requires_grad=False), self.bias
        linear.compute_dtype = self.compute_dtype
        return linear.train(self.training)


# --- what is done to a model ------------------------------------------------------------------------------


def apply(
    model: Transformer, settings: LoraSettings, seed: int, base_dtype: torch.dtype = torch.float32
) -> None:
    """Freeze the model and put fresh adapters on it, in place; the function it computes stays the same.

    To be called before the model is handed to an engine. Numbers are drawn on the CPU in FP32, in the
    order of the layers, so a seed gives the same adapter on every device.

    Args:
        base_dtype: what to keep the frozen matrices in. Adapters, norms and biases stay FP32.

    Raises:
        RequestError: see `targets`; or the model has an adapter already.
    """
    plan = dict.fromkeys(targets(model.spec, settings), settings)
    generator = torch.Generator().manual_seed(seed)
    for adapter in attach(model, plan, base_dtype).values():
        adapter.draw(generator)


def attach(
    model: Transformer, plan: Mapping[str, LoraSettings], base_dtype: torch.dtype = torch.float32
) -> dict[str, Adapter]:
    """Freeze the model and give each stock linear of `plan` an adapter of zeros, in place.

    Raises:
        RequestError: the model has an adapter already.
    """
    if adapters(model):
        raise RequestError("this model has an adapter already", mend="merge it first")
    for parameter in model.requires_grad_(False).parameters():
        if parameter.dim() > 1:
            parameter.data = parameter.data.to(base_dtype)
    made = {}
    for name, ours in stock_linears(model.spec).items():
        if name in plan:
            parts = [model.get_submodule(part) for part in ours]
            assert all(isinstance(part, Linear) for part in parts)
            made[name] = Adapter(name, parts, plan[name]).train(model.training)  # type: ignore[arg-type]
            start = 0
            for place, part in zip(ours, parts, strict=True):
                rows = slice(start, start := start + part.out_features)  # type: ignore[operator, assignment]
                adapted = LoraLinear(part, made[name], rows)  # type: ignore[arg-type]
                model.set_submodule(place, adapted.train(model.training))
    return made


def adapters(model: nn.Module) -> dict[str, Adapter]:
    """The model's adapters by the full stock names of their linears, in the order of the layers."""
    return {module.name: module for module in model.modules() if isinstance(module, Adapter)}


def trainable_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """What an optimizer would update: the adapters' parameters of an adapted model, by our names."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


@contextmanager
def disabled(model: nn.Module) -> Iterator[None]:
    """The model without its adapters for a while: the base, which DPO and GRPO refer to."""
    found = list(adapters(model).values())
    before = [adapter.enabled for adapter in found]
    try:
        for adapter in found:
            adapter.enabled = False
        yield
    finally:
        for adapter, enabled in zip(found, before, strict=True):
            adapter.enabled = enabled


def merge(model: Transformer) -> None:
    """Add the adapters to the weights, in FP32 and in place: a plain model, all of it FP32 and trainable."""
    _replace(model)
    for parameter in model.parameters():
        parameter.data = parameter.data.float()
    model.requires_grad_(True)


def merged(model: Transformer) -> Transformer:
    """A plain, frozen model that computes the same, for saving or sampling; `model` is left as it is.

    Weights that no adapter changes are shared with `model`; blocks are not compiled.
    """
    frozen = {id(parameter): parameter for parameter in model.parameters() if not parameter.requires_grad}
    plain = copy.deepcopy(model, dict(frozen))
    _replace(plain)
    return plain


def _replace(model: Transformer) -> None:
    for name, module in list(model.named_modules()):
        if isinstance(module, LoraLinear):
            model.set_submodule(name, module.plain())
