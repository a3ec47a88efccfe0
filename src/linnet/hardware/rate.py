"""How fast this machine multiplies matrices, measured, as the denominator where no datasheet helps.

CPUs have no peak figure that a program can rely on (clocks move, cores are shared), so a
training step's FLOP/s are compared with a large matrix product timed in the same run.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from linnet.hardware.device import Device

if TYPE_CHECKING:
    import torch


def matrix_rate(device: Device, dtype: torch.dtype, seconds: float = 2.0) -> float:
    """The best measured rate of a dense square matrix product, in FLOP/s.

    Half of the time goes to finding the size that runs fastest, half to repeating it; the best
    repeat counts, because whatever disturbs a timing only slows it. float32 products on CUDA
    follow the current setting of TF32.

    Args:
        device: where to measure; one of them is used.
        dtype: the type of the factors.
        seconds: about how long to measure.
    """
    import torch

    where = torch.device(device.kind)
    room = device.memory_bytes / 8 or float("inf")
    rates: dict[int, float] = {}
    begin = time.perf_counter()
    with torch.no_grad():
        for size in (512, 1024, 2048, 4096, 8192, 16384):
            fits = 3 * size**2 * dtype.itemsize < room
            quick = not rates or 2 * size**3 / max(rates.values()) < seconds / 8
            if rates and not (fits and quick and time.perf_counter() - begin < seconds / 2):
                break
            rates[size] = _best_rate(size, dtype, where, until=time.perf_counter() + seconds / 12)
        fastest = max(rates, key=rates.__getitem__)
        return max(rates[fastest], _best_rate(fastest, dtype, where, until=begin + seconds))


def _best_rate(size: int, dtype: torch.dtype, where: torch.device, until: float) -> float:
    import torch

    # Random factors: a GPU draws less power, and clocks higher, on zeros.
    left = torch.randn(size, size, device=where).to(dtype)
    right = torch.randn(size, size, device=where).to(dtype)
    product = torch.mm(left, right)  # the first one chooses kernels and reserves memory
    # Short products are timed in groups, so that launches and the clock's steps do not count.
    group = max(1, min(50, round(2e10 / size**3)))
    fastest = float("inf")
    while True:
        _wait(where)
        start = time.perf_counter()
        for _ in range(group):
            torch.mm(left, right, out=product)
        _wait(where)
        fastest = min(fastest, (time.perf_counter() - start) / group)
        if time.perf_counter() >= until:
            return 2 * size**3 / fastest


def _wait(where: torch.device) -> None:
    import torch

    if where.type == "cuda":
        torch.cuda.synchronize(where)
    elif where.type == "mps":
        torch.mps.synchronize()
