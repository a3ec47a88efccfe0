"""How much memory this process holds and held at most, on the CPU and on a GPU.

A peak is what decides whether a run fits, and it is easily misread: `ru_maxrss` counts KiB on
Linux and bytes on macOS, and on Linux a child process starts with the peak of its parent.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

_STATUS = Path("/proc/self/status")


@dataclass(frozen=True)
class GpuMemory:
    """Bytes that torch's allocator holds on a GPU: in tensors now, at most, and reserved at most."""

    allocated: int
    peak_allocated: int
    peak_reserved: int


def peak_memory() -> int:
    """The most resident memory that this process has had, in bytes."""
    peak = _status("VmHWM")
    if peak is not None:
        return peak
    import resource

    usage = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return usage if sys.platform == "darwin" else usage * 1024


def resident_memory() -> int:
    """The resident memory of this process now, in bytes (on macOS: its peak, which is all it tells)."""
    now = _status("VmRSS")
    return peak_memory() if now is None else now


def _status(key: str) -> int | None:
    """One figure of /proc/self/status in bytes; None where there is no such file."""
    try:
        lines = _STATUS.read_text().splitlines()
    except OSError:
        return None
    found = next((line.split() for line in lines if line.startswith(f"{key}:")), None)
    return int(found[1]) * 1024 if found else None


def gpu_memory() -> GpuMemory | None:
    """What torch holds on the current CUDA device; None without CUDA."""
    import torch

    if not torch.cuda.is_available():
        return None
    return GpuMemory(
        allocated=torch.cuda.memory_allocated(),
        peak_allocated=torch.cuda.max_memory_allocated(),
        peak_reserved=torch.cuda.max_memory_reserved(),
    )


def reset_gpu_peak() -> None:
    """Start counting the GPU's peak anew; without CUDA there is nothing to do."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


def gpu_utilization() -> float | None:
    """Percent of the last moments in which the GPU was busy; None where it cannot be told.

    The libraries that tell it (pynvml, amdsmi) raise errors of their own, where a GPU is divided or a
    driver does not support it.
    """
    import torch

    if not torch.cuda.is_available():
        return None
    try:
        return float(torch.cuda.utilization())
    except Exception:
        return None
