"""One build shared by many processes: each makes its part of the pieces, and a build puts them together.

A piece's bytes follow from its files and from nothing else, so it does not matter how many processes
there are, which of them makes which piece, or how often one of them is killed and begins again. Parts
share nothing but the cache, so any scheduler can run them.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

from linnet.config import RequestError
from linnet.data.opening import store_tasks
from linnet.data.settings import DataSettings
from linnet.data.shards.build import Duplicates, Piece, StoreTask, build_piece, pieces
from linnet.data.shards.locking import locked
from linnet.data.shards.progress import Progress, silent
from linnet.data.shards.writing import PIECE
from linnet.text import Tokenizer


@dataclass(frozen=True)
class Part:
    """Part `number` of `count`, the first being 1; part 0 is only what all of them need."""

    number: int
    count: int

    @classmethod
    def of(cls, word: str) -> Part:
        """A part as it is written: 3/16.

        Raises:
            RequestError: when it is written otherwise, or there is no such part.
        """
        found = re.fullmatch(r"(\d+)/(\d+)", word)
        part = cls(*map(int, found.groups())) if found else None
        if part is None or not part.count or part.number > part.count:
            raise RequestError(f"{word!r} is no part", "", "write for example 3/16: the third of sixteen")
        return part


@dataclass(frozen=True)
class PartDone:
    """What came of a part: pieces of all stores together, how many it made, how many are missing by source."""

    part: Part
    pieces: int
    made: int
    missing: dict[str, int]

    @property
    def left(self) -> int:
        """Pieces that are not there yet, of all parts."""
        return sum(self.missing.values())


def build_part(
    settings: DataSettings,
    tokenizer: Tokenizer,
    part: Part,
    progress: Progress = silent,
    processes: int | None = None,
) -> PartDone:
    """Make every `part.count`th piece of all stores, beginning with number `part.number`.

    Streams are left out, and so are stores of tokens and token files. What is asked of all documents at
    once (the fewest that must be held out) is looked at when the pieces are put together.

    Args:
        processes: that tokenise, instead of `preprocessing_processes`.

    Raises:
        RequestError: when a source is missing or not what it claims to be.
        RunError: when the disk is full or a place stops answering; the same part goes on from there.
    """
    if processes is not None:
        settings = settings.model_copy(update={"preprocessing_processes": processes})
    every = [
        (task, number, piece)
        for task in store_tasks(settings, tokenizer, progress)
        for number, piece in enumerate(pieces(task))
    ]
    duplicates, made = Duplicates(settings.cleaning), 0
    for task, number, piece in every[part.number - 1 :: part.count] if part.number else []:
        made += _make(task, number, piece, duplicates, progress)
    missing = Counter({task.source.title: 0 for task, _, _ in every})
    missing.update(task.source.title for task, number, _ in every if not _there(task, number))
    return PartDone(part, len(every), made, dict(missing))


def _make(task: StoreTask, number: int, piece: Piece, duplicates: Duplicates, progress: Progress) -> bool:
    """Make a piece unless it is there; whether there was something to do.

    The store's lock is shared with other parts, so that nobody puts the store together meanwhile.
    """
    with locked(task.folder, shared=True), locked(task.piece_lock(number)):
        if _there(task, number):
            return False
        build_piece(task, number, piece, duplicates, progress)
        return True


def _there(task: StoreTask, number: int) -> bool:
    return task.built or (task.piece_folder(number) / PIECE).exists()
