"""Pretraining documents among the rows of a later stage."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import tiny
from linnet.config import RequestError
from linnet.config.quantities import parse_length
from linnet.data.batches import IGNORE, Batch, Windows
from linnet.data.corpus import Corpus
from linnet.data.example_batches import PackedBatches
from linnet.data.examples import Example
from linnet.data.opening import open_corpus
from linnet.data.packing import PackedExamples
from linnet.data.replay import ReplayedBatches, ReplaySettings
from linnet.model import Transformer, initialize
from linnet.objectives.next_token import NextToken
from linnet.recipe import load_recipe
from linnet.text import Tokenizer

LENGTH, BATCH = 32, 8
FIELDS = ("tokens", "targets", "positions", "documents")


@pytest.fixture
def corpus(stories: list[str], text_file, settings_for, tokenizer: Tokenizer) -> Corpus:  # type: ignore[no-untyped-def]
    """Stories as pretraining has them, a tenth of them held out."""
    data = settings_for(text_file(stories), validation_fraction=0.1)
    settings = ReplaySettings(share=0.25).data(data, LENGTH)
    return open_corpus(settings, tokenizer, 3)


def examples(count: int = 300) -> list[Example]:
    """Of 4 to 20 tokens above 500, of which the second half is learned; documents have none of them."""
    draw = np.random.default_rng(4)
    tokens = [draw.integers(500, 600, draw.integers(4, 21)) for _ in range(count)]
    return [Example(ids, np.arange(len(ids)) >= len(ids) // 2) for ids in tokens]


def replayed(corpus: Corpus, share: float = 0.25, seed: int = 5, batch: int = BATCH) -> ReplayedBatches:
    rows = PackedExamples(examples(), LENGTH, seed, pad_id=0)
    return ReplayedBatches("examples", rows, corpus.batches(1, seed, 0), share, batch, seed)


def same(one: Batch, other: Batch) -> bool:
    return all(torch.equal(getattr(one, name), getattr(other, name)) for name in FIELDS)


def windows_in(batches: ReplayedBatches, steps: range) -> list[np.ndarray]:
    """First input and targets of every row of documents."""
    found = []
    for step in steps:
        batch = batches[step]
        for row in np.flatnonzero(batches.replayed(step)):
            found.append(np.append(batch.tokens[row, :1].numpy(), batch.targets[row].numpy()))
    return found


def test_a_batch_is_a_function_of_seed_and_step(corpus: Corpus) -> None:
    one, other = replayed(corpus), replayed(corpus)
    backwards = [other[step] for step in reversed(range(12))][::-1]
    assert all(same(one[step], batch) for step, batch in enumerate(backwards))
    assert not all(same(one[step], replayed(corpus, seed=6)[step]) for step in range(12))


def test_any_number_of_workers_and_any_start_give_the_same(corpus: Corpus) -> None:
    alone = list(replayed(corpus).stream(0, 12))
    beside = list(replayed(corpus).stream(0, 12, workers=3))
    later = list(replayed(corpus).stream(5, 12, workers=2))
    assert all(same(a, b) for a, b in zip(alone, beside, strict=True))
    assert all(same(a, b) for a, b in zip(alone[5:], later, strict=True))


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5])
def test_the_share_of_the_rows_is_exact(corpus: Corpus, share: float) -> None:
    batches = replayed(corpus, share)
    block = sum(batches.replayed(step).sum() for step in range(320 // BATCH))  # whole blocks of the mixture
    assert block == batches.windows(320 // BATCH)
    assert block == pytest.approx(320 * share, abs=1)
    assert sum(batches.replayed(step).sum() for step in range(10)) == pytest.approx(80 * share, abs=2)


def test_the_stage_s_own_rows_are_those_it_would_have_without_documents(corpus: Corpus) -> None:
    batches = replayed(corpus)
    own = [batches[s].tokens[~batches.replayed(s)] for s in range(16)]
    rows = torch.cat(own)
    plain = PackedBatches("examples", batches.rows, 1)
    assert torch.equal(rows, torch.cat([plain[n].tokens for n in range(len(rows))]))


def test_rows_of_documents_are_pretraining_s_windows_and_all_is_learned(corpus: Corpus) -> None:
    (component,) = corpus.components
    assert component.split is not None
    whole = Windows(component.split, LENGTH, corpus.eos_id, document_mask=True)
    expected = {tuple(row) for row in whole.rows(np.arange(whole.count - 1))}
    found = windows_in(replayed(corpus), range(40))
    assert len(found) > 70
    assert {tuple(row) for row in found if row[-1] != IGNORE} <= expected
    batch, kept = replayed(corpus)[0], replayed(corpus).replayed(0)
    assert (batch.targets[torch.from_numpy(kept)] != IGNORE).all()
    assert (batch.targets[torch.from_numpy(~kept)] == IGNORE).any()


def test_what_is_held_out_is_never_replayed(corpus: Corpus, tokenizer: Tokenizer) -> None:
    (held_out,) = corpus.validation.values()
    ids = held_out.split.read(0, held_out.split.tokens)
    names = {text.split(":")[0] for text in tokenizer.decode(ids.tolist()).split("Story ")[1:]}
    assert len(names) > 30
    epoch = range(round(5 * replayed(corpus).documents.sources[0].windows.count / BATCH / 0.25))  # type: ignore[attr-defined]
    rows = windows_in(replayed(corpus), epoch)
    text = "\n".join(tokenizer.decode(row[row != IGNORE].tolist()) for row in rows)
    assert not {name for name in names if f"Story {name}:" in text}


def test_documents_and_conversations_of_a_batch_do_not_see_each_other(corpus: Corpus) -> None:
    batch = replayed(corpus)[0]
    model = Transformer(tiny.spec(vocab_size=600))
    initialize(model, 1)
    model.eval()
    whole = NextToken().loss(model, batch).sum.item()
    parts = 0.0
    assert batch.documents is not None
    for row in range(len(batch)):
        for document in batch.documents[row].unique():
            here = batch.documents[row] == document
            alone = Batch(batch.tokens[row, here][None], batch.targets[row, here][None])
            if alone.counted:
                parts += NextToken().loss(model, alone).sum.item()
    assert whole == pytest.approx(parts, rel=1e-4)


def test_a_duration_in_epochs_counts_the_stage_s_own_examples(corpus: Corpus) -> None:
    batches = replayed(corpus)
    steps = batches.steps(parse_length("2 epochs"), BATCH * LENGTH)
    rows = batches.rows.first(2)
    assert steps == pytest.approx(rows / 0.75 / BATCH, abs=2)
    assert batches.passes(steps)["examples"] == pytest.approx(2, abs=0.05)
    assert len(batches.passes(steps)) == 2


def test_share_seed_and_documents_are_in_the_fingerprint(corpus: Corpus) -> None:
    found = {
        replayed(corpus, share, seed, batch).fingerprint(8)
        for share, seed, batch in ((0.25, 5, 8), (0.5, 5, 8), (0.25, 6, 8), (0.25, 5, 4))
    }
    assert len(found) == 4
    assert replayed(corpus).fingerprint(8) == replayed(corpus).fingerprint(8)


def test_streamed_documents_go_on_with_an_empty_cache(
    stories: list[str], text_file, settings_for, tokenizer: Tokenizer, cache: Path
) -> None:  # type: ignore[no-untyped-def]
    source = {"path": str(text_file(stories)), "streaming": True}
    data = settings_for(sources=[source], shard_tokens=1024, validation_documents=8)

    def opened() -> ReplayedBatches:
        return replayed(open_corpus(ReplaySettings(share=0.5).data(data, LENGTH), tokenizer, 3), 0.5)

    one = opened()
    one.expect(30)
    whole = [one[step] for step in range(30)]
    state = one.state(20)
    shutil.rmtree(cache)
    other = opened()
    other.restore(state)
    assert all(same(other[step], whole[step]) for step in range(20, 30))


# --- in a recipe ------------------------------------------------------------------------------------------


def test_a_recipe_without_pretraining_names_the_documents(tmp_path: Path) -> None:
    values = "name: x\nsft: {init_from: m, duration: 1 steps, train_batch_size: 1, learning_rate: 1e-3,\n"
    path = tmp_path / "x.yaml"
    path.write_text(values + "  data: {sources: [a.jsonl]}, replay: {share: 0.1}}\n")
    with pytest.raises(RequestError, match=r"sft.replay.sources"):
        load_recipe(str(path))
    path.write_text(values + "  data: {sources: [a.jsonl]}, replay: {share: 0.1, sources: [b.txt]}}\n")
    stage = load_recipe(str(path)).sft
    assert stage is not None
    assert stage.replay is not None
    assert stage.replay.data(None, 64).sources[0].path == "b.txt"


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("sft.replay={share: 0}", "greater than 0"),
        ("sft.replay={share: 1}", "less than 1"),
        ("sft.replay={share: 0.1, ratio: 2}", "share"),
        ("sft.replay_share=0.1", "replay"),
        ("sft.replay={share: 0.1, sources: [{path: a, weight: 3}, {path: b, weight: 4}]}", "add up to"),
        ("sft.replay={share: 0.1, sources: [a.txt, {path: b, streaming: true}]}", "streamed"),
        ("sft.replay={share: 0.1, sources: [a.txt, a.txt]}", "two sources are named"),
    ],
)
def test_mistakes_are_explained(override: str, line: str) -> None:
    with pytest.raises(RequestError, match=line):
        load_recipe("quickstart", [override])


def test_pretraining_s_mixture_is_replayed_without_its_schedule() -> None:
    recipe = load_recipe("smol-160m")
    assert recipe.pretrain is not None
    data = ReplaySettings(share=0.1).data(recipe.pretrain.data, 512)
    assert data.by_domain == recipe.pretrain.data.by_domain
    assert (data.sequence_length, data.schedule, data.when_exhausted) == (512, (), "repeat")
