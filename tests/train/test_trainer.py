"""What the loop says, when it gives up, and what it keeps."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch

import tiny
from linnet.config import RunError
from linnet.data.batches import Batch
from linnet.model import Transformer
from linnet.objectives import Loss, NextToken
from linnet.observe import Anomaly, RunEnded, Saved, StepDone, read_events
from linnet.recipe import live, prepare_pretraining
from linnet.train.engines import LocalEngine, Terms
from linnet.train.trainer import SKIPPED_IN_A_ROW

RUN = ("pretrain.duration=60 steps", "pretrain.save_steps=4", "pretrain.eval_steps=0")


def spoil_from(step: int, monkeypatch: pytest.MonkeyPatch, until: int = 10**6) -> None:
    """Make the loss of these steps (each of two micro-batches, from 0) not a number."""
    loss, calls = NextToken.loss, list[int]()

    def spoilt(objective: NextToken, model: Transformer, batch: Batch) -> Loss:
        if model.training:
            calls.append(1)
        bad = model.training and step <= (len(calls) - 1) // 2 < until
        return Loss(loss(objective, model, batch).sum * (float("nan") if bad else 1.0))

    monkeypatch.setattr(NextToken, "loss", spoilt)


def test_too_many_bad_steps_in_a_row_end_the_run(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil_from(6, monkeypatch)
    recipe = tiny.recipe(corpus, tmp_path, *RUN)
    with pytest.raises(RunError, match="25 steps in a row had a loss or gradients that are not finite"):
        live(recipe, tmp_path / "run")
    events = list(read_events(tmp_path / "run" / "events.jsonl"))
    anomalies = [event.step for event in events if isinstance(event, Anomaly)]
    assert anomalies == list(range(7, 7 + SKIPPED_IN_A_ROW))
    end = events[-1]
    assert isinstance(end, RunEnded)
    assert end.reason.startswith("failed: ")
    kept = tiny.weights(tmp_path / "run", 28)
    assert kept == tiny.weights(tmp_path / "run", 24), "skipped steps have changed the weights"


def test_a_few_bad_steps_are_passed_over(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil_from(3, monkeypatch, until=3 + SKIPPED_IN_A_ROW - 1)
    assert live(tiny.recipe(corpus, tmp_path, *RUN), tmp_path / "run") == "finished"
    state = json.loads((tiny.checkpoints(tmp_path / "run") / "step-00000060/state/trainer.json").read_text())
    assert state["progress"]["skipped"] == SKIPPED_IN_A_ROW - 1
    assert state["progress"]["skipped_in_a_row"] == 0
    losses = [loss for loss, _ in tiny.losses(tmp_path / "run").values()]
    assert losses[-1] < losses[0] - 0.5


def test_a_step_tells_what_a_person_asks(corpus: Path, tmp_path: Path) -> None:
    every = ("pretrain.logging_steps=4", "pretrain.duration=10 steps", "pretrain.learning_rate=0.02")
    live(tiny.recipe(corpus, tmp_path, *RUN, *every, "pretrain.lr_scheduler_type=constant"), tmp_path / "run")
    steps = {
        event.step: event.metrics for event in tiny.told(tmp_path / "run") if isinstance(event, StepDone)
    }
    assert list(steps) == [1, 4, 8, 10]
    first = {"train/loss", "train/grad_norm", "train/lr", "train/tokens", "train/progress_percent"}
    assert first <= steps[10].keys()
    assert steps[10]["train/tokens"] == 10 * 8 * 32
    assert steps[4]["train/progress_percent"] == 40
    assert steps[4]["train/lr"] == pytest.approx(0.02)
    assert steps[1]["train/lr"] == pytest.approx(0.02 / 3)
    assert steps[8]["train/tokens_per_sec"] > 0
    assert 0 <= steps[8]["time/data_percent"] <= 100
    assert "train/mfu" not in steps[8], "a CPU's peak is not known"


def test_a_loss_below_its_first_value_and_near_chance_at_first(corpus: Path, tmp_path: Path) -> None:
    """A fresh model knows nothing: its first loss is the logarithm of the vocabulary."""
    live(tiny.recipe(corpus, tmp_path, *RUN, "pretrain.duration=5 steps"), tmp_path / "run")
    assert tiny.losses(tmp_path / "run")[1][0] == pytest.approx(5.768, abs=0.1)  # ln 320


@pytest.mark.parametrize(("last", "best"), [(1, True), (2, True), (2, False), (3, True)])
def test_the_last_few_and_the_best_are_kept(
    last: int, best: bool, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses = iter([3.0, 1.5, 2.0, 1.9, 1.8, 1.7])  # of steps 2, 4, ... 12
    told = lambda *_: Terms(torch.tensor(next(losses), dtype=torch.float64), 1)  # noqa: E731
    monkeypatch.setattr(LocalEngine, "evaluate", told)
    recipe = tiny.recipe(
        corpus, tmp_path, "pretrain.duration=12 steps", "pretrain.save_steps=2", "pretrain.eval_steps=2",
        f"pretrain.save_total_limit={last}", f"pretrain.keep_best={str(best).lower()}",
    )  # fmt: skip
    live(recipe, tmp_path / "run")
    folder = tiny.checkpoints(tmp_path / "run")
    kept = [int(re.sub(r"\D", "", path.name)) for path in sorted(folder.glob("step-*"))]
    expected = list(range(12, 0, -2))[:last][::-1]
    assert kept == ([4, *expected] if best else expected)
    if best:
        assert json.loads((folder / "best.json").read_text()) == {"step": 4, "val/loss": 1.5}
    else:
        assert not (folder / "best.json").exists()
    assert not list(folder.glob(".step-*"))


def test_a_best_between_saves_is_saved(corpus: Path, tmp_path: Path) -> None:
    recipe = tiny.recipe(
        corpus, tmp_path, "pretrain.duration=6 steps", "pretrain.save_steps=0", "pretrain.eval_steps=3"
    )
    live(recipe, tmp_path / "run")
    assert [event.step for event in tiny.told(tmp_path / "run") if isinstance(event, Saved)] == [3, 6]


def test_lengths_in_tokens_and_epochs(corpus: Path, tmp_path: Path) -> None:
    tokens = tiny.recipe(corpus, tmp_path, "pretrain.duration=1100 tokens", "pretrain.eval_steps=0")
    live(tokens, tmp_path / "tokens")
    assert max(tiny.losses(tmp_path / "tokens")) == 5  # 256 a step, rounded up
    wide = ("pretrain.train_batch_size=128", "pretrain.micro_batch_size=128", "pretrain.eval_steps=0")
    epochs = tiny.recipe(corpus, tmp_path, "pretrain.duration=2 epochs", *wide)
    windows = prepare_pretraining(epochs).train.place(0).of
    live(epochs, tmp_path / "epochs")
    assert max(tiny.losses(tmp_path / "epochs")) == -(-2 * windows // 128)
