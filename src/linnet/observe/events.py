"""What a run says about itself, and how it is written down.

The training loop knows no terminal, file or web page: it hands each event to an observer and
goes on. An event is one flat JSON object, so that `grep`, `jq` and a data frame read a run
without this package. Numbers that JSON cannot hold are written as the strings "NaN",
"Infinity" and "-Infinity", which both Python's `float()` and JavaScript's `Number()` read back.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import sys
import time as clock
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, get_type_hints

JsonValue = str | int | float | bool | None


@dataclass(frozen=True)
class Event:
    """Something that happened at a step.

    Attributes:
        step: optimizer steps done when it happened.
        time: seconds since 1970.
    """

    step: int
    time: float = field(default_factory=clock.time, kw_only=True)
    kind: ClassVar[str] = ""


@dataclass(frozen=True)
class RunStarted(Event):
    """A stage of a run begins, or goes on (`step` > 0).

    Attributes:
        recipe: name of the recipe.
        total_steps: the step at which the stage will be done.
        parameters: of the model, embeddings included, each tied weight once.
        tokens_per_step: tokens in one optimizer step over all devices.
        stage: name of the stage.
        device: the device as a line for people.
        reasons: what was picked for the machine and why, by setting ("precision": "bf16: ...").
    """

    recipe: str
    total_steps: int
    parameters: int
    tokens_per_step: int
    stage: str = "pretrain"
    device: str = ""
    reasons: Mapping[str, str] = field(default_factory=dict)
    kind: ClassVar[str] = "run_started"


@dataclass(frozen=True)
class StepDone(Event):
    """An optimizer step is done; `metrics` by name, such as `train/loss`."""

    metrics: Mapping[str, float]
    kind: ClassVar[str] = "step"


@dataclass(frozen=True)
class Evaluated(Event):
    """The model was evaluated on held-out data; `metrics` by name, such as `val/loss`."""

    metrics: Mapping[str, float]
    kind: ClassVar[str] = "evaluated"


@dataclass(frozen=True)
class Scored(Event):
    """What a stage came to on held-out suites; `metrics` by name, such as `score/preference/accuracy`.

    Attributes:
        stage: whose model was measured.
    """

    metrics: Mapping[str, float]
    stage: str = ""
    kind: ClassVar[str] = "scored"


@dataclass(frozen=True)
class Sampled(Event):
    """The model wrote `text` after `prompt`."""

    prompt: str
    text: str
    kind: ClassVar[str] = "sampled"


@dataclass(frozen=True)
class Saved(Event):
    """A checkpoint is on disk, whole, after `seconds`."""

    path: str
    seconds: float
    kind: ClassVar[str] = "saved"


@dataclass(frozen=True)
class Resumed(Event):
    """The stage goes on after `step`, from the checkpoint at `path`."""

    path: str
    kind: ClassVar[str] = "resumed"


@dataclass(frozen=True)
class Anomaly(Event):
    """Something that a person should know of; `what` is one line."""

    what: str
    kind: ClassVar[str] = "anomaly"


@dataclass(frozen=True)
class RunEnded(Event):
    """The stage is over in this process.

    Attributes:
        reason: "finished", "early stopping", "stopped" (on request), or "failed: ...".
        seconds: wall time of this process's part.
    """

    reason: str
    seconds: float
    kind: ClassVar[str] = "run_ended"


KINDS: dict[str, type[Event]] = {
    event.kind: event
    for event in (RunStarted, StepDone, Evaluated, Scored, Sampled, Saved, Resumed, Anomaly, RunEnded)
}


def to_record(event: Event) -> dict[str, JsonValue]:
    """The event as a flat object: `event`, `time`, `step`, then its fields; metrics under their names."""
    record: dict[str, JsonValue] = {"event": event.kind, "time": round(event.time, 3), "step": event.step}
    for name, value in ((f.name, getattr(event, f.name)) for f in dataclasses.fields(event)):
        if name == "metrics":
            record.update({metric: _number(number) for metric, number in value.items()})
        elif name == "reasons":
            record.update({f"reasons/{key}": line for key, line in value.items()})
        elif name not in record:
            record[name] = _number(value) if isinstance(value, float) else value
    return record


def from_record(record: Mapping[str, Any]) -> Event | None:
    """The event of a record, or None for a kind or a shape that this version does not know."""
    kind = KINDS.get(record.get("event", ""))
    if kind is None:
        return None
    types = _types(kind.kind)
    values: dict[str, Any] = {}
    rest: dict[str, Any] = {}
    try:
        for key, value in record.items():
            if key in types:
                values[key] = float(value) if types[key] is float else value
            elif key != "event":
                rest[key] = value
        if "metrics" in types:
            values["metrics"] = {name: float(value) for name, value in rest.items()}
        if "reasons" in types:
            lines = ((name.removeprefix("reasons/"), value) for name, value in rest.items())
            values["reasons"] = dict(lines)
        return kind(**values)
    except (TypeError, ValueError):
        return None


@functools.cache
def _types(kind: str) -> dict[str, Any]:
    return get_type_hints(KINDS[kind])


def _number(value: float) -> JsonValue:
    value = value if isinstance(value, int) else float(value)  # 0-d arrays and tensors too
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


class Observer(Protocol):
    """Whatever watches a run. It must not change the run."""

    def __call__(self, event: Event, /) -> None:
        """Take note of an event."""


def _to_stderr(line: str) -> None:
    with suppress(BrokenPipeError):
        print(line, file=sys.stderr, flush=True)


class Observers:
    """Hands each event to every observer. A failing observer never stops the run.

    A failure is told once for each observer; it still gets later events, since a full disk or a
    lost connection may pass.
    """

    def __init__(self, *observers: Observer, tell: Callable[[str], None] = _to_stderr) -> None:
        self._observers = observers
        self._tell = tell
        self._told: set[int] = set()

    def __call__(self, event: Event) -> None:
        """Hand the event on."""
        for index, observer in enumerate(self._observers):
            try:
                observer(event)
            except Exception as error:
                self._failed(index, observer, error)

    def close(self) -> None:
        """Close the observers that can be closed."""
        for index, observer in enumerate(self._observers):
            try:
                getattr(observer, "close", lambda: None)()
            except Exception as error:
                self._failed(index, observer, error)

    def _failed(self, index: int, observer: Observer, error: Exception) -> None:
        if index in self._told:
            return
        self._told.add(index)
        name = getattr(observer, "__name__", type(observer).__name__)
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        try:
            self._tell(f"{name} could not take note of an event ({reason}); the run goes on")
        except Exception:  # a closed stderr is no reason to stop either
            return
