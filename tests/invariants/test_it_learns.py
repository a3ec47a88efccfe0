"""A run learns what can be learned and nothing that cannot: the loss has a floor that mistakes fall through.

The little language of the tests is made by known dice, so its entropy is known: no honest model gets
under it on unseen documents. A model whose targets leak into its inputs does at once.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import tiny
from linnet.data.batches import IGNORE, Batch, Windows
from linnet.data.training import TrainBatches
from linnet.observe import Anomaly
from linnet.recipe import Recipe, live, prepare_pretraining

STEPS = 160
LONGER = (
    f"pretrain.duration={STEPS} steps", "pretrain.save_steps=0", "pretrain.eval_steps=0", "model.dropout=0",
    "pretrain.data.sequence_length=64", "pretrain.train_batch_size=16", "pretrain.micro_batch_size=16",
    "pretrain.eval_sequences=null", "pretrain.min_lr_rate=0.0",
)  # fmt: skip


def change_batches(monkeypatch: pytest.MonkeyPatch, change: Callable[[Batch], Batch]) -> None:
    """Change what is learned and what is evaluated alike."""
    held_out, learned = Windows.batch, TrainBatches.__getitem__
    monkeypatch.setattr(Windows, "batch", lambda windows, numbers: change(held_out(windows, numbers)))
    monkeypatch.setattr(TrainBatches, "__getitem__", lambda batches, step: change(learned(batches, step)))


def unigram_entropy(recipe: Recipe) -> float:
    """Of the training tokens, in nats a token."""
    split = prepare_pretraining(recipe).corpus.components[0].split
    assert split is not None
    counts = torch.bincount(torch.from_numpy(split.read(0, split.tokens))).double()
    share = counts[counts > 0] / counts.sum()
    return float(-(share * share.log()).sum())


def entropy_of_the_dice(recipe: Recipe) -> float:
    """What the held-out documents' dice are worth, in nats a token: the least that any model can lose on them."""
    prepared = prepare_pretraining(recipe)
    split = prepared.corpus.validation["all"].split
    text = prepared.tokenizer.decode(split.read(0, split.tokens).tolist())
    documents, sentences = text.count("There was a"), text.count("The ")
    assert documents == split.documents > 20
    creature, verb, place = (math.log(len(each)) for each in (tiny.CREATURES, tiny.VERBS, tiny.PLACES))
    return (documents * (creature + math.log(3)) + sentences * (verb + place)) / split.tokens


def last_losses(run: Path) -> float:
    losses = tiny.losses(run)
    return sum(losses[step][0] for step in range(STEPS - 19, STEPS + 1)) / 20


def test_real_targets_are_learned_on_unseen_documents_and_not_too_well(corpus: Path, tmp_path: Path) -> None:
    recipe = tiny.recipe(corpus, tmp_path, *LONGER)
    live(recipe, tmp_path / "run")
    loss, unigram, dice = (
        tiny.evaluations(tmp_path / "run")[STEPS],
        unigram_entropy(recipe),
        entropy_of_the_dice(recipe),
    )
    assert loss < 0.35 * unigram
    assert loss > dice
    assert 0 < dice < 0.2 * unigram, "the two bounds must lie apart for the test to mean anything"


def test_shuffled_targets_are_learned_no_further_than_their_frequencies(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def shuffled(batch: Batch) -> Batch:
        draw = torch.Generator().manual_seed(int(batch.tokens.sum()))
        flat = batch.targets.flatten()
        counted = flat != IGNORE
        flat[counted] = flat[counted][torch.randperm(int(counted.sum()), generator=draw)]
        return Batch(batch.tokens, flat.view_as(batch.targets), batch.positions, batch.documents)

    change_batches(monkeypatch, shuffled)
    recipe = tiny.recipe(corpus, tmp_path, *LONGER)
    live(recipe, tmp_path / "run")
    entropy = unigram_entropy(recipe)
    for loss in (last_losses(tmp_path / "run"), tiny.evaluations(tmp_path / "run")[STEPS]):
        assert entropy - 0.05 < loss < entropy + 0.15


def test_targets_fed_as_inputs_fall_through_the_floor(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The planted mistake of a missing shift: the floor that honest learning keeps above must catch it."""

    def leaked(batch: Batch) -> Batch:
        inputs = torch.where(batch.targets == IGNORE, batch.tokens, batch.targets)
        return Batch(inputs, batch.targets, batch.positions, batch.documents)

    change_batches(monkeypatch, leaked)
    recipe = tiny.recipe(corpus, tmp_path, *LONGER)
    live(recipe, tmp_path / "run")
    assert tiny.evaluations(tmp_path / "run")[STEPS] < 0.5 * entropy_of_the_dice(recipe)


def test_batches_are_shifted_by_one(corpus: Path, tmp_path: Path) -> None:
    """What the model is fed: the target of a position is the next input, and never its own."""
    prepared = prepare_pretraining(tiny.recipe(corpus, tmp_path))
    batch = prepared.train[0]
    assert torch.equal(batch.tokens[:, 1:], batch.targets[:, :-1])
    assert (batch.tokens == batch.targets).float().mean() < 0.2


def test_a_batch_that_counts_nothing_teaches_nothing_and_is_told(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def emptied(batch: Batch) -> Batch:
        return Batch(batch.tokens, torch.full_like(batch.targets, IGNORE), batch.positions, batch.documents)

    engine, objective = tiny.engine(), sys.modules["linnet.objectives"].NextToken()
    terms = engine.accumulate(objective, emptied(tiny.batch()), 0, tiny.never)
    assert (terms.mean(), terms.counted) == (0.0, 0)
    assert all(not grad.any() for grad in tiny.gradients(engine.model).values())

    change_batches(monkeypatch, emptied)
    recipe = tiny.recipe(corpus, tmp_path, "pretrain.duration=4 steps", "pretrain.save_steps=0")
    live(recipe, tmp_path / "run")
    assert set(tiny.losses(tmp_path / "run").values()) == {(0.0, 0.0)}
    told = [event.what for event in tiny.told(tmp_path / "run") if isinstance(event, Anomaly)]
    assert len(told) == 4
    assert "no token of step 1 is counted" in told[0]
