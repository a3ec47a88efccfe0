"""Numbers and series of numbers as people read them, in a line of text or a picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

BLOCKS = "▁▂▃▄▅▆▇█"


def sparkline(values: Sequence[float], width: int = 40) -> str:
    """The values as one line of blocks, low to high; a value that is not a number is a "×".

    More values than `width` are averaged in equal groups.
    """
    groups = _grouped(list(values), width)
    finite = [value for value in groups if math.isfinite(value)]
    if not finite:
        return "×" * len(groups)
    low, span = min(finite), max(finite) - min(finite)

    def block(value: float) -> str:
        if not math.isfinite(value):
            return "×"
        return BLOCKS[min(7, int((value - low) / span * 8))] if span > 0 else BLOCKS[0]

    return "".join(block(value) for value in groups)


def _grouped(values: list[float], width: int) -> list[float]:
    if len(values) <= width:
        return values
    edges = [round(index * len(values) / width) for index in range(width + 1)]
    return [sum(values[start:end]) / (end - start) for start, end in pairwise(edges)]


def smoothed(values: Sequence[float], span: int) -> list[float]:
    """Mean of the values around each one: `span` on either side, fewer at the two ends.

    Centred, because a trailing average lies above a falling curve; narrow at first (a fifth of the
    way back), because a run's first steps fall steeply. Values that are not finite are passed over.
    """
    sums, counts = [0.0], [0]
    for value in values:
        good = math.isfinite(value)
        sums.append(sums[-1] + (value if good else 0.0))
        counts.append(counts[-1] + good)
    out = []
    for index in range(len(values)):
        reach = min(span, index // 5)
        start, end = index - reach, min(len(values), index + reach + 1)
        count = counts[end] - counts[start]
        out.append((sums[end] - sums[start]) / count if count else math.nan)
    return out


def counted(number: float) -> str:
    """A count in at most four figures: 950, 12.3K, 30M, 1.32B."""
    for scale, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "K")):
        if number >= scale * 0.9995:
            return (
                f"{number / scale:.3g}{letter}" if number < scale * 999.5 else f"{number / scale:.0f}{letter}"
            )
    return f"{number:.0f}"


def duration(seconds: float) -> str:
    """A time span in its two largest units: 8s, 3m 05s, 2h 10m, 3d 4h."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m {whole % 60:02d}s"
    if whole < 86400:
        return f"{whole // 3600}h {whole % 3600 // 60:02d}m"
    return f"{whole // 86400}d {whole % 86400 // 3600}h"
