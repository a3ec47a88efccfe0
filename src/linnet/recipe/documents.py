"""Stages that learn from documents: pretraining, and the documents of a domain."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from linnet.config import RequestError
from linnet.data.corpus import Corpus
from linnet.data.opening import open_corpus
from linnet.data.shards.progress import Progress as BuildObserver
from linnet.data.shards.progress import silent
from linnet.data.training import TrainBatches
from linnet.hardware import Choices, choose, detect
from linnet.model import Transformer, flops_per_token
from linnet.objectives import NextToken
from linnet.recipe.recipe import Recipe, document_stage
from linnet.recipe.sampling import document_prompts
from linnet.recipe.stages import PretrainStage, StageName
from linnet.recipe.starts import first_start
from linnet.recipe.work import Equipped, Start
from linnet.text import Tokenizer
from linnet.train.validation import HeldOutLoss


@dataclass
class DocumentWork:
    """See Work."""

    recipe: Recipe
    stage: PretrainStage
    choices: Choices
    tokenizer: Tokenizer
    corpus: Corpus
    train: TrainBatches
    total_steps: int
    rows: int = 1

    @property
    def sequence_length(self) -> int:
        """Of a row."""
        return self.stage.data.sequence_length

    @property
    def fingerprint(self) -> str:
        """Of the corpus."""
        return self.corpus.fingerprint

    @property
    def listeners(self) -> list[Callable[[str], None]]:
        """Who is told of streams that do not answer."""
        return self.corpus.listeners

    def equip(self, model: Transformer, folder: Path, begun: bool) -> Equipped:
        """See Work."""
        size = self.stage.micro_batch_size
        held_out = HeldOutLoss(
            self.corpus.validation, self.corpus.validation_weights,
            size if isinstance(size, int) else None, self.stage.eval_sequences,
        )  # fmt: skip
        return Equipped(NextToken(), self.train, held_out)

    def prompts(self, words: Sequence[str]) -> list[list[int]]:
        """Beginnings of documents."""
        return document_prompts(self.tokenizer, words)

    def close(self) -> None:
        """End streams."""
        self.corpus.close()


def prepare_pretraining(recipe: Recipe, on_build: BuildObserver | None = None) -> DocumentWork:
    """Choose for the machine, load or train the tokenizer, build or open the shards of pretraining.

    Raises:
        RequestError: for anything about the recipe that cannot be had here.
    """
    document_stage(recipe)
    return prepare_documents(recipe, "pretrain", first_start(recipe, "pretrain"), on_build)


def prepare_documents(
    recipe: Recipe, name: StageName, start: Start, on_build: BuildObserver | None = None
) -> DocumentWork:
    """The same of any stage of documents, for the model that it begins with.

    Raises:
        RequestError: for anything about the stage that cannot be had here.
    """
    stage = recipe.stage(name)
    assert isinstance(stage, PretrainStage)
    length = stage.data.sequence_length
    chosen = partial(choose, recipe.hardware, detect(), length, start.spec.attention_dropout)
    choices = chosen()  # what this machine cannot do is told before anything is built
    if length > start.spec.max_position_embeddings:
        raise RequestError(
            f"{length} is over the model's {start.spec.max_position_embeddings} positions",
            f"{name}.data.sequence_length", "shorten it",
        )  # fmt: skip
    corpus = open_corpus(stage.data, start.tokenizer, recipe.seed, on_build or silent)
    total = corpus.steps(stage.duration, stage.train_batch_size)
    train = corpus.batches(stage.train_batch_size, recipe.seed, total)
    check_schedule(stage, total, name)
    choices = chosen(flops=total * stage.train_batch_size * length * flops_per_token(start.spec, length))
    return DocumentWork(recipe, stage, choices, start.tokenizer, corpus, train, total)


def check_schedule(stage: PretrainStage, total: int, name: str) -> None:
    """Refuse a warmup or a decay that does not fit."""
    try:
        stage.check_schedule(total)
    except ValueError as error:
        raise RequestError(str(error), name) from None
