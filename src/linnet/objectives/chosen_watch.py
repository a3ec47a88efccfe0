"""Whether the answers that are preferred become unlikely, which a preference loss does not show.

A loss on the difference of two answers is as content when both fall and the rejected one falls faster
(Pal et al. 2024, "Smaug"; Razin et al. 2024, "Unintentional unalignment"). Accuracy and margin rise meanwhile,
and the probability goes to answers that nobody wrote.
"""

from __future__ import annotations

import math
from statistics import fmean, variance

import torch
from torch import Tensor

WINDOW = 10  # steps
FALL = 0.1  # nats per token: what was likely is less so by a tenth at every token, e⁵-fold after fifty


class ChosenWatch:
    """Follows the chosen answers' log-probability per token, step by step.

    Args:
        from_zero: values are changes since the start, measured on the same answers; otherwise they are
            log-probabilities, and the start is the mean of the first steps.
    """

    def __init__(self, from_zero: bool) -> None:
        self.from_zero, self.told = from_zero, False
        self._first: list[float] = []
        self._last: list[float] = []

    def heard(self, value: float) -> None:
        """Take in a step's value; one that is no number is left out."""
        if not math.isfinite(value):
            return
        if len(self._first) < WINDOW and not self.from_zero:
            self._first.append(value)
        else:
            self._last = [*self._last, value][-WINDOW:]

    def fall(self) -> float | None:
        """By how much the last steps are below the start, once; None when it is little or could be chance."""
        if self.told or len(self._last) < WINDOW:
            return None
        start = fmean(self._first) if self._first else 0.0
        fall = start - fmean(self._last)
        spread = sum(variance(some) / WINDOW for some in (self._first, self._last) if some)
        if fall <= FALL + 2 * math.sqrt(spread):
            return None
        self.told = True
        return fall

    def state(self) -> Tensor:
        """All of it: [1 + 2 · WINDOW] float64."""
        parts = [some + [math.nan] * (WINDOW - len(some)) for some in (self._first, self._last)]
        return torch.tensor([float(self.told), *parts[0], *parts[1]], dtype=torch.float64)

    def load_state(self, state: Tensor) -> None:
        """Take back what `state` gave."""
        told, *values = state.tolist()
        self.told = bool(told)
        parts = values[:WINDOW], values[WINDOW:]
        self._first, self._last = ([v for v in part if not math.isnan(v)] for part in parts)
