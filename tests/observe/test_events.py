"""Events as flat JSON, and observers that cannot stop a run."""

from __future__ import annotations

import json
import math

import pytest

from linnet.observe import (
    Anomaly,
    Evaluated,
    Event,
    Observers,
    Resumed,
    RunEnded,
    RunStarted,
    Sampled,
    Saved,
    StepDone,
    from_record,
    to_record,
)

EVENTS = [
    RunStarted(
        0,
        recipe="quickstart",
        total_steps=100,
        parameters=3_000_000,
        tokens_per_step=4096,
        stage="pretrain",
        device="a CPU",
        reasons={"precision": "fp32: this CPU has no bf16 arithmetic"},
        time=1.0,
    ),
    StepDone(1, {"train/loss": 5.25, "train/lr": 1e-3, "train/tokens": 4096}, time=2.0),
    Evaluated(1, {"val/loss": 5.5, "val/ppl": 244.7}, time=3.0),
    Sampled(1, prompt="NaN", text="Infinity \u2028 and\nmore", time=3.5),
    Saved(1, path="stages/1-pretrain/checkpoints/step-00000001", seconds=0.25, time=4.0),
    Resumed(1, path="stages/1-pretrain/checkpoints/step-00000001", time=5.0),
    Anomaly(2, what="loss is not finite", time=6.0),
    RunEnded(2, reason="finished", seconds=1.5, time=7.0),
]


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.kind)
def test_an_event_comes_back_from_its_json(event: Event) -> None:
    assert from_record(json.loads(json.dumps(to_record(event), allow_nan=False))) == event


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.kind)
def test_a_record_is_flat_and_begins_with_what_when_and_where(event: Event) -> None:
    record = to_record(event)
    assert list(record)[:3] == ["event", "time", "step"]
    assert all(value is None or isinstance(value, str | int | float) for value in record.values())


def test_metrics_stand_under_their_own_names() -> None:
    assert to_record(EVENTS[1]) == {
        "event": "step",
        "time": 2.0,
        "step": 1,
        "train/loss": 5.25,
        "train/lr": 1e-3,
        "train/tokens": 4096,
    }


def test_numbers_that_json_lacks_survive_it() -> None:
    metrics = {"train/loss": math.nan, "train/grad_norm": math.inf, "low": -math.inf}
    text = json.dumps(to_record(StepDone(3, metrics)), allow_nan=False)
    assert '"train/loss": "NaN"' in text
    back = from_record(json.loads(text))
    assert isinstance(back, StepDone)
    assert math.isnan(back.metrics["train/loss"])
    assert back.metrics["train/grad_norm"] == math.inf
    assert back.metrics["low"] == -math.inf


def test_what_a_later_version_adds_is_passed_over() -> None:
    assert from_record({"event": "teleported", "step": 1, "time": 0.0}) is None
    more = {"event": "saved", "step": 1, "time": 0.0, "path": "x", "seconds": 1.0, "new": 2}
    assert from_record(more) == Saved(1, path="x", seconds=1.0, time=0.0)


def test_a_record_that_lacks_what_it_should_have_is_no_event() -> None:
    assert from_record({"no": "event"}) is None
    assert from_record({"event": "saved", "step": 1}) is None
    assert from_record({"event": "step", "step": 1, "time": 0.0, "train/loss": "high"}) is None


def test_a_failing_observer_is_told_once_and_stops_nobody() -> None:
    seen: list[Event] = []
    told: list[str] = []

    class Broken:
        calls = 0

        def __call__(self, event: Event) -> None:
            self.calls += 1
            raise OSError("no space left\non device")

        def close(self) -> None:
            raise ValueError("already closed")

    broken = Broken()
    observers = Observers(broken, seen.append, tell=told.append)
    for event in EVENTS:
        observers(event)
    observers.close()
    assert seen == EVENTS
    assert broken.calls == len(EVENTS)
    assert told == [
        "Broken could not take note of an event (OSError: no space left on device); the run goes on"
    ]


def test_a_request_to_stop_is_not_swallowed() -> None:
    def interrupted(event: Event) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Observers(interrupted)(EVENTS[0])


def test_the_time_is_taken_when_the_event_happens() -> None:
    first = StepDone(1, {})
    second = StepDone(1, {})
    assert 0 < first.time <= second.time
