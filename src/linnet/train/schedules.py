"""The learning rate of each step, as a pure function: nothing to save, nothing to resume."""

from __future__ import annotations

import math
from collections.abc import Callable

from linnet.config import share_of
from linnet.train.settings import TrainSettings

Schedule = Callable[[int], float]


def schedule(settings: TrainSettings, total: int) -> Schedule:
    """Learning rate by step (0 is the first) of a run of `total` steps.

    Warmup is linear and reaches the full rate at step warmup - 1. Then
    cosine: half a cosine down to min_lr_rate (Loshchilov & Hutter 2017);
    linear: a straight line down to min_lr_rate;
    wsd: the full rate, then a straight line down over the last decay_steps (Hu et al. 2024, MiniCPM);
    constant: the full rate.
    """
    peak, floor = settings.learning_rate, settings.min_lr_rate
    warmup, decay = share_of(settings.warmup_steps, total), share_of(settings.decay_steps, total)

    def after_warmup(step: int) -> float:
        kind = settings.lr_scheduler_type
        if kind == "constant":
            return 1.0
        if kind == "wsd":
            left = total - step
            return 1.0 if left >= decay else floor + (1 - floor) * left / decay
        progress = (step - warmup) / max(1, total - warmup)
        if kind == "linear":
            return 1 - (1 - floor) * progress
        return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress))

    def rate(step: int) -> float:
        if step < warmup:
            return peak * (step + 1) / warmup
        return peak * after_warmup(min(step, total - 1))

    return rate
