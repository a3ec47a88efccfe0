"""What a stage after pretraining reads: its sources together, as items to learn from and items held out.

Sources with weights are taken in those shares: as many items as there can be without using one twice. What is
left out of a large source is chosen by a keyed permutation, so that it is a fair sample of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np
from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from linnet.config import Section
from linnet.data.conversations.kinds import Item, Kind
from linnet.data.conversations.reading import Gathered, World, gather
from linnet.data.conversations.splitting import split
from linnet.data.order import Permutation
from linnet.data.settings import Sources, check_sum


class ItemSettings(Section):
    """Where a stage's conversations, pairs or problems come from, and how long they may be.

    `sources` are recognised by their columns. Without weights every item is taken; with weights, as many of
    each source as their shares allow. Without `validation_sources`, `validation_fraction` of the questions
    is held out, chosen by a hash of the question. `sequence_length` is the length of a packed row, and the
    most that one example may take; by default what the model can read.
    """

    sources: Sources = Field(min_length=1)
    validation_sources: Sources = ()
    validation_fraction: float = Field(default=0.02, ge=0, le=0.5)
    validation_documents: PositiveInt = 256
    sequence_length: PositiveInt | None = None
    num_workers: NonNegativeInt = 0

    habits: ClassVar[Mapping[str, str]] = {
        "dataset": "write 'sources: [{dataset: owner/name}]'",
        "datasets": "write 'sources'",
        "dataset_name": "write 'sources: [{dataset: owner/name}]'",
        "path": "write 'sources'",
        "max_length": "write 'sequence_length'",
        "max_seq_length": "write 'sequence_length'",
        "max_prompt_length": "write 'sequence_length'",
        "cutoff_len": "write 'sequence_length'",
        "packing": "examples are always packed, and never see each other",
        "streaming": "conversations are read whole before the stage begins",
        "test_split_ratio": "write 'validation_fraction' (0.02 is two percent)",
        "val_size": "write 'validation_fraction' (0.02 is two percent)",
        "dataset_num_proc": "leave it out",
        "dataloader_num_workers": "write 'num_workers'",
    }

    @model_validator(mode="after")
    def _possible(self) -> ItemSettings:
        for source in (*self.sources, *self.validation_sources):
            if source.streaming:
                raise ValueError(f"{source.title}: conversations are read whole; leave out streaming "
                                 "(documents: 10000 takes the first rows)")  # fmt: skip
        check_sum({source.title: source.weight for source in self.sources}, "the weights of the sources")
        return self


@dataclass(frozen=True)
class Collection:
    """Items of one kind. gathered: what each source gave. notes: what was done to them, a line each.

    test: what a finished model is measured on: of the built-in world a split of its own, else the
    validation items.
    """

    kind: Kind
    gathered: Sequence[Gathered]
    train: list[Item]
    validation: list[Item]
    test: list[Item]
    notes: tuple[str, ...] = ()


def collect_items(settings: ItemSettings, kind: Kind, seed: int, world: World | None = None) -> Collection:
    """Read a stage's sources.

    Args:
        world: what the built-in world gives; by default what fits the kind.

    Raises:
        RequestError: when a source cannot be read, or gives none of this kind.
    """
    read = partial(gather, kind=kind, world=world)
    gathered = [read(source) for source in settings.sources]
    share = 0.0 if settings.validation_sources else settings.validation_fraction
    train: list[list[Item]] = []
    validation: list[Item] = []
    test: list[Item] = []
    for source, found in zip(settings.sources, gathered, strict=True):
        kept, held_out = split(found.items, 0.0 if source.builtin else share)
        train.append(kept)
        if source.builtin and not settings.validation_sources:
            limited = source.model_copy(update={"documents": settings.validation_documents})
            held_out = read(limited, split="validation").items
            test += read(limited, split="test").items
        else:
            test += held_out
        validation += held_out
    if settings.validation_sources:
        validation = [item for source in settings.validation_sources for item in read(source).items]
        test = validation
    named = [(source.title, part) for source, part in zip(settings.sources, train, strict=True)]
    parts, notes = shares_of(named, [source.weight for source in settings.sources], seed)
    kept = [item for part in parts for item in part]
    return Collection(kind, gathered, kept, validation, test, tuple(notes))


def shares_of(
    parts: Sequence[tuple[str, list[Item]]], weights: Sequence[float | None], seed: int
) -> tuple[list[list[Item]], list[str]]:
    """As many items of each named part as the weights allow without using one twice, and what was left out."""
    counts = _counts([len(items) for _, items in parts], weights)
    notes = [
        f"{title}: {count:,} of {len(items):,} are taken, so that the weights hold"
        for (title, items), count in zip(parts, counts, strict=True)
        if count < len(items)
    ]
    taken = [
        _some(items, count, seed, number)
        for number, ((_, items), count) in enumerate(zip(parts, counts, strict=True))
    ]
    return taken, notes


def _counts(sizes: Sequence[int], weights: Sequence[float | None]) -> list[int]:
    """How many items of each source are taken."""
    if all(weight is None for weight in weights):
        return list(sizes)
    whole = min(size / weight for size, weight in zip(sizes, weights, strict=True) if weight)
    return [min(size, round(whole * (weight or 0))) for size, weight in zip(sizes, weights, strict=True)]


def _some(items: list[Item], count: int, seed: int, number: int) -> list[Item]:
    """`count` of the items, in their order."""
    if count >= len(items):
        return items
    chosen = np.sort(Permutation(len(items), seed, number)(np.arange(count)))
    return [items[place] for place in chosen.tolist()]
