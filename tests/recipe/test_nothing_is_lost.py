"""A failure beside the training itself costs no step: in an evaluation, a sampler, a picture, a scoreboard."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

import lives
import tiny
from linnet.config import RequestError, RunError
from linnet.infer import Generator
from linnet.observe import Anomaly, Sampled, StepDone
from linnet.recipe import live
from linnet.recipe.scores import Scorer
from linnet.train.engines import LocalEngine

STEPS = 8
SHORT = (f"pretrain.duration={STEPS} steps", "pretrain.save_steps=0", "pretrain.eval_steps=5")
TWO = (
    "stages=[pretrain, sft]",
    "pretrain.duration=2 steps",
    "pretrain.warmup_steps=0",
    "sft.duration=2 steps",
)
LONG = "The red fox walked to the old mill. " * 40


def anomalies(run: Path) -> list[str]:
    return [event.what for event in tiny.told(run) if isinstance(event, Anomaly)]


def saved(run: Path) -> list[str]:
    return sorted(path.name for path in tiny.checkpoints(run).glob("step-*"))


# --- sample prompts ----------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", ["pretrain", "sft", "dpo", "rlvr", "domain"])
def test_a_sample_prompt_that_fills_the_context_is_refused_before_anything_is_done(
    stage: str, tmp_path: Path
) -> None:
    prompts = f'{stage}.sample_prompts=["The fox", "{LONG}"]'
    recipe = lives.recipe(tmp_path, prompts, f"{stage}.sample_tokens=4")
    with pytest.raises(
        RequestError, match=rf"{stage}\.sample_prompts: prompt 2 has .* in the model's 128; sho"
    ):
        live(recipe, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_sample_prompt_is_not_looked_at_where_no_sample_is_drawn(corpus: Path, tmp_path: Path) -> None:
    recipe = tiny.recipe(corpus, tmp_path, *SHORT, f'pretrain.sample_prompts=["{LONG}"]')
    assert live(recipe, tmp_path / "run") == "finished"


@pytest.mark.parametrize("error", [RequestError("no room"), RuntimeError("of a\nkernel"), MemoryError()])
def test_a_sampler_that_fails_never_stops_a_run(
    error: Exception, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise error

    recipe = tiny.recipe(corpus, tmp_path, *SHORT, "pretrain.sample_tokens=4")
    monkeypatch.setattr(Generator, "generate", fails)
    assert live(recipe, tmp_path / "run") == "finished"
    told = [line for line in anomalies(tmp_path / "run") if line.startswith("no samples were drawn: ")]
    assert len(told) == 2
    assert "\n" not in told[0]
    assert not [event for event in tiny.told(tmp_path / "run") if isinstance(event, Sampled)]
    assert sorted(tiny.evaluations(tmp_path / "run")) == [5, STEPS]


# --- failures in the loop ----------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "step"), [("evaluate", 5), ("accumulate", 7)])
def test_a_failure_between_steps_loses_no_step(
    method: str, step: int, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, run = tiny.recipe(corpus, tmp_path, *SHORT), tmp_path / "run"
    live(recipe, tmp_path / "whole")
    works, calls = getattr(LocalEngine, method), list[int]()

    def fails(*arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == (1 if method == "evaluate" else step + 1):
            raise RuntimeError("a kernel failed")
        return works(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(LocalEngine, method, fails)
        with pytest.raises(RuntimeError, match="a kernel failed"):
            live(recipe, run)
    assert f"step-{step:08d}" in saved(run)
    assert live(recipe, run) == "finished"
    tiny.assert_same_run(tmp_path / "whole", run, STEPS)


def test_a_failure_within_an_update_saves_nothing_half_done(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, run, update = tiny.recipe(corpus, tmp_path, *SHORT), tmp_path / "run", LocalEngine.update
    live(recipe, tmp_path / "whole")
    calls = list[int]()

    def half(*arguments: Any) -> Any:
        calls.append(1)
        done = update(*arguments)
        if len(calls) == 7:
            raise RuntimeError("after the update")
        return done

    with monkeypatch.context() as patched:
        patched.setattr(LocalEngine, "update", half)
        with pytest.raises(RuntimeError, match="after the update"):
            live(recipe, run)
    assert "step-00000007" not in saved(run)
    assert live(recipe, run) == "finished"
    tiny.assert_same_run(tmp_path / "whole", run, STEPS)


# --- what is done after a stage ----------------------------------------------------------------------


def failing(monkeypatch: pytest.MonkeyPatch, title: str, error: Exception) -> None:
    """Measuring the stage of this name fails."""
    measure = Scorer.measure

    def fails(scorer: Scorer, stage: str, folder: Path, step: int) -> Any:
        if stage == title:
            raise error
        return measure(scorer, stage, folder, step)

    monkeypatch.setattr(Scorer, "measure", fails)


def test_a_stage_that_cannot_be_measured_is_kept_and_measured_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, run = lives.recipe(tmp_path, *TWO), tmp_path / "run"
    with monkeypatch.context() as patched:
        failing(patched, "pretrain", ConnectionError("the judge\ndoes not answer"))
        with pytest.raises(RunError, match=r"pretrain could not be measured .*the same command measures it"):
            live(recipe, run)
    steps = {
        stage: [e for e in events if isinstance(e, StepDone)] for stage, events in lives.told(run).items()
    }
    assert {stage: len(some) for stage, some in steps.items()} == {"pretrain": 2, "sft": 2}
    assert any("the run goes on" in line for line in anomalies(run))
    assert not (run / "stages/1-pretrain/scores.json").exists()
    lines = tiny.lines_of(run / "events.jsonl")
    assert live(recipe, run) == "finished"
    assert (run / "stages/1-pretrain/scores.json").exists()
    again = (run / "events.jsonl").read_text().splitlines()[lines:]
    assert not [line for line in again if '"event": "step"' in line], "nothing is trained again"


def test_a_gate_that_cannot_be_told_is_not_passed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = (
        "safety.gate=true",
        "safety.min_refusal=0",
        "safety.max_over_refusal=1",
        "safety.duration=2 steps",
    )
    recipe, run = lives.recipe(tmp_path, *TWO[1:], "stages=[pretrain, safety, sft]", *gate), tmp_path / "run"
    with monkeypatch.context() as patched:
        failing(patched, "safety", RequestError("the judge is not there"))
        with pytest.raises(RunError, match=r"safety could not be measured .*safety is trained and saved"):
            live(recipe, run)
    assert not (run / "stages" / "3-sft").exists()
    assert live(recipe, run) == "finished"
    assert (run / "stages/2-safety/scores.json").exists()


def test_a_stages_picture_that_cannot_be_drawn_does_not_stop_the_life(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(events: Path, picture: Path, stage: str | None = None) -> None:
        if "stages" in picture.parts:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(sys.modules["linnet.recipe.live"], "draw", fails)
    assert live(lives.recipe(tmp_path, *TWO), tmp_path / "run") == "finished"
    assert sum("the curves cannot be drawn" in line for line in anomalies(tmp_path / "run")) == 2
