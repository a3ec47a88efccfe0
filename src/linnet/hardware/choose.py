"""Precision, attention path and compilation, picked for the machine that is here, and why.

A newcomer should not need to know which chips have bf16; somebody who knows better overrides
any pick. A pick that is impossible is refused before anything starts, with what to write
instead; one that is only slow is taken and said to be slow.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Generic, Literal, TypeVar

from linnet.config.errors import RequestError
from linnet.config.section import Section
from linnet.hardware.device import Device, Kind

Precision = Literal["fp32", "bf16", "fp16"]
Attention = Literal["sdpa", "eager", "flex", "varlen"]
ValueT = TypeVar("ValueT")


class HardwareSettings(Section):
    """Where and how to compute. `auto` picks by the machine and says why."""

    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    attention: Literal["auto", "sdpa", "eager", "flex", "varlen"] = "auto"
    compile: Literal["auto"] | bool = "auto"
    deterministic: bool = False

    habits: ClassVar[Mapping[str, str]] = {
        "bf16": "write 'precision: bf16'",
        "fp16": "write 'precision: fp16'",
        "dtype": "write 'precision': fp32, bf16 or fp16",
        "torch_compile": "write 'compile: true'",
        "attn_implementation": "write 'attention': sdpa, eager, flex or varlen",
    }


@dataclass(frozen=True)
class Pick(Generic[ValueT]):
    """A value, and the reason for it as a part of a sentence."""

    value: ValueT
    reason: str

    @property
    def line(self) -> str:
        """Value and reason for people: "bf16: this CPU has AVX-512 BF16"."""
        shown = {True: "on", False: "off"}[self.value] if isinstance(self.value, bool) else self.value
        return f"{shown}: {self.reason}"


@dataclass(frozen=True)
class Choices:
    """What was picked, and the device that it was picked for."""

    machine: Device
    device: Pick[Kind]
    precision: Pick[Precision]
    attention: Pick[Attention]
    compile: Pick[bool]
    deterministic: Pick[bool]

    @property
    def loss_scaling(self) -> bool:
        """fp16 gradients underflow without it."""
        return self.precision.value == "fp16"

    def lines(self) -> dict[str, str]:
        """Each pick as one line for people, by its name in the settings."""
        names = ("device", "precision", "attention", "compile", "deterministic")
        return {name: getattr(self, name).line for name in names}


COMPILED_FLOPS = 2e12  # below this a CPU has done a run before it has compiled it (docs/log.md)
EAGER_TOKENS = 256  # up to here a compiled plain softmax beats the fused kernel on a CPU (docs/log.md)


def choose(
    settings: HardwareSettings,
    device: Device,
    sequence_length: int | None = None,
    attention_dropout: float = 0.0,
    flops: float | None = None,
) -> Choices:
    """Turn settings into picks for the machine that `device` describes.

    Args:
        sequence_length: of the run, where it is known; a short one has another best attention path.
        attention_dropout: of the model; not every path has it.
        flops: of the whole run, where they are known.

    Raises:
        RequestError: when something was asked for that this machine cannot do.
    """
    place = _device(settings, device)
    machine = device if place.value == device.kind else device.cpu
    assert machine is not None
    precision = _precision(settings, machine)
    compiled = _compile(settings, machine, flops)
    attention = _attention(settings, machine, precision.value, attention_dropout)
    short = sequence_length is not None and sequence_length <= EAGER_TOKENS
    if settings.attention == "auto" and machine.kind == "cpu" and compiled.value and short:
        attention = Pick("eager", f"compiled, it is the fastest on a CPU up to {EAGER_TOKENS} tokens")
    return Choices(
        machine=machine,
        device=place,
        precision=precision,
        attention=attention,
        compile=compiled,
        deterministic=_deterministic(settings, machine),
    )


def _refuse(key: str, value: str, why: str, mend: str) -> RequestError:
    return RequestError(f"hardware.{key}={value} is not possible here: {why}", mend=mend)


def _device(settings: HardwareSettings, device: Device) -> Pick[Kind]:
    asked = settings.device
    old = "install a torch build made for this GPU (the builds for CUDA 12.6 reach back to Pascal and Volta)"
    if asked == "auto":
        if not device.unsupported:
            return Pick(device.kind, device.name)
        return Pick("cpu", f"{device.name} is left idle, {device.unsupported}")
    if asked == "cpu":
        idle = "" if device.kind == "cpu" else f"; {device.name} is left idle"
        return Pick("cpu", f"as asked{idle}")
    if asked != device.kind:
        what = "CUDA GPU" if asked == "cuda" else "Apple GPU"
        mend = "write hardware.device=auto, or install a torch build for it"
        raise _refuse("device", asked, f"torch {device.torch_version} sees no {what}", mend)
    if device.unsupported:
        raise _refuse("device", asked, device.unsupported, f"{old}, or write hardware.device=cpu")
    return Pick(device.kind, f"{device.name}, as asked")


def _precision(settings: HardwareSettings, device: Device) -> Pick[Precision]:
    if settings.precision != "auto":
        return _asked_precision(settings.precision, device)
    if device.kind == "cpu":
        if device.bf16:
            return Pick("bf16", f"this CPU has {_bf16_name(device)}")
        return Pick("fp32", "this CPU has no bf16 arithmetic")
    if device.kind == "mps":
        return Pick("fp32", "on Apple GPUs bf16 saves memory and is often no faster")
    if device.bf16:
        return Pick("bf16", f"{_short(device)} has it in hardware")
    if device.tensor_cores:
        return Pick("fp16", f"with loss scaling, {_short(device)} has no bf16")
    if device.capability is not None and device.capability >= (7, 5):
        # Reports of NaN and of fp16 matmuls slower than fp32: pytorch 58123 and 77955, vllm 54950.
        return Pick("fp32", f"{_short(device)} has no tensor cores and is unreliable in fp16")
    return Pick("fp32", f"{_short(device)} has no tensor cores")


def _asked_precision(asked: Precision, device: Device) -> Pick[Precision]:
    if asked == "fp32":
        slow = device.bf16 or device.tensor_cores
        return Pick("fp32", "as asked; half precision would be faster here" if slow else "as asked")
    if asked == "bf16":
        if device.kind == "mps":
            return Pick("bf16", "as asked; saves memory, and is emulated before the M3")
        emulated = "as asked; emulated here, and slow"
        return Pick("bf16", f"as asked, {_short(device)} has it in hardware" if device.bf16 else emulated)
    if device.kind == "mps":
        mend = "write hardware.precision=fp32 or bf16"
        raise _refuse("precision", "fp16", "torch has no loss scaling for Apple GPUs", mend)
    if device.kind == "cpu":
        return Pick("fp16", "with loss scaling, as asked; a CPU is slow at it")
    good = "" if device.tensor_cores else f"; {_short(device)} has no tensor cores"
    return Pick("fp16", f"with loss scaling, as asked{good}")


def _bf16_name(device: Device) -> str:
    names = {"amx_bf16": "AMX BF16", "avx512_bf16": "AVX-512 BF16", "arm_bf16": "Arm BF16"}
    return next(name for flag, name in names.items() if flag in device.instructions)


def _short(device: Device) -> str:
    words = [word for word in device.name.split() if word not in ("NVIDIA", "Tesla", "GeForce")]
    if device.kind == "cpu" or not words:
        return "this CPU" if device.kind == "cpu" else "this GPU"
    return f"the {' '.join(words)}"


def _attention(
    settings: HardwareSettings, device: Device, precision: Precision, dropout: float
) -> Pick[Attention]:
    no_dropout = "it has no attention dropout" if dropout else ""
    obstacles: dict[str, str] = {
        "varlen": _varlen_obstacle(device, precision) or no_dropout,
        "flex": _flex_obstacle(device) or no_dropout,
        "sdpa": "",
        "eager": "",
    }
    asked = settings.attention
    if asked != "auto":
        if obstacles[asked]:
            raise _refuse("attention", asked, obstacles[asked], "write hardware.attention=auto")
        return Pick(asked, "as asked")
    if device.kind != "cuda":
        place = "a CPU" if device.kind == "cpu" else "an Apple GPU"
        return Pick("sdpa", f"the fused path that trains on {place}")
    if not obstacles["varlen"]:
        return Pick("varlen", "packed documents without computing what the mask would drop")
    modern = device.capability is not None and device.capability >= (8, 0)
    if modern and not obstacles["flex"]:
        return Pick("flex", f"skips masked blocks; not varlen, {obstacles['varlen']}")
    return Pick("sdpa", f"not varlen, {obstacles['varlen']}")


def _varlen_obstacle(device: Device, precision: Precision) -> str:
    if device.kind != "cuda":
        return "it has CUDA kernels only"
    if not device.varlen:
        return f"torch {device.torch_version} does not have it for this GPU"
    if device.capability is None or device.capability < (8, 0):
        return f"{_short(device)} is older than its kernels (compute capability 8.0)"
    if precision == "fp32":
        return "it has no fp32 kernels"
    return ""


def _flex_obstacle(device: Device) -> str:
    if device.kind != "cuda":
        return "it has a backward pass on CUDA only"
    if device.compiler is None:
        return "it is compiled, and there is no working Triton and C compiler"
    return ""


def _compile(settings: HardwareSettings, device: Device, flops: float | None) -> Pick[bool]:
    if settings.compile is False:
        return Pick(False, "as asked")
    if settings.compile == "auto" and device.kind == "cpu" and (flops or COMPILED_FLOPS) < COMPILED_FLOPS:
        return Pick(False, "so short a run is over before it would be compiled")
    if device.kind == "mps":
        if settings.compile is True:
            return Pick(True, "as asked; torch calls it a prototype on Apple GPUs")
        return Pick(False, "torch calls it a prototype on Apple GPUs")
    old = device.kind == "cuda" and (device.capability or (0, 0)) < (7, 0)
    if device.compiler is None or old:
        if device.kind == "cpu":
            lack, mend = "no working C++ compiler", "install g++ and Python's development headers"
        elif old:
            lack, mend = "Triton needs compute capability 7.0", ""
        else:
            lack, mend = "no working Triton and C compiler", "install triton, gcc and Python's headers"
        if settings.compile is True:
            instead = f"{mend}, or write hardware.compile=auto" if mend else "write hardware.compile=auto"
            raise _refuse("compile", "true", lack, instead)
        return Pick(False, f"{lack} here" + (f"; {mend} for more speed" if mend else ""))
    return Pick(True, "as asked" if settings.compile is True else f"{device.compiler} works")


def _deterministic(settings: HardwareSettings, device: Device) -> Pick[bool]:
    if device.kind == "cpu":
        return Pick(settings.deterministic, "a CPU run repeats bit for bit either way")
    if settings.deterministic:
        return Pick(True, "a resumed run repeats bit for bit, at some cost in speed")
    return Pick(False, "faster; a resumed run agrees to rounding, not to the last bit")
