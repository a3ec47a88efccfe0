"""What this machine is, as one plain record that tests can also write by hand.

Choices are made from the record and never from torch, so that what a T4 or an H200 would get
can be checked on a machine that has neither.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import Literal

from linnet.hardware import host
from linnet.hardware.chips import Chip, chip_of

Kind = Literal["cpu", "cuda", "mps"]


@dataclass(frozen=True)
class Device:
    """One place to train on, and the CPU behind it.

    Attributes:
        kind: cpu, cuda or mps.
        name: as the machine or the driver gives it.
        count: how many of them (1 for a CPU).
        memory_bytes: of one of them; for a CPU what this process may use.
        cores: CPU cores that this process may use.
        instructions: the CPU's instruction sets of interest (see `host.INSTRUCTIONS`).
        capability: CUDA compute capability.
        bf16: whether bf16 arithmetic is in the hardware (not emulated).
        tensor_cores: whether a CUDA device has matrix units.
        chip: the row of the table of known chips, or None.
        torch_version: as torch gives it.
        compiler: the compiler that `torch.compile` would use here, found to work, or None.
        varlen: whether this torch has variable-length attention.
        unsupported: why this torch cannot run on the device; empty when it can.
        cpu: the CPU behind an accelerator; None for a CPU itself.
    """

    kind: Kind
    name: str
    count: int = 1
    memory_bytes: int = 0
    cores: int = 1
    instructions: frozenset[str] = frozenset()
    capability: tuple[int, int] | None = None
    bf16: bool = False
    tensor_cores: bool = False
    chip: Chip | None = None
    torch_version: str = ""
    compiler: str | None = None
    varlen: bool = False
    unsupported: str = ""
    cpu: Device | None = None


def detect() -> Device:
    """The best device that torch sees here: CUDA, else MPS, else the CPU.

    Tries a compiler once per process (about a second).
    """
    import torch

    cpu = detect_cpu()
    if torch.cuda.is_available() and torch.cuda.device_count() > 0:
        return _detect_cuda(cpu)
    if torch.backends.mps.is_available():
        return Device(
            kind="mps",
            name=cpu.name,
            memory_bytes=int(torch.mps.recommended_max_memory()),
            cores=cpu.cores,
            instructions=cpu.instructions,
            torch_version=cpu.torch_version,
            varlen=cpu.varlen,
            cpu=cpu,
        )
    return cpu


def detect_cpu() -> Device:
    """The CPU, whatever else is here."""
    import torch

    instructions = host.instructions()
    return Device(
        kind="cpu",
        name=host.cpu_name(),
        memory_bytes=host.memory_bytes(),
        cores=host.cores(),
        instructions=instructions,
        bf16=bool(instructions & {"avx512_bf16", "amx_bf16", "arm_bf16"}),
        torch_version=str(torch.__version__),
        compiler=host.cpp_compiler(),
        varlen=_has("torch.nn.attention.varlen"),
    )


def _detect_cuda(cpu: Device) -> Device:
    import torch

    properties = torch.cuda.get_device_properties(0)
    capability = (properties.major, properties.minor)
    name, memory = torch.cuda.get_device_name(0), int(properties.total_memory)
    chip = chip_of(name, memory)
    # ROCm answers to torch.cuda too, with capabilities that do not mean NVIDIA's.
    amd = torch.version.hip is not None
    return Device(
        kind="cuda",
        name=name,
        count=torch.cuda.device_count(),
        memory_bytes=memory,
        cores=cpu.cores,
        instructions=cpu.instructions,
        capability=capability,
        bf16=torch.cuda.is_bf16_supported(including_emulation=False),
        tensor_cores=chip.tensor_cores if chip else has_tensor_cores(name, capability),
        chip=chip,
        torch_version=cpu.torch_version,
        compiler="triton" if _has("triton") and host.c_compiler() else None,
        varlen=cpu.varlen and not amd,
        unsupported="" if amd else missing_kernels(capability, torch.cuda.get_arch_list()),
        cpu=cpu,
    )


def has_tensor_cores(name: str, capability: tuple[int, int]) -> bool:
    """Whether an NVIDIA GPU has tensor cores: from Volta on, except the small Turing chips.

    TU116 and TU117 report compute capability 7.5 like a T4, and have none.
    """
    small_turing = ("GTX 16", "T400", "T500", "T550", "T600", "T1000", "T1200", "T2000", "MX450", "MX550")
    return capability >= (7, 0) and not (capability == (7, 5) and any(word in name for word in small_turing))


def missing_kernels(capability: tuple[int, int], architectures: list[str]) -> str:
    """Why a torch built for `architectures` (`["sm_80", "sm_90", ...]`) cannot run there, or "".

    Machine code runs on its own major version from its minor version on; `compute_` entries are
    compiled by the driver for any later chip.
    """
    for entry in architectures:
        kind, _, digits = entry.partition("_")
        digits = digits.rstrip("af")  # sm_90a: code for one architecture's own instructions
        if not digits.isdigit():
            continue
        built = (int(digits[:-1]), int(digits[-1]))
        same_major = built[0] == capability[0] and built <= capability
        if same_major or (kind == "compute" and built <= capability):
            return ""
    major, minor = capability
    return f"this torch has no kernels for compute capability {major}.{minor}" if architectures else ""


def _has(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def peak_flops(device: Device, precision: str) -> float | None:
    """The most FLOP/s that one such device can do, by its maker's figures; None when not known.

    Args:
        device: the device.
        precision: fp32, tf32, fp16, bf16 or fp8. A precision that the chip lacks has no peak.
    """
    if device.chip is None or precision not in device.chip.peak:
        return None
    return device.chip.peak[precision] * 1e12


def describe(device: Device) -> str:
    """The device as one short line for people."""
    gib = f"{device.memory_bytes / 2**30:.0f} GiB"
    if device.kind == "cpu":
        return f"{device.name}, {device.cores} core{'s' * (device.cores != 1)}, {gib}"
    several = f"{device.count} × " if device.count > 1 else ""
    return f"{several}{device.name}, {gib}"
