"""How far a measured figure may be from the true one, and whether two figures differ beyond chance.

A suite has tens or hundreds of items, and 19 of 20 right may be 75% or 99.7% in truth. Every figure of a
scoreboard is therefore a `Rate`: the value, how many items it is of, and the ends of its 95% interval. Two stages
answer the same items, so they are compared item by item, which finds a change that two intervals, each as
wide as the suite's variety, would hide.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

CONFIDENCE = 0.95
_NORMAL = 1.959963984540054  # the normal distribution's 97.5% point
# Student's t, 97.5% points for 1 to 9 degrees of freedom; from 10 on the expansion below is exact to 1e-5.
_T = (12.706205, 4.302653, 3.182446, 2.776445, 2.570582, 2.446912, 2.364624, 2.306004, 2.262157)
_NOISE = 1e-9  # of the values' size: a smaller difference is rounding


class Rate(NamedTuple):
    """A figure of n items and the ends of its 95% interval; value and ends are NaN when n is 0."""

    value: float
    n: int
    low: float
    high: float

    def percent(self) -> str:
        """For people, of a share: "92.5% (86.4 to 96.0, n 120)"."""
        return f"{100 * self.value:.1f}% ({100 * self.low:.1f} to {100 * self.high:.1f}, n {self.n})"

    def __str__(self) -> str:
        return f"{self.value:.4g} ({self.low:.4g} to {self.high:.4g}, n {self.n})"


def rate(successes: int, n: int) -> Rate:
    """A share, with the score interval of Wilson (1927), which is right for small n and near 0 and 1.

    Raises:
        ValueError: when `successes` is not in 0 to `n`.
    """
    if not 0 <= successes <= n:
        raise ValueError(f"{successes} of {n} is no share")
    if n == 0:
        return Rate(math.nan, 0, math.nan, math.nan)
    share, z2 = successes / n, _NORMAL**2
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = _NORMAL / (1 + z2 / n) * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    # At 0 and n the ends are exactly 0 and 1; rounding must not put them on the wrong side.
    low = 0.0 if successes == 0 else max(0.0, middle - half)
    high = 1.0 if successes == n else min(1.0, middle + half)
    return Rate(share, n, low, high)


def mean(values: Sequence[float]) -> Rate:
    """A mean with Student's interval, mean ± t·s/√n. One value has no spread: its interval is infinite."""
    n = len(values)
    if n == 0:
        return Rate(math.nan, 0, math.nan, math.nan)
    value = math.fsum(values) / n
    half = _half_width(values, value)
    return Rate(value, n, value - half, value + half)


def perplexity(losses: Sequence[float], tokens: Sequence[int]) -> Rate:
    """exp(all loss / all tokens) over documents, n of them.

    The documents, not the tokens, are what was drawn at random, and tokens of one document go together; so
    the interval is that of a ratio of two sums over documents (Cochran 1977, eq. 6.13), put through exp.

    Args:
        losses: the sum of −ln p over the tokens of each document.
        tokens: how many those are.

    Raises:
        ValueError: when there are not as many losses as counts, or no tokens.
    """
    if len(losses) != len(tokens):
        raise ValueError(f"{len(losses)} losses and {len(tokens)} counts of tokens")
    if not losses:
        return Rate(math.nan, 0, math.nan, math.nan)
    n, total = len(losses), sum(tokens)
    if total <= 0:
        raise ValueError("there are no tokens")
    loss = math.fsum(losses) / total
    # What each document adds to the ratio, so that their mean's spread is the ratio's.
    parts = [(one - loss * count) * n / total for one, count in zip(losses, tokens, strict=True)]
    half = _half_width(parts, 0.0)
    return Rate(_exp(loss), n, _exp(loss - half), _exp(loss + half))


def worse(
    before: Sequence[float | None], after: Sequence[float | None], lower_is_better: bool = False
) -> bool:
    """Whether the same items got worse beyond chance (95%, two-sided, so that rises are judged alike).

    Right and wrong (only 0 and 1) are compared by McNemar's exact test: of the items that changed, are more
    lost than a fair coin would lose. Other scores by Student's t of the differences.

    Args:
        before, after: a score for each item, in the same order; items with None or NaN in either are left out.
        lower_is_better: for losses.

    Raises:
        ValueError: when they are not of the same length.
    """
    if len(before) != len(after):
        raise ValueError(f"{len(before)} items before and {len(after)} after; only the same items compare")
    pairs = [(a, b) for a, b in zip(before, after, strict=True) if _known(a) and _known(b)]
    falls = [(b - a if lower_is_better else a - b) for a, b in pairs]  # type: ignore[operator]
    if all(value in (0, 1) for pair in pairs for value in pair):
        lost, gained = sum(fall > 0 for fall in falls), sum(fall < 0 for fall in falls)
        return lost > gained and _coin(gained, lost + gained) < 1 - CONFIDENCE
    if len(falls) < 2:
        return False
    fall = math.fsum(falls) / len(falls)
    size = max(abs(value) for pair in pairs for value in pair)  # type: ignore[arg-type]
    return fall > _NOISE * size and fall > _half_width(falls, fall)


def _known(value: float | None) -> bool:
    return value is not None and not math.isnan(value)


def _coin(fewer: int, n: int) -> float:
    """The two-sided p of `fewer` of n by a fair coin, exactly."""
    ways = sum(math.comb(n, k) for k in range(fewer + 1))
    return min(1.0, 2 * ways / 2**n)


def _half_width(values: Sequence[float], value: float) -> float:
    """t·s/√n about `value`; infinite for one value."""
    n = len(values)
    if n < 2:
        return math.inf
    spread = math.sqrt(math.fsum((one - value) ** 2 for one in values) / (n - 1))
    return t_quantile(n - 1) * spread / math.sqrt(n)


def t_quantile(freedom: int) -> float:
    """The 97.5% point of Student's t (Abramowitz & Stegun 1964, 26.7.5)."""
    if freedom <= len(_T):
        return _T[freedom - 1]
    z = _NORMAL
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + sum(term / freedom**power for power, term in enumerate(terms, start=1))


def _exp(exponent: float) -> float:
    return math.exp(exponent) if exponent < 700 else math.inf
