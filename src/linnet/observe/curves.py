"""A run drawn: what the loss did, and what the learning rate, the gradients and the speed did meanwhile.

One picture of a stage answers "is it learning, and is it healthy?". Pictures of a whole run are in
`overview.py`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from linnet.config.errors import RequestError
from linnet.observe.events import Anomaly, Evaluated, Event, RunStarted, StepDone
from linnet.observe.jsonl import effective
from linnet.observe.series import counted, smoothed

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, FACTS, FAINT, GRID = "#22303c", "#5b6770", "#9aa5b1", "#e4e8ec"
TRAIN, VAL, TEAL, PURPLE, AMBER = "#2f6fb3", "#d1495b", "#2a9d8f", "#7b5ea7", "#e0a100"

DPI, EACH_STEP = 130, "train, each step"

Points = tuple[list[int], list[float]]


@dataclass(frozen=True)
class History:
    """One stage's events, arranged for drawing."""

    start: RunStarted | None
    steps: list[StepDone]
    evaluations: list[Evaluated]
    anomalies: list[Anomaly]

    def metric(self, name: str) -> Points:
        """The steps and values of a metric, from training steps or evaluations."""
        source: Sequence[StepDone | Evaluated] = [*self.steps, *self.evaluations]
        pairs = sorted((event.step, float(event.metrics[name])) for event in source if name in event.metrics)
        return [step for step, _ in pairs], [value for _, value in pairs]


def histories(events: Sequence[Event]) -> dict[str, History]:
    """The effective history of every stage that took a step, by its name, in order."""
    groups: dict[str, list[Event]] = {}
    current = ""
    for event in effective(events):
        current = event.stage if isinstance(event, RunStarted) else current
        groups.setdefault(current, []).append(event)
    return {
        name: History(
            start=next((e for e in group if isinstance(e, RunStarted)), None),
            steps=[e for e in group if isinstance(e, StepDone)],
            evaluations=[e for e in group if isinstance(e, Evaluated)],
            anomalies=[e for e in group if isinstance(e, Anomaly)],
        )
        for name, group in groups.items()
        if any(isinstance(e, StepDone) for e in group)
    }


def history(events: Sequence[Event], stage: str | None = None) -> History:
    """The effective history of a stage (the last one that took a step, unless named).

    Raises:
        RequestError: when the stage is not there, or there is nothing to draw.
    """
    found = histories(events)
    if not found:
        raise RequestError("the run has no steps yet, so there is nothing to draw")
    chosen = list(found)[-1] if stage is None else stage
    if chosen not in found:
        raise RequestError(f"the run has no stage {stage!r}", mend=f"it has {', '.join(found)}")
    return found[chosen]


def stage_figure(run: History) -> Figure:
    """One stage: its loss or reward, and below it three metrics that tell whether it is healthy."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 7), dpi=DPI, facecolor="white")
    grid = figure.add_gridspec(
        2, 3, height_ratios=[2.3, 1], left=0.065, right=0.975, top=0.83, bottom=0.06, hspace=0.36, wspace=0.25
    )
    title = "training" if run.start is None else f"{run.start.recipe} · {run.start.stage}"
    size, *device = model_of(run) or [""]
    facts = "  ·  ".join(filter(None, [size, *length_of(run), *device]))
    figure.text(0.065, 0.955, title, fontsize=15, fontweight="bold", color=INK, va="center")
    figure.text(0.065, 0.918, facts, fontsize=10, color=FACTS, va="center")
    top = figure.add_subplot(grid[0, :])
    main_panel(top, run)
    if run.start is not None and run.start.tokens_per_step > 0:
        _token_axis(top, run.start.tokens_per_step)
    for column, (name, label, colour) in enumerate(_panels(run)):
        panel(figure.add_subplot(grid[1, column], sharex=top), run, name, label, colour)
    return figure


def length_of(run: History) -> list[str]:
    """How long a stage was, in steps and in tokens where they are known."""
    done = run.steps[-1].step
    if run.start is None:
        return [f"{done:,} steps"]
    tokens = run.steps[-1].metrics.get("train/tokens", done * run.start.tokens_per_step)
    of = f" of {run.start.total_steps:,}" if done < run.start.total_steps else ""
    return [f"{done:,}{of} steps", f"{counted(tokens)} tokens"]


def model_of(run: History) -> list[str]:
    """The model's size and the machine, where they are known."""
    if run.start is None:
        return []
    return [f"{counted(run.start.parameters)} parameters", *filter(None, [run.start.device])]


def _panels(run: History) -> list[tuple[str, str, str]]:
    """The metrics of the small pictures: what tells most of the stage's kind."""
    learning = [
        ("train/lr", "learning rate", TEAL),
        ("train/grad_norm", "gradient norm (before clipping)", PURPLE),
    ]
    if run.metric("rlvr/reward")[0]:
        return [
            ("rlvr/length", "tokens of a completion", TEAL),
            ("rlvr/entropy", "entropy (nats)", AMBER),
            learning[1],
        ]
    if run.metric("dpo/accuracy")[0]:
        return [("dpo/accuracy", "accuracy", TEAL), ("dpo/margin", "margin", AMBER), learning[1]]
    return [*learning, ("train/tokens_per_sec", "tokens per second", AMBER)]


def main_panel(axes: Axes, run: History) -> None:
    """Loss, or the reward where there is one: the loss is then about 0 however things go."""
    rewarded = bool(run.metric("rlvr/reward")[0])
    steps, losses = run.metric("rlvr/reward" if rewarded else "train/loss")
    _style(axes, "")
    axes.set_xlabel("step", color=INK, fontsize=9)
    unit = "nats per pair" if run.metric("dpo/accuracy")[0] else "nats per token"
    axes.set_ylabel("reward (mean)" if rewarded else f"loss ({unit})", color=INK, fontsize=10)
    _train_loss(axes, steps, losses)
    val_steps, val_losses = run.metric("val/reward" if rewarded else "val/loss")
    known = [(value, step) for step, value in zip(val_steps, val_losses, strict=True) if math.isfinite(value)]
    if known:
        best, at = max(known, key=lambda pair: (pair[0], -pair[1])) if rewarded else min(known)
        label = f"validation: best {best:.3f} at step {at:,}"
        axes.plot(val_steps, val_losses, color=VAL, marker="o", markersize=4.5, linewidth=1.4, label=label)
        axes.plot([at], [best], marker="o", markersize=10, markerfacecolor="none", color=VAL)
    for index, anomaly in enumerate(run.anomalies):
        count = len(run.anomalies)
        label = f"{count} {'anomaly' if count == 1 else 'anomalies'}" if index == 0 else ""
        axes.axvline(anomaly.step, color=AMBER, linewidth=1.2, linestyle=":", label=label or None)
    _loss_scale(axes, losses + val_losses)
    if steps or known:
        axes.legend(frameon=False, fontsize=10, labelcolor=INK, loc="upper right")


def _train_loss(axes: Axes, steps: list[int], losses: list[float]) -> None:
    if not steps:
        return
    span = len(losses) // 50
    if span == 0:
        axes.plot(steps, losses, color=TRAIN, linewidth=2, label=f"train: {losses[-1]:.3f} at the end")
        return
    smooth = smoothed(losses, span)
    axes.plot(steps, losses, color=TRAIN, alpha=0.25, linewidth=0.9, label=EACH_STEP)
    label = f"train, smoothed: {smooth[-1]:.3f} at the end"
    axes.plot(steps, smooth, color=TRAIN, linewidth=2, label=label)


def _loss_scale(axes: Axes, values: list[float]) -> None:
    """Show the whole fall and the slow end alike, and keep single spikes from flattening both."""
    from matplotlib.ticker import FuncFormatter, NullLocator

    finite = sorted(value for value in values if math.isfinite(value))
    if not finite:
        return
    first = next(value for value in values if math.isfinite(value))
    low, high = finite[0], max(first, finite[math.ceil(0.995 * (len(finite) - 1))])
    if low <= 0 or high / low < 2.5:
        margin = 0.06 * (high - low) or 0.1
        axes.set_ylim(low - margin, high + margin)
        return
    room = (high / low) ** 0.06
    axes.set_yscale("log")
    axes.set_ylabel(f"{axes.get_ylabel()[:-1]}, log scale)")
    axes.set_ylim(low / room, high * room)
    log_ticks(axes, (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def log_ticks(axes: Axes, steps: Sequence[float]) -> None:
    """Ticks of a logarithmic axis at these multiples of every power of ten."""
    from matplotlib.ticker import FixedLocator

    places = [step * 10.0**power for power in range(-6, 4) for step in steps]
    axes.yaxis.set_major_locator(FixedLocator(places))


def _token_axis(axes: Axes, tokens_per_step: int) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(nbins=9, integer=True, steps=[1, 2, 2.5, 5, 10]))

    def tokens_of(step: Any) -> Any:
        return step * tokens_per_step

    def step_of(tokens: Any) -> Any:
        return tokens / tokens_per_step

    above = axes.secondary_xaxis("top", functions=(tokens_of, step_of))
    above.xaxis.set_major_formatter(FuncFormatter(lambda token, _: counted(max(token, 0))))
    above.set_xlabel("tokens", color=FAINT, fontsize=9)
    above.tick_params(colors=FAINT, labelsize=8.5, length=3)
    above.spines["top"].set_visible(False)


def panel(axes: Axes, run: History, name: str, label: str, colour: str) -> None:
    from matplotlib.ticker import FuncFormatter

    _style(axes, label)
    steps, values = run.metric(name)
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        axes.text(0.5, 0.5, "not recorded", transform=axes.transAxes, ha="center", color=FAINT, fontsize=9)
        axes.set_yticks([])
        return
    if name == "train/lr":
        axes.plot(steps, values, color=colour, linewidth=1.8)
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_formatter(FuncFormatter(_short_rate))
        return
    smooth = smoothed(values, span=len(values) // 50)
    axes.plot(steps, values, color=colour, alpha=0.25, linewidth=0.8)
    axes.plot(steps, smooth, color=colour, linewidth=1.8)
    if name == "train/tokens_per_sec":
        axes.set_ylim(0, 1.15 * sorted(finite)[int(0.99 * (len(finite) - 1))])
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: counted(value)))
    elif min(finite) > 0 and max(finite) > 30 * sorted(finite)[len(finite) // 2]:
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=0)


def _short_rate(value: float, _: Any = None) -> str:
    """A learning rate as people write it: 3e-4."""
    if value == 0:
        return "0"
    mantissa, exponent = f"{value:.2e}".split("e")
    return f"{float(mantissa):g}e{int(exponent)}"


def _style(axes: Axes, label: str) -> None:
    from matplotlib.ticker import FuncFormatter

    axes.set_title(label, loc="left", fontsize=10.5, color=INK, pad=6)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda step, _: f"{step:,.0f}" if step >= 0 else ""))
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=INK, labelsize=8.5, length=3)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(FAINT)
    axes.margins(x=0.01)
