"""The run as a person watches it in a terminal.

On a terminal one line moves (step, loss, speed, time left) and what happens stays above it:
evaluations, samples, saves. Where the output goes to a file or a pipe there are plain lines at
a slow rhythm and no control codes, so a log of a long run stays readable.
"""

from __future__ import annotations

import math
import os
import re
import shutil
import sys
import textwrap
from collections.abc import Iterable, Mapping
from typing import TextIO

from linnet.observe.events import (
    Anomaly,
    Evaluated,
    Event,
    Resumed,
    RunEnded,
    RunStarted,
    Sampled,
    Saved,
    Scored,
    StepDone,
)
from linnet.observe.jsonl import effective
from linnet.observe.series import counted, duration, sparkline

QUIET_SECONDS, QUIET_PERCENT = 60.0, 5.0  # a plain line after so much time, or so much of the run
REDRAW_SECONDS = 0.1
SAMPLE_LINES = 6
BAR = 20
HEADLINES = {
    "train/loss": "loss", "dpo/accuracy": "accuracy", "rlvr/reward": "reward", "rlvr/reward_std": "spread",
}  # fmt: skip
LEFT_OUT = ("_reward", "_logp", "_per_token")  # ends of metrics' names that stand in the log of events alone
_PLAIN = str.maketrans("·━─→▁▂▃▄▅▆▇█×…", "-=->.:-=+*##x~")


class Console:
    """An observer that tells a person how the run goes.

    Args:
        stream: where to write; standard output unless given.
        live: whether to redraw one line; by default when the stream is a terminal.
        width: columns; the terminal's unless given.
        earlier: the run's history so far, so that a resumed run's best and curve are the whole run's.
    """

    def __init__(
        self,
        stream: TextIO | None = None,
        live: bool | None = None,
        width: int | None = None,
        earlier: Iterable[Event] = (),
    ) -> None:
        self._earlier = list(earlier)
        self._stream = sys.stdout if stream is None else stream
        capable = self._stream.isatty() and os.environ.get("TERM") != "dumb"
        self._live = capable if live is None else live
        self._colour = self._live and not os.environ.get("NO_COLOR")
        self._width = width
        self._line_shown = False
        self._gone = False  # who watched
        self._start: RunStarted | None = None
        self._forget()

    def _forget(self) -> None:
        """Begin a stage: nothing has been seen of it."""
        self._losses: list[float] = []  # or rewards
        self._watched = "loss"
        self._best: tuple[float, int] | None = None
        self._unseen = 0  # steps before these were not told here
        self._first: StepDone | None = None  # the step from which the pace is taken
        self._pace = 0.0
        self._last: StepDone | None = None
        self._drawn = self._printed = -math.inf
        self._printed_step = 0

    def __call__(self, event: Event) -> None:
        """Show the event."""
        if isinstance(event, RunStarted):
            self._begin(event)
        elif isinstance(event, StepDone):
            self._step(event)
        elif isinstance(event, Evaluated):
            self._evaluated(event)
        elif isinstance(event, Scored):
            self._scored(event)
        elif isinstance(event, Sampled):
            self._sampled(event)
        elif isinstance(event, Saved):
            self._above(f"{self._at(event)}saved {event.path} in {event.seconds:.1f}s", "dim")
        elif isinstance(event, Resumed):
            self._remember(event.step)
            self._above(f"  going on after step {event.step:,}, from {event.path}")
        elif isinstance(event, Anomaly):
            self._above(f"{self._at(event)}! {_one_line(event.what)}", "yellow")
        elif isinstance(event, RunEnded):
            self._end(event)

    def close(self) -> None:
        """Leave the terminal's cursor on a line of its own."""
        if self._line_shown:
            self._write("\n")
            self._line_shown = False

    # What is said of each event.

    def _begin(self, start: RunStarted) -> None:
        self._start = start
        self._forget()
        tokens = counted(start.total_steps * start.tokens_per_step)
        self._above(f"{start.recipe} · {start.stage}", "bold")
        size = f"{start.total_steps:,} steps × {counted(start.tokens_per_step)} tokens = {tokens} tokens"
        rows = {"model": f"{counted(start.parameters)} parameters", "run": size}
        if start.device and "device" not in start.reasons:
            rows["device"] = start.device
        rows.update(start.reasons)
        indent = max(map(len, rows)) + 2
        for name, line in rows.items():
            self._above(f"  {name:<{indent}}{line}")
        if start.step:
            self._remember(start.step)
        if self._live:
            self._draw("  preparing the first step …")

    def _remember(self, step: int) -> None:
        """Take in what the stage's earlier processes told of the steps up to `step`."""
        self._losses, self._best, self._unseen = [], None, step
        stage = ""
        for event in effective(self._earlier):
            stage = event.stage if isinstance(event, RunStarted) else stage
            if self._start is None or stage != self._start.stage or event.step > step:
                continue
            if isinstance(event, StepDone):
                self._take(event)
                self._unseen = 0
            elif isinstance(event, Evaluated):
                self._is_best(event)

    def _step(self, step: StepDone) -> None:
        self._take(step)
        self._last = step
        if self._first is None:
            self._first = step  # its time includes compilation, so the pace is taken from here
        else:
            self._pace = (step.time - self._first.time) / max(1, step.step - self._first.step)
        last = self._start is not None and step.step >= self._start.total_steps
        if self._live:
            if last or step.time - self._drawn >= REDRAW_SECONDS:
                self._drawn = step.time
                self._draw_status(step)
        elif last or self._due(step):
            self._printed, self._printed_step = step.time, step.step
            self._above(self._status(step, bar=False))

    def _take(self, step: StepDone) -> None:
        """Keep what tells how the stage goes: its reward where it has one (the loss is then about 0), or its loss."""
        self._watched = "reward" if "rlvr/reward" in step.metrics else "loss"
        name = "rlvr/reward" if self._watched == "reward" else "train/loss"
        self._losses.append(step.metrics.get(name, math.nan))

    def _due(self, step: StepDone) -> bool:
        if self._printed == -math.inf:
            return True
        total = self._start.total_steps if self._start else 0
        advanced = 100 * (step.step - self._printed_step) / total >= QUIET_PERCENT if total else False
        waited = step.time - self._printed
        return waited >= QUIET_SECONDS or (advanced and waited >= 1)

    def _status(self, step: StepDone, bar: bool) -> str:
        total = self._start.total_steps if self._start else 0
        share = min(1.0, step.step / total) if total else 0.0
        filled = round(BAR * share)
        parts = [f"{self._count(step.step)}/{total:,}  {int(100 * share):>3}%" if total else f"{step.step:,}"]
        if bar and total:
            parts.insert(0, "━" * filled + "─" * (BAR - filled))
        for name, shown in HEADLINES.items():
            if name in step.metrics:
                parts.append(f"{shown} {step.metrics[name]:.3f}")
        speed = step.metrics.get("train/tokens_per_sec")
        if speed is not None:
            parts.append(f"{_speed(speed)} tokens/s")
        if "train/mfu" in step.metrics:
            parts.append(f"MFU {100 * step.metrics['train/mfu']:.1f}%")
        left = self._left(step)
        if left is not None:
            parts.append(f"{duration(left)} left")
        return "  " + "  ".join(parts)

    def _count(self, step: int) -> str:
        """A step number, as wide as the last one will be."""
        total = self._start.total_steps if self._start else 0
        return f"{step:>{len(f'{total:,}')},}"

    def _at(self, event: Event) -> str:
        """The start of an event's line; in a plain log its text stands under that of the steps."""
        count = self._count(event.step)
        return f"  step {count}  " if self._live else f"  {count}{' ' * (len(count) + 9)}"

    def _left(self, step: StepDone) -> float | None:
        """Seconds until the stage is done, by the pace so far (evaluations and saves included)."""
        if self._start is None or self._pace <= 0 or step.step >= self._start.total_steps:
            return None
        return (self._start.total_steps - step.step) * self._pace

    def _evaluated(self, event: Evaluated) -> None:
        first = self._best is None
        note = "  best so far" if self._is_best(event) and not first and not self._unseen else ""
        metrics = {name: value for name, value in event.metrics.items() if not name.endswith(LEFT_OUT)}
        shown = "  ".join(_metric(name, value) for name, value in _in_order(metrics))
        self._above(f"{self._at(event)}{shown}{note}", "green")

    def _is_best(self, event: Evaluated) -> bool:
        name, sign = ("val/reward", -1) if "val/reward" in event.metrics else ("val/loss", 1)
        value = event.metrics.get(name, math.nan)
        better = math.isfinite(value) and (self._best is None or sign * value < sign * self._best[0])
        if better:
            self._best = (value, event.step)
        return better

    def _scored(self, event: Scored) -> None:
        """What a stage came to; the whole board is shown at the end."""
        known = {name.removeprefix("score/"): value for name, value in event.metrics.items()}
        shown = [
            f"{n} {v:.2f}" if n.startswith("perplexity") else f"{n} {100 * v:.1f}%" for n, v in known.items()
        ]
        for line in textwrap.wrap(
            f"{event.stage} on held-out items: {', '.join(shown)}", self._columns() - 4
        ):
            self._above(f"  {line}", "green")

    def _sampled(self, event: Sampled) -> None:
        width = min(self._columns(), 100) - 4
        text = _printable(event.prompt) + _printable(event.text)
        lines = [part for line in text.splitlines() for part in textwrap.wrap(line, width - 8)]
        if len(lines) > SAMPLE_LINES:
            lines = [*lines[:SAMPLE_LINES], "…"]
        self._above(f"{self._at(event)}the model writes")
        for line in lines:
            self._above(f"        {line}", "italic")

    def _end(self, end: RunEnded) -> None:
        self.close()
        self._last = None
        facts = [f"{end.step:,} step{'s' * (end.step != 1)}", duration(end.seconds)]
        final = [value for value in self._losses[-max(1, len(self._losses) // 50) :] if math.isfinite(value)]
        if final:
            facts.append(f"train {self._watched} {sum(final) / len(final):.3f}")
        if self._best:
            since = f" (seen since step {self._unseen:,})" if self._unseen else ""
            facts.append(f"best val {self._watched} {self._best[0]:.3f} at step {self._best[1]:,}{since}")
        self._above(f"{_one_line(end.reason)} · {' · '.join(facts)}", "bold")
        known = [value for value in self._losses if math.isfinite(value)]
        if len(known) > 3:
            logs = self._watched == "loss" and min(known) > 0
            heights = [math.log(value) if logs else value for value in self._losses]
            self._above(f"  {self._watched} {known[0]:.2f} {sparkline(heights)} {known[-1]:.2f}")

    # How it is written.

    def _above(self, line: str, style: str = "") -> None:
        """A line that stays, above the one that moves."""
        if self._line_shown:
            self._write("\r\x1b[K")
            self._line_shown = False
        self._write(self._styled(line, style) + "\n")
        if self._live and self._last and self._start and self._last.step < self._start.total_steps:
            self._draw_status(self._last)

    def _draw_status(self, step: StepDone) -> None:
        line = self._status(step, bar=True)
        self._draw(line if len(line) < self._columns() else self._status(step, bar=False))

    def _draw(self, line: str) -> None:
        self._write("\r" + line[: self._columns() - 1] + "\x1b[K")
        self._line_shown = True

    def _styled(self, text: str, style: str) -> str:
        codes = {"bold": "1", "dim": "2", "italic": "3", "green": "32", "yellow": "33"}
        return f"\x1b[{codes[style]}m{text}\x1b[0m" if self._colour and style else text

    def _write(self, text: str) -> None:
        if self._gone:
            return
        encoding = getattr(self._stream, "encoding", None) or "utf-8"
        try:
            text.encode(encoding)
        except UnicodeEncodeError:
            text = text.translate(_PLAIN).encode(encoding, "replace").decode(encoding)
        try:
            self._stream.write(text)
            self._stream.flush()
        except OSError:  # nobody reads any more; the run goes on
            self._gone = True

    def _columns(self) -> int:
        return self._width or shutil.get_terminal_size((100, 24)).columns


def _speed(value: float) -> str:
    return counted(value) if value >= 1e6 else f"{value:,.0f}"


def _in_order(metrics: Mapping[str, float]) -> list[tuple[str, float]]:
    """val/loss and val/ppl first, the rest as given."""
    first = [name for name in ("val/loss", "val/ppl") if name in metrics]
    return [(name, metrics[name]) for name in (*first, *(n for n in metrics if n not in first))]


def _metric(name: str, value: float) -> str:
    """`val/loss` 2.4512 as "val loss 2.451"."""
    digits = 2 if name.endswith("ppl") else 3
    shown = f"{value:,.{digits}f}" if abs(value) < 1e6 else f"{value:.2e}"
    return f"{name.replace('/', ' ')} {shown}"


def _printable(text: str) -> str:
    """Text without control characters: what a model writes must not steer the terminal."""
    return re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", "�", text.replace("\r\n", "\n"))


def _one_line(text: str) -> str:
    return " ".join(_printable(text).split())
