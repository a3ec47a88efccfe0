"""What is interrupted goes on exactly: in an evaluation, before the first step, between a save and its sequel."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import tiny
from linnet.data.training import TrainBatches
from linnet.observe import Evaluated, Event, Saved, StepDone
from linnet.recipe import Recipe, live
from linnet.train.engines import LocalEngine, StopRequested
from linnet.train.engines.scaling import LossScale

STEPS = 10
SHORT = (f"pretrain.duration={STEPS} steps", "pretrain.save_steps=4", "pretrain.eval_steps=5")


def terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def run_with(
    recipe: Recipe, run: Path, step: int, action: Callable[[], None], kind: type[Event] = StepDone
) -> str | None:
    """Live with an action at an event; None when it was the end of it."""
    try:
        return live(recipe, run, lambda _: [tiny.At(step, action, kind)])
    except tiny.Killed:
        return None


def interrupted(recipe: Recipe, run: Path, kills: tuple[int, ...]) -> str:
    """A run that is killed at these steps, one process's life after another."""
    for step in kills:
        assert run_with(recipe, run, step, tiny.kill) is None
    return live(recipe, run)


VARIANTS: dict[str, tuple[str, ...]] = {
    "adamw": (),
    "muon": ("pretrain.optim=muon",),
    "decayed embeddings and wsd": ("pretrain.decay_embeddings=true", "pretrain.lr_scheduler_type=wsd"),
    "fp16": ("hardware.precision=fp16",),
    "bf16": ("hardware.precision=bf16",),
    "gradient checkpointing": ("pretrain.gradient_checkpointing=true", "model.attention_dropout=0.1"),
    "scaled and tied": (
        "model.architecture=smollm3", "model.no_rope_layer_interval=2", "model.scale_embeddings=true",
        "model.initialization=truncated_normal",
    ),
    "gpt2": ("model.architecture=gpt2", "model.num_key_value_heads=null"),
    "qwen3": ("model.architecture=qwen3", "model.head_dim=16"),
}  # fmt: skip


FAST = ("muon", "fp16", "scaled and tied")


@pytest.mark.parametrize(
    "name", [n if n in FAST else pytest.param(n, marks=pytest.mark.slow) for n in VARIANTS]
)
def test_a_killed_run_is_an_uninterrupted_one(name: str, corpus: Path, tmp_path: Path) -> None:
    recipe = tiny.recipe(corpus, tmp_path, *SHORT, *VARIANTS[name])
    assert live(recipe, tmp_path / "whole") == "finished"
    assert interrupted(recipe, tmp_path / "killed", (3, 6, 9)) == "finished"
    tiny.assert_same_run(tmp_path / "whole", tmp_path / "killed", STEPS)
    losses = [loss for loss, _ in tiny.losses(tmp_path / "whole").values()]
    assert losses[-1] < losses[0] - 0.3, "a run that learns nothing would hide a mistake"


def test_stopped_before_its_first_step(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = tiny.recipe(corpus, tmp_path, *SHORT)
    live(recipe, tmp_path / "whole")
    with monkeypatch.context() as patched:
        patched.setattr(LocalEngine, "accumulate", _stop)
        assert live(recipe, tmp_path / "stopped") == "stopped"
    assert [path.name for path in tiny.checkpoints(tmp_path / "stopped").glob("step-*")] == ["step-00000000"]
    assert live(recipe, tmp_path / "stopped") == "finished"
    tiny.assert_same_run(tmp_path / "whole", tmp_path / "stopped", STEPS)


def _stop(*_: Any) -> None:
    raise StopRequested


@pytest.mark.parametrize("step", [5, STEPS])
def test_an_evaluation_cut_short_is_done_first(
    step: int, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = tiny.recipe(corpus, tmp_path, *SHORT, "pretrain.micro_batch_size=1")
    live(recipe, tmp_path / "whole")
    evaluate, asked = LocalEngine.evaluate, list[int]()

    def stopped_inside(engine: LocalEngine, objective: Any, batches: Any, interrupted: Any) -> Any:
        asked.append(1)
        if len(asked) == step // 5:
            batches = list(batches)
            terminate()
        return evaluate(engine, objective, batches, interrupted)

    with monkeypatch.context() as patched:
        patched.setattr(LocalEngine, "evaluate", stopped_inside)
        assert live(recipe, tmp_path / "cut") == "stopped"
    assert step in tiny.losses(tmp_path / "cut")
    assert step not in tiny.evaluations(tmp_path / "cut")
    assert live(recipe, tmp_path / "cut") == "finished"
    tiny.assert_same_run(tmp_path / "whole", tmp_path / "cut", STEPS)
    again = tiny.lines_of(tmp_path / "cut" / "events.jsonl")
    assert live(recipe, tmp_path / "cut") == "finished"
    assert "evaluated" not in "".join((tmp_path / "cut" / "events.jsonl").read_text().splitlines()[again:])


def test_stopped_by_signal_between_micro_batches(corpus: Path, tmp_path: Path) -> None:
    recipe = tiny.recipe(corpus, tmp_path, *SHORT, "pretrain.micro_batch_size=2")
    live(recipe, tmp_path / "whole")
    assert run_with(recipe, tmp_path / "stopped", 5, terminate) == "stopped"
    assert max(tiny.losses(tmp_path / "stopped")) == 5
    assert (tiny.checkpoints(tmp_path / "stopped") / "step-00000005" / "manifest.json").exists()
    assert run_with(recipe, tmp_path / "stopped", 8, terminate) == "stopped"
    assert live(recipe, tmp_path / "stopped") == "finished"
    tiny.assert_same_run(tmp_path / "whole", tmp_path / "stopped", STEPS)


def test_early_stopping_resumes_exactly(corpus: Path, tmp_path: Path) -> None:
    lost = ("pretrain.learning_rate=1.0", "pretrain.warmup_steps=0", "pretrain.lr_scheduler_type=constant")
    early = ("pretrain.duration=40 steps", "pretrain.eval_steps=1", "pretrain.save_steps=3",
             "pretrain.early_stopping_patience=3", "pretrain.max_grad_norm=0")  # fmt: skip
    recipe = tiny.recipe(corpus, tmp_path, *early, *lost)
    assert live(recipe, tmp_path / "whole") == "early stopping"
    steps = max(tiny.losses(tmp_path / "whole"))
    best = json.loads((tiny.checkpoints(tmp_path / "whole") / "best.json").read_text())["step"]
    assert steps == best + 3 < 40
    assert interrupted(recipe, tmp_path / "killed", (best, best + 1, best + 2)) == "early stopping"
    tiny.assert_same_run(tmp_path / "whole", tmp_path / "killed", steps)
    kept = tiny.everything_in(tiny.checkpoints(tmp_path / "killed"))
    assert live(recipe, tmp_path / "killed") == "early stopping"
    assert tiny.everything_in(tiny.checkpoints(tmp_path / "killed")) == kept


def test_a_finished_run_is_left_as_it_is(corpus: Path, tmp_path: Path) -> None:
    recipe = tiny.recipe(corpus, tmp_path, *SHORT)
    assert live(recipe, tmp_path / "run") == "finished"
    kept, history = tiny.everything_in(tiny.checkpoints(tmp_path / "run")), tiny.losses(tmp_path / "run")
    assert live(recipe, tmp_path / "run") == "finished"
    assert tiny.everything_in(tiny.checkpoints(tmp_path / "run")) == kept
    assert tiny.losses(tmp_path / "run") == history


def test_a_longer_duration_goes_on(corpus: Path, tmp_path: Path) -> None:
    constant = ("pretrain.lr_scheduler_type=constant", "pretrain.save_steps=4", "pretrain.eval_steps=4")
    long = tiny.recipe(corpus, tmp_path, *constant, "pretrain.duration=12 steps")
    live(long, tmp_path / "whole")
    short = tiny.recipe(corpus, tmp_path, *constant, "pretrain.duration=8 steps")
    assert live(short, tmp_path / "run") == "finished"
    assert max(tiny.losses(tmp_path / "run")) == 8
    assert live(long, tmp_path / "run") == "finished"
    tiny.assert_same_run(tmp_path / "whole", tmp_path / "run", 12)


def test_the_loss_scale_is_taken_up_again(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A scale that has halved down to 1 is not mistaken for none; one that grows keeps its count."""
    monkeypatch.setattr("linnet.train.engines.scaling.GROWTH_INTERVAL", 3)
    for start in (2.0**18, 1.0):
        monkeypatch.setattr(
            LossScale, "for_fp16", classmethod(lambda cls, start=start: cls(start, dynamic=True))
        )
        recipe = tiny.recipe(corpus, tmp_path, *SHORT, "hardware.precision=fp16")
        whole, killed = tmp_path / f"whole{start}", tmp_path / f"killed{start}"
        live(recipe, whole)
        interrupted(recipe, killed, (2, 5, 9))
        tiny.assert_same_run(whole, killed, STEPS)
        states = [json.loads((tiny.checkpoints(run) / f"step-{STEPS:08d}/state/trainer.json").read_text())
                  for run in (whole, killed)]  # fmt: skip
        assert states[0] == states[1]
        assert states[0]["engine"]["loss_scale"] != start, "the scale never moved"


def test_killed_while_a_checkpoint_is_replaced(corpus: Path, tmp_path: Path) -> None:
    """A step that is saved again (its evaluation came later) is never without a whole checkpoint."""
    recipe = tiny.recipe(corpus, tmp_path, *SHORT)
    live(recipe, tmp_path / "run")
    folder = tiny.checkpoints(tmp_path / "run")
    kept = tiny.everything_in(folder)
    (folder / f"step-{STEPS:08d}").rename(folder / f".step-{STEPS:08d}.before")
    shutil.copytree(folder / "step-00000008", folder / f".step-{STEPS:08d}.partial")
    assert live(recipe, tmp_path / "run") == "finished"
    assert tiny.everything_in(folder) == kept


def test_killed_before_its_recipe_was_written(corpus: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / ".lock").touch()
    (run / ".recipe.yaml.part").write_text("name: ti")
    assert (
        live(tiny.recipe(corpus, tmp_path, "pretrain.duration=2 steps", "pretrain.warmup_steps=0"), run)
        == "finished"
    )


def test_the_best_is_named_even_when_killed_right_after_the_save(corpus: Path, tmp_path: Path) -> None:
    recipe = tiny.recipe(corpus, tmp_path, *SHORT)
    live(recipe, tmp_path / "run")
    best = tiny.checkpoints(tmp_path / "run") / "best.json"
    named = best.read_text()
    best.write_text('{"step": 3, "val/loss": 9.0}')
    live(recipe, tmp_path / "run")
    assert best.read_text() == named


def test_changed_data_is_refused(corpus: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine.txt"
    shutil.copy(corpus, mine)
    recipe = tiny.recipe(mine, tmp_path, *SHORT, "pretrain.duration=4 steps")
    live(recipe, tmp_path / "run")
    with mine.open("a") as text:
        text.write("\n<|endoftext|>\nThere was a red fox. Good night, red fox.")
    kept = tiny.everything_in(tiny.checkpoints(tmp_path / "run"))
    with pytest.raises(Exception, match="the data is not what this run began with"):
        live(tiny.recipe(mine, tmp_path, *SHORT), tmp_path / "run")
    assert tiny.everything_in(tiny.checkpoints(tmp_path / "run")) == kept


# --- micro-batches --------------------------------------------------------------------------------


def test_micro_batches_change_neither_order_nor_loss_under_dropout(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[int, list[torch.Tensor]] = {}
    take = TrainBatches.__getitem__

    def noted(batches: TrainBatches, step: int) -> Any:
        batch = take(batches, step)
        seen[size].append(batch.tokens)
        return batch

    monkeypatch.setattr(TrainBatches, "__getitem__", noted)
    for size in (1, 2, 8):
        seen[size] = []
        dropping = ("model.dropout=0.1", "model.attention_dropout=0.1")
        of_size = f"pretrain.micro_batch_size={size}"
        live(tiny.recipe(corpus, tmp_path, *SHORT, *dropping, of_size), tmp_path / str(size))
    for size in (2, 8):
        assert all(torch.equal(a, b) for a, b in zip(seen[1], seen[size], strict=True))
        for step, (loss, norm) in tiny.losses(tmp_path / "1").items():
            other, other_norm = tiny.losses(tmp_path / str(size))[step]
            assert other == pytest.approx(loss, abs=2e-6 * step)
            assert other_norm == pytest.approx(norm, rel=1e-4)


def test_a_run_may_go_on_with_another_micro_batch(corpus: Path, tmp_path: Path) -> None:
    dropping = (*SHORT, "model.dropout=0.1")
    live(tiny.recipe(corpus, tmp_path, *dropping), tmp_path / "whole")
    assert (
        run_with(tiny.recipe(corpus, tmp_path, *dropping), tmp_path / "run", 6, tiny.kill, StepDone) is None
    )
    live(tiny.recipe(corpus, tmp_path, *dropping, "pretrain.micro_batch_size=auto"), tmp_path / "run")
    for step, (loss, _) in tiny.losses(tmp_path / "whole").items():
        assert tiny.losses(tmp_path / "run")[step][0] == pytest.approx(loss, abs=1e-5)


def test_saves_by_the_clock(corpus: Path, tmp_path: Path) -> None:
    recipe = tiny.recipe(corpus, tmp_path, *SHORT, "pretrain.save_steps=0", "pretrain.eval_steps=0",
                         "pretrain.save_minutes=0.0000001")  # fmt: skip
    live(recipe, tmp_path / "run")
    assert [event.step for event in tiny.told(tmp_path / "run") if isinstance(event, Saved)] == list(
        range(STEPS + 1)
    )
    assert [event.step for event in tiny.told(tmp_path / "run") if isinstance(event, Evaluated)] == [STEPS]
