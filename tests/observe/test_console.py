"""What a person sees: plain lines in a log, one moving line on a terminal."""

from __future__ import annotations

import io
import re

import pytest

from linnet.observe import (
    Anomaly,
    Console,
    Evaluated,
    Event,
    Resumed,
    RunEnded,
    RunStarted,
    Sampled,
    Saved,
    StepDone,
)


def started(total: int = 200, step: int = 0, stage: str = "pretrain") -> RunStarted:
    return RunStarted(
        step,
        recipe="quickstart",
        total_steps=total,
        parameters=3_200_000,
        tokens_per_step=8192,
        stage=stage,
        device="a CPU, 2 cores",
        reasons={"precision": "bf16: this CPU has AVX-512 BF16"},
        time=0.0,
    )


def step(number: int, seconds: float = 1.0, **more: float) -> StepDone:
    metrics = {"train/loss": 6.0 - number / 50, "train/tokens_per_sec": 12431.0}
    return StepDone(number, {**metrics, **more}, time=number * seconds)


def shown(*events: Event, live: bool = False, width: int = 100, earlier: list[Event] | None = None) -> str:
    stream = io.StringIO()
    console = Console(stream, live=live, width=width, earlier=earlier or [])
    for event in events:
        console(event)
    console.close()
    return stream.getvalue()


def a_run(total: int = 200, seconds: float = 1.0) -> list[Event]:
    steps: list[Event] = [step(number, seconds) for number in range(1, total + 1)]
    return [started(total), *steps, RunEnded(total, reason="finished", seconds=total * seconds)]


def test_a_log_has_no_control_codes_and_tells_the_run_in_order() -> None:
    text = shown(*a_run())
    assert not re.search(r"[\x00-\x09\x0b-\x1f]", text)
    lines = text.splitlines()
    assert lines[0] == "quickstart · pretrain"
    assert lines[1:5] == [
        "  model      3.2M parameters",
        "  run        200 steps × 8.19K tokens = 1.64M tokens",
        "  device     a CPU, 2 cores",
        "  precision  bf16: this CPU has AVX-512 BF16",
    ]
    assert lines[5] == "    1/200    0%  loss 5.980  12,431 tokens/s"
    assert lines[6] == "   11/200    5%  loss 5.780  12,431 tokens/s  3m 09s left"
    assert lines[-3] == "  200/200  100%  loss 2.000  12,431 tokens/s"
    assert lines[-2] == "finished · 200 steps · 3m 20s · train loss 2.030"
    assert re.fullmatch(r"  loss 5\.98 [▁-█]{40} 2\.00", lines[-1])


@pytest.mark.parametrize(
    ("total", "seconds", "least", "most"), [(200, 1.0, 15, 25), (40, 0.1, 2, 6), (3000, 2.0, 90, 110)]
)
def test_a_log_s_rhythm_suits_short_and_long_runs(total: int, seconds: float, least: int, most: int) -> None:
    lines = [line for line in shown(*a_run(total, seconds)).splitlines() if "tokens/s" in line]
    assert least <= len(lines) <= most


def test_the_time_left_comes_from_the_pace_after_the_first_step() -> None:
    slow_start = [started(100), StepDone(1, {"train/loss": 1.0}, time=500.0)]
    text = shown(*slow_start, StepDone(11, {"train/loss": 1.0}, time=520.0))
    assert text.splitlines()[-1].endswith("2m 58s left")  # 89 steps of 2 s


def test_the_terminal_line_is_redrawn_and_events_stay_above_it() -> None:
    saved = Saved(2, path="stages/1-pretrain/checkpoints/step-00000002", seconds=0.44)
    text = shown(started(), step(1), step(2), saved, step(3), live=True)
    assert "\r  ─" in text
    assert "\n\r" not in text.split("step-00000002")[0].split("preparing")[1]
    final = [line.rsplit("\r", 1)[-1].replace("\x1b[K", "") for line in text.splitlines()]
    assert any("saved stages/1-pretrain/checkpoints/step-00000002 in 0.4s" in line for line in final)
    assert final[-1].strip().startswith("─")
    assert "3/200" in final[-1]
    assert final[-1].endswith("3m 17s left")


def test_the_terminal_line_never_wraps() -> None:
    for width in (40, 60, 80, 100):
        text = shown(started(), *[step(number) for number in range(1, 90)], live=True, width=width)
        moving = [part for part in re.split(r"[\r\n]", text) if "/200" in part]
        assert moving
        assert all(len(part.replace("\x1b[K", "")) < width for part in moving)
        assert ("━" in moving[-1]) == (width >= 80)


def test_fast_steps_are_not_all_drawn() -> None:
    text = shown(*a_run(1000, seconds=0.001), live=True)
    assert 5 <= text.count("tokens/s") <= 15
    assert "1,000/1,000  100%" in text


def test_evaluations_say_loss_perplexity_domains_and_the_best() -> None:
    text = shown(
        started(),
        step(1),
        Evaluated(1, {"val/ppl": 20.0855, "val/loss": 3.0, "val/stories/loss": 2.5}),
        Evaluated(2, {"val/loss": 2.0}),
        Evaluated(3, {"val/loss": 2.5}),
        RunEnded(3, reason="early stopping", seconds=3.0),
    )
    lines = text.splitlines()
    assert "    1            val loss 3.000  val ppl 20.09  val stories loss 2.500" in lines
    assert "    2            val loss 2.000  best so far" in lines
    assert "    3            val loss 2.500" in lines
    assert "early stopping · 3 steps · 3s · train loss 5.980 · best val loss 2.000 at step 2" in lines


def test_samples_are_wrapped_shortened_and_cannot_steer_the_terminal() -> None:
    long = " many words" * 200
    text = shown(
        started(),
        Sampled(5, prompt="Once", text=" upon\x1b[2J a\ttime\x9b31m\r"),
        Sampled(6, prompt="So", text=long),
        width=60,
    )
    assert "Once upon�[2J a" in text
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", text)
    after = text.split("the model writes")[2].strip().splitlines()
    assert len(after) == 7
    assert after[-1].strip() == "…"
    assert all(len(line) <= 60 for line in text.splitlines()[5:])


def test_anomalies_are_one_line() -> None:
    assert "    3            ! loss is not finite, step skipped" in shown(
        started(), Anomaly(3, what="loss is not finite,\nstep skipped")
    )


def test_a_resumed_run_s_best_and_curve_are_the_whole_run_s() -> None:
    earlier: list[Event] = [started(), *[step(number) for number in range(1, 101)]]
    earlier += [Evaluated(100, {"val/loss": 1.5}), step(101), Evaluated(101, {"val/loss": 0.1})]
    now = [
        started(step=100),
        Resumed(100, path="step-00000100"),
        step(101),
        Evaluated(200, {"val/loss": 1.9}),
        RunEnded(200, reason="finished", seconds=1.0),
    ]
    told = shown(*now, earlier=earlier)
    assert "going on after step 100, from step-00000100" in told
    assert "best val loss 1.500 at step 100" in told
    assert "  loss 5.98 " in told
    untold = shown(*now)
    assert "best val loss 1.900 at step 200 (seen since step 100)" in untold


def test_a_loss_that_is_not_a_number_is_shown_as_such() -> None:
    events = [step(number) for number in range(1, 6)]
    bad = StepDone(6, {"train/loss": float("nan")}, time=99.0)
    text = shown(started(6), *events, bad, RunEnded(6, reason="failed: no finite loss", seconds=2.0))
    assert "loss nan" in text
    assert "failed: no finite loss · 6 steps" in text
    assert "×" in text.splitlines()[-1]


def test_other_objectives_show_their_own_headline() -> None:
    text = shown(
        started(), StepDone(1, {"train/loss": 0.6931, "dpo/accuracy": 0.75, "train/mfu": 0.412}, time=1.0)
    )
    assert text.splitlines()[-1] == "    1/200    0%  loss 0.693  accuracy 0.750  MFU 41.2%"


def test_a_stage_begins_afresh() -> None:
    text = shown(*a_run(20), started(10, stage="sft"), step(1), RunEnded(1, reason="stopped", seconds=1.0))
    second = text.split("quickstart · sft")[1]
    assert "stopped · 1 step · 1s · train loss 5.980" in second


def test_a_stream_that_knows_only_ascii_gets_ascii() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    console = Console(stream, live=True, width=100)
    for event in a_run(20):
        console(event)
    console(Sampled(20, prompt="café", text=""))
    stream.flush()
    text = raw.getvalue().decode("ascii")
    assert "quickstart - pretrain" in text
    assert "caf?" in text


def test_colours_are_left_out_on_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b[1m" in shown(*a_run(3), live=True)
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[1m" not in shown(*a_run(3), live=True)


class Closed(io.StringIO):
    """A pipe that nobody reads."""

    def write(self, text: str) -> int:
        raise BrokenPipeError(32, "Broken pipe")


@pytest.mark.parametrize("live", [False, True])
def test_a_run_goes_on_when_nobody_watches_it(live: bool) -> None:
    console = Console(Closed(), live=live)
    for event in a_run(3):
        console(event)
    console.close()
