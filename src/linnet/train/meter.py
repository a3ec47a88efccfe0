"""How fast a run goes, measured over the steps since it was last asked."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from linnet.hardware import gpu_memory, gpu_utilization


class Meter:
    """Tokens per second, model FLOPs utilisation and waiting for data.

    Args:
        flops_per_token: of a training token, see `model.flops_per_token`; attention over the whole square.
        score_flops: of one query with one key, see `model.score_flops`.
        peak_flops: the device's dense peak in the run's precision; None where it is not known,
            and then no utilisation is reported.

    `train/mfu` counts the whole square of every sequence, as most published figures do;
    `train/mfu_causal_documents` only the pairs that are causal and within one document.
    """

    def __init__(self, flops_per_token: int, peak_flops: float | None, score_flops: int = 0) -> None:
        self.flops_per_token, self.peak_flops, self.score_flops = flops_per_token, peak_flops, score_flops
        self.start()

    def start(self) -> None:
        """Measure from now on; what lies before (an evaluation, a save) is not counted."""
        self._began = time.perf_counter()
        self._tokens, self._unneeded, self._waited = 0, 0, 0.0

    @contextmanager
    def waiting_for_data(self) -> Iterator[None]:
        """Count the time inside as waiting for data."""
        began = time.perf_counter()
        yield
        self._waited += time.perf_counter() - began

    def step(self, tokens: int, unneeded_pairs: int = 0) -> None:
        """A step of this many tokens is done.

        unneeded_pairs: pairs of the whole squares that are not causal or not within one document.
        """
        self._tokens += tokens
        self._unneeded += unneeded_pairs

    def read(self) -> dict[str, float]:
        """Metrics since the last reading or start."""
        seconds = time.perf_counter() - self._began
        if not self._tokens or not seconds:
            return {}
        speed = self._tokens / seconds
        metrics = {
            "train/tokens_per_sec": speed,
            "time/data_percent": 100 * self._waited / seconds,
        }
        if self.peak_flops:
            metrics["train/mfu"] = speed * self.flops_per_token / self.peak_flops
            unneeded = self._unneeded * self.score_flops / seconds
            metrics["train/mfu_causal_documents"] = metrics["train/mfu"] - unneeded / self.peak_flops
        memory = gpu_memory()
        if memory is not None:
            metrics["gpu/memory_allocated_gb"] = memory.allocated / 1e9
            utilization = gpu_utilization()
            if utilization is not None:
                metrics["gpu/utilization"] = utilization
        self.start()
        return metrics
