"""A run drawn: all its stages one below the other, or one of them with more of its metrics.

It is drawn from the event file alone, so a run can be drawn while it goes, after it, or on another machine.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from linnet.observe.curves import (
    AMBER,
    DPI,
    EACH_STEP,
    FACTS,
    INK,
    PURPLE,
    TEAL,
    History,
    histories,
    history,
    length_of,
    log_ticks,
    main_panel,
    model_of,
    panel,
    stage_figure,
)
from linnet.observe.jsonl import read_events

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Corner = Literal["lower right", "upper right"]
_ROW, _HEAD = 1.9, 1.0  # inches of a stage's row, and of what stands above all rows


def draw(events_path: str | Path, out_png: str | Path, stage: str | None = None) -> Path:
    """Draw a run's curves into a PNG file, which appears whole or not at all.

    Args:
        events_path: the run's events.jsonl.
        out_png: the picture to write.
        stage: draw this stage alone, with more of its metrics. None: all stages.

    Raises:
        RequestError: when there is nothing to draw.
        RunError: when the events cannot be read.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    events = list(read_events(events_path))
    stages = histories(events)
    several = stage is None and len(stages) > 1
    figure = run_figure(stages) if several else stage_figure(history(events, stage))
    FigureCanvasAgg(figure)
    out = Path(out_png)
    aside = out.with_name(f".{out.name}.part")
    figure.savefig(aside, format="png")
    os.replace(aside, out)
    return out


def run_figure(stages: Mapping[str, History]) -> Figure:
    """A row a stage: left its loss or reward with what was measured on held-out items, right one more metric."""
    from matplotlib.figure import Figure

    height = _HEAD + _ROW * len(stages)
    figure = Figure(figsize=(11, height), dpi=DPI, facecolor="white")
    runs = list(stages.values())
    start = next((run.start for run in runs if run.start is not None), None)
    title, facts = start.recipe if start else "training", "  ·  ".join(model_of(runs[0]))
    figure.text(0.065, 1 - 0.3 / height, title, fontsize=15, fontweight="bold", color=INK, va="center")
    figure.text(0.065, 1 - 0.57 / height, facts, fontsize=10, color=FACTS, va="center")
    top, bottom = 1 - (_HEAD + 0.1) / height, 0.45 / height
    grid = figure.add_gridspec(
        len(runs), 3, left=0.065, right=0.975, top=top, bottom=bottom, hspace=0.62, wspace=0.2
    )
    for row, (name, run) in enumerate(stages.items()):
        main = figure.add_subplot(grid[row, :2])
        main_panel(main, run)
        _fit(main, run)
        main.set_title(f"{row + 1} · {name}", loc="left", fontsize=11, fontweight="bold", color=INK, pad=6)
        panel(figure.add_subplot(grid[row, 2], sharex=main), run, *_second(run))
    main.set_xlabel("step", color=INK, fontsize=9)
    return figure


def _fit(axes: Axes, run: History) -> None:
    """Make a stage's panel readable in a row's height: fewer ticks, and words above it instead of beside it."""
    from matplotlib.ticker import MaxNLocator

    facts = "  ·  ".join([axes.get_ylabel(), *length_of(run)])
    axes.set_title(facts, loc="right", fontsize=8.5, color=FACTS, pad=6)
    axes.set_xlabel("")
    axes.set_ylabel("")
    low, high = axes.get_ylim()
    if axes.get_yscale() == "log":
        log_ticks(axes, (1, 2, 5) if high / low > 6 else (1, 1.5, 2, 3, 5, 7))
    lines, labels = axes.get_legend_handles_labels()
    legend = {label: line for line, label in zip(lines, labels, strict=True) if label != EACH_STEP}
    if legend:
        corner: Corner = "lower right" if run.metric("rlvr/reward")[0] else "upper right"
        axes.legend(
            list(legend.values()),
            list(legend),
            loc=corner,
            fontsize=8.5,
            labelcolor=INK,
            facecolor="white",
            edgecolor="none",
            framealpha=0.8,
        )
    axes.xaxis.set_major_locator(MaxNLocator(nbins=9, integer=True, steps=[1, 2, 2.5, 5, 10]))


def _second(run: History) -> tuple[str, str, str]:
    """The metric that tells most of a stage beside its loss or reward: name, label and colour."""
    if run.metric("rlvr/reward")[0]:
        return "rlvr/length", "tokens of a completion", TEAL
    if run.metric("dpo/accuracy")[0]:
        return "dpo/accuracy", "accuracy", AMBER
    return "train/grad_norm", "gradient norm (before clipping)", PURPLE
