"""The pictures of an audit's page, as SVG that takes its ink from the page around it.

So one picture reads on light and on dark, stays sharp on any screen, and needs no second file.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from linnet.observe import counted
from linnet.observe.curves import AMBER, FAINT, GRID, INK, PURPLE, TEAL, TRAIN, VAL

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLOURS = (TRAIN, AMBER, TEAL, PURPLE, VAL, "#6a994e", "#8d6e63", "#5c9ead")
_WIDTH = 5.2  # inches: on a phone's screen letters stay readable
_LONGEST_NAME = 30
_FEW = 6  # names that have room to breathe


def pictures(facts: dict[str, Any]) -> dict[str, str]:
    """Each picture as an SVG element, by its name; those that would show nothing are left out."""
    drawn = {
        "mixture": _mixture(facts["mixture"]["sources"]),
        "passes": _passes(facts["mixture"]["sources"]),
        "lengths": _lengths(facts),
        "ranks": _ranks(facts["tokens"]["ranks_by_domain"]),
        "bytes": _bytes(facts["sources"]),
        "contamination": _contamination(facts["evaluation"]["sets"]),
    }
    return {name: _svg(figure, name) for name, figure in drawn.items() if figure is not None}


def _figure(height: float) -> tuple[Figure, Axes]:
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_WIDTH, height), layout="constrained")
    FigureCanvasSVG(figure)
    axes = figure.add_subplot()
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(FAINT)
    axes.tick_params(colors=INK, labelsize=9, length=3)
    axes.set_axisbelow(True)
    return figure, axes


def _bars(names: Sequence[str], rows: int = 1) -> tuple[Figure, Axes]:
    """A figure for horizontal bars, one group for each name, the first on top."""
    each = 0.2 + 0.2 * rows if len(names) <= _FEW else 0.12 + 0.13 * rows
    figure, axes = _figure(0.75 + each * len(names))
    axes.set_yticks(range(len(names)), short_names(names))
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.grid(axis="x", color=GRID, linewidth=0.8)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    return figure, axes


def _labelled(axes: Axes, lengths: Sequence[float], labels: Sequence[str], room: float) -> None:
    """Say at each bar's end what it is; room: the axis's length in those of the longest bar."""
    for place, (length, label) in enumerate(zip(lengths, labels, strict=True)):
        axes.annotate(label, (length, place), (4, 0), textcoords="offset points", va="center",
                      fontsize=9, color=INK)  # fmt: skip
    axes.set_xlim(0, room * max([1.0, *lengths]))


def _mixture(sources: list[dict[str, Any]]) -> Figure | None:
    if len(sources) < 2:
        return None
    figure, axes = _bars([row["source"] for row in sources], rows=2)
    for place, (key, colour) in enumerate((("asked", FAINT), ("served", TRAIN))):
        heights = [place * 0.36 - 0.18 + number for number in range(len(sources))]
        axes.barh(heights, [100 * row[key] for row in sources], 0.34, color=colour, label=key)
    axes.set_xlabel("percent of sequences", color=INK, fontsize=9)
    figure.legend(frameon=False, fontsize=9, labelcolor=INK, loc="outside upper right", ncols=2)
    return figure


def _passes(sources: list[dict[str, Any]]) -> Figure | None:
    known = [row for row in sources if row["passes"] is not None]
    if not known:
        return None
    figure, axes = _bars([row["source"] for row in known])
    passes = [row["passes"] for row in known]
    axes.barh(range(len(known)), passes, 0.55, color=[TEAL if p <= 1 else AMBER for p in passes])
    axes.axvline(1, color=FAINT, linewidth=1.2, linestyle=":", zorder=0)
    _labelled(axes, passes, [f"{value:.3g}" for value in passes], room=1.15)
    axes.set_xlabel("passes by the end of the run", color=INK, fontsize=9)
    return figure


def _lengths(facts: dict[str, Any]) -> Figure | None:
    figure, axes = _figure(3.1)
    domains: dict[str, dict[int, int]] = {}
    for source in facts["sources"]:
        bins = domains.setdefault(source["domain"], {})
        for low, _, count in source["lengths"]["histogram"]:
            bins[low] = bins.get(low, 0) + count
    for number, (name, bins) in enumerate(domains.items()):
        if not bins:
            continue
        whole, edges = sum(bins.values()), _edges(min(bins), max(bins))
        shares = [100 * bins.get(edge, 0) / whole for edge in edges]
        colour = _COLOURS[number % len(_COLOURS)]
        axes.stairs(shares, [*edges, edges[-1] * 2**0.5], color=colour, linewidth=1.8, label=name)
        axes.stairs(shares, [*edges, edges[-1] * 2**0.5], color=colour, fill=True, alpha=0.12)
    length = facts["data"]["sequence_length"]
    axes.axvline(length, color=VAL, linewidth=1.2, linestyle=":", label=f"a sequence ({length:,})")
    axes.set_xscale("log", base=2)
    _counts(axes)
    axes.set_ylim(bottom=0)
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.set_xlabel("tokens in a document (log scale)", color=INK, fontsize=9)
    axes.set_ylabel("percent of documents", color=INK, fontsize=9)
    _legend(figure)
    return figure


def _edges(low: int, high: int) -> list[int]:
    """Lower edges of the bins of documents by length, from one to another."""
    edges: list[int] = []
    step = 0
    while not edges or edges[-1] < high:
        edge = math.ceil(2.0 ** (step / 2))
        step += 1
        if edge >= low and edge not in edges:
            edges.append(edge)
    return edges


def _ranks(domains: dict[str, list[list[float]]]) -> Figure | None:
    figure, axes = _figure(3.1)
    for number, (name, ranks) in enumerate(domains.items()):
        if ranks:
            axes.plot(
                *zip(*ranks, strict=True), color=_COLOURS[number % len(_COLOURS)], linewidth=1.8, label=name
            )
    axes.set_xscale("log")
    axes.set_yscale("log")
    _counts(axes)
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_xlabel("rank of the token (log scale)", color=INK, fontsize=9)
    axes.set_ylabel("share of tokens (log scale)", color=INK, fontsize=9)
    _legend(figure)
    return figure


def _bytes(sources: list[dict[str, Any]]) -> Figure | None:
    figure, axes = _bars([row["source"] for row in sources])
    values = [row["bytes_per_token"] for row in sources]
    axes.barh(range(len(sources)), values, 0.55, color=PURPLE)
    _labelled(axes, values, [f"{value:.2f}" for value in values], room=1.15)
    axes.set_xlabel("bytes of text in a token", color=INK, fontsize=9)
    return figure


def _contamination(sets: list[dict[str, Any]]) -> Figure | None:
    if not sets:
        return None
    figure, axes = _bars([row["set"] for row in sets])
    shares = [100 * row["share"] for row in sets]
    axes.barh(range(len(sets)), shares, 0.55, color=VAL)
    _labelled(axes, shares, [f"{row['contaminated']:,} of {row['items']:,}" for row in sets], room=1.35)
    axes.set_xlabel("percent of items that share a run of words with training", color=INK, fontsize=9)
    return figure


def _legend(figure: Figure) -> None:
    figure.legend(
        frameon=False, fontsize=9, labelcolor=INK, loc="outside upper right", ncols=4, handlelength=1.4
    )


def _counts(axes: Axes) -> None:
    from matplotlib.ticker import FuncFormatter, NullLocator

    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: counted(value)))
    axes.xaxis.set_minor_locator(NullLocator())


def short_names(names: Sequence[str]) -> list[str]:
    """Of paths, only as many of their last parts as tell them apart; names that stay long lose their beginning."""

    def last(name: str, parts: int) -> str:
        return "/".join(name.split("/")[-parts:])

    parts = 1
    while parts < 8 and len({last(name, parts) for name in names}) < len(set(names)):
        parts += 1
    short = (last(name, parts) for name in names)
    return [name if len(name) <= _LONGEST_NAME else "…" + name[1 - _LONGEST_NAME :] for name in short]


def _svg(figure: Figure, name: str) -> str:
    """A figure as an element that is as wide as its place, in the page's own ink and letters."""
    import matplotlib

    out = io.BytesIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name, "font.family": "sans-serif"}):
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = out.getvalue().decode()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r' (?:width|height)="[\d.]+pt"', "", text, count=2)  # those of the svg itself
    text = re.sub(r'id="((?:figure|axes|patch|line2d|text|xtick|ytick|matplotlib|legend|PolyCollection)[^"]*)"',
                  rf'id="{name}-\1"', text)  # fmt: skip
    text = re.sub(r"font: [^;\"]*?([\d.]+px)[^;\"]*;", r"font-size: \1;", text)
    for ink, style in ((INK, "currentColor"), (GRID, "var(--grid)"), (FAINT, "var(--faint)")):
        text = text.replace(ink, style)
    return text
