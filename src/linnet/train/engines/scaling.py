"""Loss scaling for FP16: gradients are kept in range by a factor that finds its own size.

Micikevicius et al. 2018, "Mixed precision training": halve after an overflow (that step is
skipped), double after a long time without one.
"""

from __future__ import annotations

from dataclasses import dataclass

GROWTH_INTERVAL = 2000


@dataclass
class LossScale:
    """The factor that a loss is multiplied by before backward; 1 and fixed where none is needed."""

    value: float = 1.0
    dynamic: bool = False
    since_overflow: int = 0

    @classmethod
    def for_fp16(cls) -> LossScale:
        """A scale that starts high and finds its size."""
        return cls(65536.0, dynamic=True)

    def update(self, finite: bool) -> None:
        """Take note of a step whose gradients were or were not finite."""
        if not self.dynamic:
            return
        if not finite:
            self.value, self.since_overflow = max(self.value / 2, 1.0), 0
            return
        self.since_overflow += 1
        if self.since_overflow >= GROWTH_INTERVAL:
            self.value, self.since_overflow = self.value * 2, 0
