"""A stage of rewards is watched by its reward: its loss is about 0 however things go."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from linnet.observe import Console, Evaluated, Event, RunEnded, RunStarted, StepDone, draw
from linnet.observe.jsonl import EventLog

STEPS = 40


def events() -> list[Event]:
    """A loss that wavers around 0 and a reward that rises."""
    begun = RunStarted(
        0, recipe="small", total_steps=STEPS, parameters=1000, tokens_per_step=64, stage="rlvr", time=0.0
    )
    told: list[Event] = [begun]
    for step in range(1, STEPS + 1):
        metrics = {
            "train/loss": 1e-4 * (-1) ** step, "train/grad_norm": 1.0, "rlvr/reward": step / STEPS,
            "rlvr/reward_std": 0.3, "rlvr/length": 9.0, "rlvr/entropy": 1.0,
        }  # fmt: skip
        told.append(StepDone(step, metrics, time=60.0 * step))
    for step, reward in ((10, 0.2), (20, 0.9), (30, 0.6)):
        told.append(Evaluated(step, {"val/reward": reward}, time=60.0 * step + 1))
    return [*sorted(told, key=lambda event: event.time), RunEnded(STEPS, reason="finished", seconds=2400.0)]


def test_the_line_the_curve_and_the_best_are_the_rewards() -> None:
    stream = io.StringIO()
    console = Console(stream, live=False, width=100)
    for event in events():
        console(event)
    lines = stream.getvalue().splitlines()
    steps = [line for line in lines if f"/{STEPS}" in line]
    assert len(steps) > 5
    assert all("reward 0." in line or "reward 1." in line for line in steps)
    (best,) = [line for line in lines if "best so far" in line]
    assert "val reward 0.900" in best
    end = next(line for line in lines if line.startswith("finished"))
    assert "train reward 1.000" in end
    assert "best val reward 0.900 at step 20" in end
    assert lines[-1].strip().startswith("reward 0.03")
    assert lines[-1].strip().endswith("1.00")


def test_the_picture_is_of_the_reward(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    matplotlib = pytest.importorskip("matplotlib.axes")
    shown: dict[str, list[float]] = {}
    plot, label = matplotlib.Axes.plot, matplotlib.Axes.set_ylabel
    labels: list[str] = []

    def seen(axes: object, *given: object, **more: object) -> object:
        values = [float(value) for value in given[1]]  # type: ignore[attr-defined, index]
        shown.setdefault(str(len(values)), []).extend(values)
        return plot(axes, *given, **more)

    def labelled(axes: object, text: str, **more: object) -> object:
        labels.append(text)
        return label(axes, text, **more)

    monkeypatch.setattr(matplotlib.Axes, "plot", seen)
    monkeypatch.setattr(matplotlib.Axes, "set_ylabel", labelled)
    log = EventLog(tmp_path / "events.jsonl")
    for event in events():
        log(event)
    log.close()
    draw(tmp_path / "events.jsonl", tmp_path / "curves.png")
    assert labels[0] == "reward (mean)"
    assert [step / STEPS for step in range(1, STEPS + 1)] == pytest.approx(shown[str(STEPS)][:STEPS])
    assert not any(abs(value) < 1e-3 for values in shown.values() for value in values), (
        "the loss is not drawn"
    )
