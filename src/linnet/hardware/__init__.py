"""What the machine is, what it can do at most, and what to pick for it."""

from linnet.hardware.chips import CHIPS, Chip, chip_named, chip_of
from linnet.hardware.choose import Choices, HardwareSettings, Pick, choose
from linnet.hardware.device import Device, describe, detect, detect_cpu, peak_flops
from linnet.hardware.memory import (
    GpuMemory,
    gpu_memory,
    gpu_utilization,
    peak_memory,
    reset_gpu_peak,
    resident_memory,
)
from linnet.hardware.rate import matrix_rate

__all__ = [
    "CHIPS",
    "Chip",
    "Choices",
    "Device",
    "GpuMemory",
    "HardwareSettings",
    "Pick",
    "chip_named",
    "chip_of",
    "choose",
    "describe",
    "detect",
    "detect_cpu",
    "gpu_memory",
    "gpu_utilization",
    "matrix_rate",
    "peak_flops",
    "peak_memory",
    "reset_gpu_peak",
    "resident_memory",
]
