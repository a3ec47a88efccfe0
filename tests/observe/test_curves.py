"""The picture of a run, and the numbers it is made of."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from linnet.config import RequestError
from linnet.observe import (
    Anomaly,
    Evaluated,
    Event,
    EventLog,
    Resumed,
    RunStarted,
    StepDone,
    counted,
    draw,
    duration,
    history,
    smoothed,
    sparkline,
)


def started(step: int = 0, stage: str = "pretrain") -> RunStarted:
    return RunStarted(
        step, recipe="quickstart", total_steps=100, parameters=10**6, tokens_per_step=4096, stage=stage
    )


def step(number: int, loss: float) -> StepDone:
    metrics = {"train/loss": loss, "train/lr": 1e-3, "train/grad_norm": 1.0, "train/tokens_per_sec": 1e4}
    return StepDone(number, metrics)


def falling(first: int, last: int, top: float = 10.0) -> list[Event]:
    return [step(number, 1 + (top - 1) * math.exp(-number / 20)) for number in range(first, last + 1)]


def write(path: Path, events: list[Event]) -> Path:
    log = EventLog(path)
    for event in events:
        log(event)
    log.close()
    return path


def pixels(path: Path) -> np.ndarray:
    from matplotlib.image import imread

    return imread(path)[:, :, :3]


def coloured(image: np.ndarray, hexadecimal: str) -> np.ndarray:
    """Where (row, column) the image has a colour."""
    wanted = np.array([int(hexadecimal[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    return np.argwhere(np.abs(image - wanted).max(axis=2) < 0.02)


def test_the_picture_shows_a_loss_that_falls(tmp_path: Path) -> None:
    events = [
        started(),
        *falling(1, 100),
        Evaluated(50, {"val/loss": 2.0}),
        Evaluated(100, {"val/loss": 1.5}),
    ]
    out = draw(write(tmp_path / "events.jsonl", events), tmp_path / "curves.png")
    image = pixels(out)
    assert image.shape[0] > 600
    assert image.shape[1] > 1000
    train = coloured(image, "#2f6fb3")
    # Without the legend's sample line, which stands in the right half.
    left = train[train[:, 1] < image.shape[1] * 0.5]
    start, middle = left[left[:, 1].argmin()], left[left[:, 1].argmax()]
    assert middle[0] > start[0] + 100  # rows count downwards
    assert len(coloured(image, "#d1495b")) > 50  # validation
    for panel in ("#2a9d8f", "#7b5ea7", "#e0a100"):
        assert len(coloured(image, panel)) > 100
    assert not list(tmp_path.glob("*.part"))


def test_a_resumed_run_is_drawn_as_if_it_had_never_stopped(tmp_path: Path) -> None:
    plain = [started(), *falling(1, 100)]
    lost = [step(number, 500.0) for number in range(61, 81)]  # told, then superseded
    resumed = [started(), *falling(1, 60), *lost, started(60), Resumed(60, path="x"), *falling(61, 100)]
    first = pixels(draw(write(tmp_path / "plain.jsonl", plain), tmp_path / "plain.png"))
    second = pixels(draw(write(tmp_path / "resumed.jsonl", resumed), tmp_path / "resumed.png"))
    assert np.array_equal(first, second)


@pytest.mark.parametrize(
    "events",
    [
        [step(1, 3.0)],
        [started(), step(1, math.nan), step(2, math.inf)],
        [started(), StepDone(1, {}), Evaluated(1, {"val/loss": math.nan})],
        [started(), *falling(1, 50), step(51, math.nan), Anomaly(51, what="x"), *falling(52, 60)],
        [started(), *[step(number, -0.1 * number) for number in range(30)]],
    ],
    ids=["no start, one step", "nothing finite", "no metrics", "a gap", "negative"],
)
def test_odd_runs_are_drawn_too(tmp_path: Path, events: list[Event]) -> None:
    out = draw(write(tmp_path / "events.jsonl", events), tmp_path / "curves.png")
    assert pixels(out).std() > 0.01


def test_a_spike_does_not_flatten_the_curve(tmp_path: Path) -> None:
    events = [started(), *falling(1, 400)]
    events[300] = step(300, 1e6)
    image = pixels(draw(write(tmp_path / "events.jsonl", events), tmp_path / "curves.png"))
    train = coloured(image, "#2f6fb3")
    rows = train[train[:, 1] < image.shape[1] * 0.5][:, 0]
    assert rows.max() - rows.min() > 150


def test_a_stage_is_drawn_by_its_own_history() -> None:
    events = [started(), *falling(1, 9), started(stage="sft"), *falling(1, 4)]
    assert len(history(events).steps) == 4
    assert len(history(events, "pretrain").steps) == 9
    assert history(events, "pretrain").metric("train/lr") == (list(range(1, 10)), [1e-3] * 9)
    with pytest.raises(RequestError, match="no stage 'dpo'; it has pretrain, sft"):
        history(events, "dpo")


def test_a_run_without_steps_cannot_be_drawn(tmp_path: Path) -> None:
    path = write(tmp_path / "events.jsonl", [started()])
    with pytest.raises(RequestError, match="nothing to draw"):
        draw(path, tmp_path / "curves.png")
    assert not (tmp_path / "curves.png").exists()


def test_smoothing_is_the_mean_around_each_value() -> None:
    values = [float(value % 7) for value in range(100)]
    smooth = smoothed(values, 7)
    assert smooth[50] == pytest.approx(np.mean(values[43:58]))
    assert smooth[99] == pytest.approx(np.mean(values[92:]))
    assert smooth[0] == values[0]
    straight = [3.0 - 0.01 * index for index in range(100)]
    assert smoothed(straight, 10)[60] == pytest.approx(straight[60])  # it does not lag


def test_smoothing_passes_over_what_is_not_finite() -> None:
    values = [1.0] * 20 + [math.nan, math.inf] + [1.0] * 20
    assert smoothed(values, 4) == pytest.approx([1.0] * 42)
    assert math.isnan(smoothed([math.nan], 4)[0])


def test_a_sparkline_goes_from_high_to_low() -> None:
    assert sparkline([8, 7, 6, 5, 4, 3, 2, 1]) == "█▇▆▅▄▃▂▁"
    assert sparkline([1, math.nan, 2]) == "▁×█"
    assert sparkline([2, 2]) == "▁▁"
    assert sparkline([]) == ""
    assert sparkline([math.nan]) == "×"
    long = sparkline([1000 - index for index in range(1000)], width=16)
    assert long == "██▇▇▆▆▅▅▄▄▃▃▂▂▁▁"


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0"), (950, "950"), (999.9, "1K"), (12_345, "12.3K"), (29_960_000, "30M"), (1.32e9, "1.32B")],
)
def test_counts_are_short(number: float, text: str) -> None:
    assert counted(number) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-1, "0s"), (8.4, "8s"), (185, "3m 05s"), (3599.7, "1h 00m"), (7800, "2h 10m"), (273600, "3d 4h")],
)
def test_time_spans_are_short(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def life() -> list[Event]:
    """Three stages: a loss, pairs with their accuracy, and a reward."""
    events: list[Event] = [started(), *falling(1, 60), Evaluated(60, {"val/loss": 1.4})]
    events.append(started(stage="dpo"))
    for number in range(1, 31):
        metrics = {"train/loss": 0.7 - 0.01 * number, "dpo/accuracy": 0.5 + 0.01 * number}
        events.append(StepDone(number, metrics))
    events.append(started(stage="rlvr"))
    for number in range(1, 31):
        metrics = {"train/loss": 0.0, "rlvr/reward": 0.3 + 0.02 * number, "rlvr/length": 9.0}
        events.append(StepDone(number, metrics))
    return [*events, Evaluated(30, {"val/reward": 0.9}), Anomaly(30, "odd")]


def test_a_runs_picture_shows_all_its_stages_from_the_first_to_the_last(tmp_path: Path) -> None:
    path = write(tmp_path / "events.jsonl", life())
    image = pixels(draw(path, tmp_path / "curves.png"))
    bands = np.array_split(np.arange(image.shape[0] // 7, image.shape[0]), 3)  # below the title
    train, validation = coloured(image, "#2f6fb3"), coloured(image, "#d1495b")
    for band in bands:
        assert np.isin(train[:, 0], band).sum() > 500, "each stage has its curve in a row of its own"
    assert np.isin(validation[:, 0], bands[0]).any()
    assert np.isin(validation[:, 0], bands[2]).any()
    assert not np.isin(validation[:, 0], bands[1]).any()
    for band, colour in zip(bands, ("#7b5ea7", "#e0a100", "#2a9d8f"), strict=True):
        assert np.isin(coloured(image, colour)[:, 0], band).sum() > 100, "gradient norm, accuracy, length"


def test_a_stage_of_several_keeps_a_picture_of_its_own(tmp_path: Path) -> None:
    path = write(tmp_path / "events.jsonl", life())
    one = pixels(draw(path, tmp_path / "dpo.png", "dpo"))
    alone = write(tmp_path / "one.jsonl", life()[62:93])
    assert np.array_equal(one, pixels(draw(alone, tmp_path / "alone.png")))


def test_a_run_of_one_stage_has_the_stages_picture(tmp_path: Path) -> None:
    path = write(tmp_path / "events.jsonl", [started(), *falling(1, 30)])
    whole, stage = draw(path, tmp_path / "run.png"), draw(path, tmp_path / "stage.png", "pretrain")
    assert whole.read_bytes() == stage.read_bytes()


def test_a_short_run_is_drawn_whole() -> None:
    """The losses of a few steps are all within the axes, the highest too."""
    from linnet.observe.overview import run_figure

    losses = [0.69, 0.70, 0.66, 0.74, 0.71]
    events = [started(), *(step(n, loss) for n, loss in enumerate(losses, 1))]
    figure = run_figure({"dpo": history(events)})
    low, high = figure.axes[0].get_ylim()
    assert low < min(losses)
    assert max(losses) < high
