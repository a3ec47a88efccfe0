"""A source's documents to token shards, beforehand: in parallel, resumable, and found again by content.

A store lives in a folder named by everything that decides its bytes (see keys.py). Its files are
taken in pieces, groups of files that follow each other; no shard holds text of two pieces. So the
bytes do not depend on how many processes tokenised them, on how many machines shared the pieces,
or on how often the build was interrupted.

Which documents are held out is decided by a hash of each document's text: equal documents
fall on the same side, wherever and however often they appear.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

from linnet.config import RequestError
from linnet.data.cleaning import Deduplicator
from linnet.data.settings import Cleaning, Source
from linnet.data.shards import writing
from linnet.data.shards.keys import fingerprint, key_of
from linnet.data.shards.locking import locked
from linnet.data.shards.progress import BuildProgress, Progress, silent
from linnet.data.shards.store import FORMAT, SPLITS, Store, open_store, token_dtype
from linnet.data.shards.tokenising import HeldOut, tokeniser
from linnet.data.shards.writing import PIECE, ShardWriter, cannot_write
from linnet.data.sources.documents import Document, Tally, documents, limit_of
from linnet.data.sources.files import File, files_of
from linnet.data.sources.reading import Seen
from linnet.data.sources.retrying import persistent
from linnet.storage import sync_folder, write_durably
from linnet.text import Tokenizer

PIECE_BYTES = 256 << 20  # of files as they lie, packed or not


@dataclass(frozen=True)
class StoreTask:
    """What one store is made of, and where it goes.

    earlier: the sources whose documents are duplicates here, when duplicates are left out. world_documents:
    how many documents the built-in world holds out. patience: seconds that a place may fail to answer.
    only_held_out: take that many held-out documents, the first there are, and nothing else.
    """

    source: Source
    cleaning: Cleaning
    tokenizer: Tokenizer
    held_out: HeldOut
    cache: Path
    processes: int = 1
    earlier: tuple[Source, ...] = ()
    world_documents: int = 0
    patience: float = 600.0
    only_held_out: int = 0

    @cached_property
    def folder(self) -> Path:
        """Where the store lies once it is whole. Asked of all the source's files once, not at every piece."""
        once = self.cleaning.deduplicate != "none"
        return self.cache / "stores" / key_of(
            format=FORMAT,
            tokenizer=self.tokenizer.fingerprint,
            source=fingerprint(self.source),
            only_held_out=self.only_held_out,
            cleaning=self.cleaning.model_dump(),
            earlier=[fingerprint(source) for source in self.earlier] if once else [],
            share=self.held_out.share,
            held_out=key_of(digests=sorted(self.held_out.digests)),
            world=self.world_documents,
        )  # fmt: skip

    @property
    def built(self) -> bool:
        """Whether it lies there: its store.json is written last."""
        return (self.folder / "store.json").exists()

    @property
    def unfinished(self) -> Path:
        """Where it lies until then."""
        return self.folder.with_name(f"{self.folder.name}.partial")

    def piece_folder(self, number: int) -> Path:
        """Where one of its pieces is made."""
        return self.unfinished / f"piece-{number:05d}"

    def piece_lock(self, number: int) -> Path:
        """What builders that share the store's pieces lock; beside the store, of which it is no part."""
        return self.folder.with_name(f"{self.folder.name}.piece-{number:05d}")


@dataclass(frozen=True)
class Piece:
    """Files that are taken together; of the built-in world, one of its splits."""

    files: list[File]
    split: str
    held_out: HeldOut
    limit: int | None = None


def pieces(task: StoreTask) -> list[Piece]:
    """The pieces of a store, in order.

    Raises:
        RequestError: when the files are not there.
    """
    limit = limit_of(task.source)
    if task.source.builtin:  # it holds documents of its own out, by their content
        if task.held_out.share == 1.0:
            return [Piece([], "validation", task.held_out, limit)]
        train = [Piece([], "train", replace(task.held_out, share=0.0), limit)]
        world = [Piece([], "validation", HeldOut(1.0), task.world_documents)] if task.world_documents else []
        return train + world
    files = files_of(task.source)
    if task.only_held_out:
        return [Piece(files, "train", HeldOut(1.0), limit)]
    if limit is not None or task.cleaning.deduplicate != "none":
        return [Piece(files, "train", task.held_out, limit)]  # what is taken depends on all that came before
    groups: list[list[File]] = [[]]
    size = 0
    for file in files:
        if size >= PIECE_BYTES:
            groups.append([])
            size = 0
        groups[-1].append(file)
        size += file.size or PIECE_BYTES
    return [Piece(group, "train", task.held_out) for group in groups]


class Duplicates:
    """Documents that came before, over all sources that one build takes in, in their order."""

    def __init__(self, cleaning: Cleaning) -> None:
        self._cleaning = cleaning
        self._fed = 0  # sources that were taken in
        kind = cleaning.deduplicate
        self._seen = Deduplicator(kind, cleaning.near_threshold) if kind != "none" else None

    def without(self, task: StoreTask, documents_of: Iterator[Document]) -> Iterator[Document]:
        """The documents that are no duplicates of earlier ones."""
        if self._seen is None:
            yield from documents_of
            return
        for source in task.earlier[self._fed :]:
            for document in documents(source, cleaning=self._cleaning):
                self._seen.is_duplicate(document.text)
            self._fed += 1
        for document in documents_of:
            if not self._seen.is_duplicate(document.text):
                yield document
        self._fed += 1


def build_store(task: StoreTask, duplicates: Duplicates | None = None, progress: Progress = silent) -> Store:
    """The store of a task, built if it is not there yet.

    Raises:
        RequestError: when the source is missing, empty or not what it claims to be.
        RunError: when the disk is full or a place stops answering; a later build goes on from there.
    """
    folder = task.folder
    if not task.built:
        with locked(folder):
            if not task.built:
                for number, piece in enumerate(pieces(task)):
                    build_piece(task, number, piece, duplicates or Duplicates(task.cleaning), progress)
                assemble(task)
                for lock in folder.parent.glob(f"{folder.name}.piece-*.lock"):
                    lock.unlink(missing_ok=True)  # whoever holds one holds the store's lock too
    return open_store(folder, task.source.title)


def build_piece(
    task: StoreTask, number: int, piece: Piece, duplicates: Duplicates, progress: Progress = silent
) -> None:
    """One piece of a store, or what is left to do of it.

    Raises:
        RequestError, RunError: as `build_store`.
    """
    folder = task.piece_folder(number)
    writer = ShardWriter(folder, token_dtype(task.tokenizer.vocab_size), writing.SHARD_TOKENS)
    if writer.finished:
        return
    once = task.cleaning.deduplicate != "none"
    reading, tally = _Reading(piece), Tally() if once else replace(writer.tally)
    title = task.source.title

    def say(note: str = "") -> None:
        share = reading.share(writer.documents)
        progress(BuildProgress(title, writer.documents, writer.text_bytes, share, note))

    found = _documents(task, piece, writer, duplicates, reading.seen, tally, say)
    with tokeniser(task.tokenizer, task.processes, piece.held_out) as tokenise:
        for batch in tokenise(found, tally):
            writer.add(batch)
            say()
    writer.finish(tally)


def _documents(
    task: StoreTask, piece: Piece, writer: ShardWriter, duplicates: Duplicates, seen: Seen, tally: Tally,
    trouble: Callable[[str], None],
) -> Iterator[Document]:  # fmt: skip
    once = task.cleaning.deduplicate != "none"
    file, row = (0, 0) if once else (writer.file, writer.row)
    unlimited = task.source.model_copy(update={"documents": None})

    def open_at(file: int, row: int) -> Iterator[Document]:
        return documents(
            unlimited, files=piece.files, file=file, row=row, limit=piece.limit, split=piece.split,
            cleaning=task.cleaning, seen=seen, tally=tally,
        )  # fmt: skip

    found = persistent(open_at, file, row, task.patience, trouble)
    if piece.limit is not None:
        found = islice(found, piece.limit - (0 if once else writer.documents))
    if task.only_held_out:
        held = (document for document in found if document.text.encode() in task.held_out)
        return islice(held, task.only_held_out - writer.documents)
    return islice(duplicates.without(task, found), writer.documents, None) if once else found


class _Reading:
    """What part of a piece has been read: in documents where they have a number, else in bytes of files."""

    def __init__(self, piece: Piece) -> None:
        self._limit = piece.limit
        sizes = [file.size for file in piece.files]
        self._total = sum(size or 0 for size in sizes) if all(sizes) else 0
        self._bytes = 0

    def seen(self, count: int) -> None:
        self._bytes += count

    def share(self, documents: int) -> float | None:
        """The share with that many documents read; None where the whole is not known."""
        if self._limit:
            return min(1.0, documents / self._limit)
        return min(1.0, self._bytes / self._total) if self._total else None


def assemble(task: StoreTask) -> None:
    """Make a store of its finished pieces.

    Raises:
        RequestError: when there is no document in them.
        RunError: when the disk does not take it.
    """
    aside = task.unfinished
    found = [json.loads(path.read_text()) for path in sorted(aside.glob(f"piece-*/{PIECE}"))]
    looked_at = _added([piece["tally"] for piece in found])
    nobody_held_out = task.only_held_out and Tally(**looked_at).kept
    if not sum(piece["documents"] for piece in found) and not nobody_held_out:
        shutil.rmtree(aside)
        raise RequestError(_nothing(looked_at), task.source.title, "give a source with at least one document")
    tokenizer = task.tokenizer
    facts: dict[str, Any] = {
        "format": FORMAT,
        "dtype": token_dtype(tokenizer.vocab_size).str,
        "tokenizer": {
            "name": tokenizer.name,
            "fingerprint": tokenizer.fingerprint,
            "vocab_size": tokenizer.vocab_size,
            "eos_id": tokenizer.eos_id,
        },
        "validation_fraction": task.held_out.share,
        "text_bytes": sum(piece["text_bytes"] for piece in found),
        "left_out": looked_at,
        "splits": {name: _gathered(found, name) for name in SPLITS},
    }
    try:
        write_durably(aside / "store.json", json.dumps(facts, indent=2).encode())
        if task.folder.exists():
            shutil.rmtree(task.folder)  # a store that lost its store.json
        aside.replace(task.folder)
        sync_folder(task.folder.parent)
    except OSError as error:
        raise cannot_write(aside, error) from None


def _gathered(found: list[dict[str, Any]], split: str) -> dict[str, Any]:
    shards = [
        {**shard, "file": f"piece-{number:05d}/{shard['file']}"}
        for number, piece in enumerate(found)
        for shard in piece["splits"][split]["shards"]
    ]
    return {"documents": sum(piece["splits"][split]["documents"] for piece in found), "shards": shards}


def _added(tallies: list[dict[str, int]]) -> dict[str, int]:
    """Rows read and left out in all pieces."""
    whole = Tally()
    for tally in tallies:
        whole.add(Tally(**tally))
    return asdict(whole)


def _nothing(counts: dict[str, int]) -> str:
    """Why there is no document."""
    if not counts["rows"]:
        return "there is no text in it"
    reasons = ("without_text", "filtered", "too_short", "too_long")
    why = ", ".join(f"{counts[name]:,} {name.replace('_', ' ')}" for name in reasons if counts[name])
    return f"none of its {counts['rows']:,} rows is a document ({why})"
