"""Stages that learn from conversations: instruction tuning and refusals."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from linnet.data.conversations.preflight import masked, titled
from linnet.data.corpus import Corpus
from linnet.data.example_batches import ExampleBatches, HeldOutPacked, PackedBatches, digest_of_examples
from linnet.data.examples import Example
from linnet.data.opening import open_corpus
from linnet.data.packing import PackedExamples
from linnet.data.replay import ReplayedBatches
from linnet.data.shards.progress import Progress as BuildObserver
from linnet.data.shards.progress import silent
from linnet.model import Transformer
from linnet.objectives import NextToken
from linnet.recipe.asked import Asked, ask
from linnet.recipe.recipe import Recipe
from linnet.recipe.stages import ConversationStage, StageName
from linnet.recipe.work import Equipped, Show, Start
from linnet.text import Tokenizer

_TITLE = "conversations"


@dataclass
class ConversationWork(Asked):
    """Instruction tuning and refusals: packed rows, next-token loss on the assistant's words. See Work."""

    train: ExampleBatches | None = None
    held_out: Sequence[Example] = ()
    total_steps: int = 0
    fingerprint: str = ""
    corpus: Corpus | None = None  # of the documents that are replayed
    rows: int = 1

    @property
    def sequence_length(self) -> int:
        """Of a packed row."""
        return self.length

    def equip(self, model: Transformer, folder: Path, begun: bool) -> Equipped:
        """See Work."""
        assert self.train is not None
        validation = None
        if self.held_out:
            rows = PackedExamples(self.held_out, self.length, self.recipe.seed, self.pad_id)
            validation = self.loss_over(HeldOutPacked(rows), perplexity=True)
        return Equipped(NextToken(), self.train, validation)

    def close(self) -> None:
        """End streams."""
        if self.corpus is not None:
            self.corpus.close()


def prepare_conversations(
    recipe: Recipe, name: StageName, start: Start, show: Show, on_build: BuildObserver | None = None
) -> ConversationWork:
    """Read, render and look over the conversations of a stage, and open the documents that are replayed.

    Raises:
        RequestError: as `prepare`.
    """
    asked = ask(recipe, name, start)
    renderer, stage = asked.renderer, asked.stage
    assert isinstance(stage, ConversationStage)
    examples = renderer.conversations(asked.items.train)  # type: ignore[arg-type]
    asked.look_over(examples, show)
    held_out = asked.apart().conversations(asked.items.validation)  # type: ignore[arg-type]
    rows = PackedExamples(examples, asked.length, asked.recipe.seed, asked.pad_id)
    corpus = _replayed(asked, on_build) if stage.replay else None
    digest = digest_of_examples(examples, held_out)
    train: ExampleBatches
    if stage.replay is None or corpus is None:
        train = PackedBatches(_TITLE, rows, stage.train_batch_size)
    else:
        digest = hashlib.sha256((digest + corpus.fingerprint).encode()).hexdigest()
        documents = corpus.batches(1, _seed_of(recipe, name), 0)
        train = ReplayedBatches(
            _TITLE, rows, documents, stage.replay.share, stage.train_batch_size, recipe.seed
        )
    total = train.steps(stage.duration, stage.train_batch_size * asked.length)
    if isinstance(train, ReplayedBatches):
        train.expect(total)
        show(partial(_page, name, train, asked.tokenizer, total))
    asked.check_settings(total, held_out)
    asked.tell_passes(train, total, show)
    return ConversationWork(
        **asked.facts(), train=train, held_out=held_out, total_steps=total, fingerprint=digest, corpus=corpus
    )


def _replayed(asked: Asked, on_build: BuildObserver | None) -> Corpus:
    """The documents that a stage learns again. Their tokenizer is the one they were learned with."""
    stage, pretrain = asked.stage, asked.recipe.pretrain
    assert isinstance(stage, ConversationStage)
    assert stage.replay is not None
    settings = stage.replay.data(pretrain.data if pretrain else None, asked.length)
    corpus = open_corpus(settings, asked.start.tokenizer, asked.recipe.seed, on_build or silent)
    asked.listeners = corpus.listeners
    return corpus


def _seed_of(recipe: Recipe, name: StageName) -> int:
    """Of the documents' order: each stage replays others first."""
    return int.from_bytes(hashlib.blake2b(f"{recipe.seed} {name}".encode(), digest_size=6).digest(), "big")


def _page(name: StageName, train: ReplayedBatches, tokenizer: Tokenizer, total: int, colour: bool) -> str:
    """How many rows are documents, and the first of them, for people."""
    (ids,) = train.documents.tokens(np.zeros(1, dtype=np.int64))
    row = Example(ids, np.arange(len(ids)) > 0)
    windows, rows = train.windows(total), total * train.batch_size
    return "\n".join(
        [
            f"{name}: {windows:,} of {rows:,} rows ({windows / rows:.1%}) are replayed documents, all of whose tokens "
            "are learned",
            titled(f"a row of documents: {len(ids)} tokens, {len(ids) - 1} learned", colour),
            masked(row, tokenizer, colour),
            "",
        ]
    )
