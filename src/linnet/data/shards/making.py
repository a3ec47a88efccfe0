"""Making a stream's shards: rows to tokens to files, ahead of the readers and within the disk limit.

What a shard holds is decided by where it starts, so it does not matter who makes it, when, how
often, or after which other shard.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import BinaryIO

import numpy as np

from linnet.config import LinnetError, RequestError, RunError
from linnet.data.shards.locking import locked, taken
from linnet.data.shards.maker import Task
from linnet.data.shards.store import token_dtype
from linnet.data.shards.stream_folder import Facts, Start, StreamFolder, age_of, size_of
from linnet.data.shards.tokenising import Tokenised, tokeniser
from linnet.data.sources.documents import Document, Tally, documents
from linnet.data.sources.retrying import persistent

_NICE = 10  # training comes first
_LONELY = 30.0  # seconds without a reader before it ends
_POLL = 0.05
_DISK_PATIENCE = 5.0  # seconds between two tries to write on a full disk


def main() -> None:
    """The process: a task on standard input, which stays open as long as whoever began it is there."""
    given = os.fdopen(0, "rb")
    task: Task = pickle.load(given)
    threading.Thread(target=_end_with, args=(given,), daemon=True).start()
    folder = StreamFolder(task.folder)
    lock = taken(task.folder / "maker.lock")
    if lock is None:
        return  # another reader's process is at work
    os.nice(_NICE)
    folder.drop_leavings()
    try:
        make(task, folder, lambda: os.fstat(lock).st_nlink > 0)
    except LinnetError as error:
        told = {"what": error.what, "where": error.where, "mend": error.mend}
        folder.write("error.json", {"time": time.time(), "request": isinstance(error, RequestError), **told})
    except Exception:
        traceback.print_exc()
        told = {"what": "its shards cannot be made", "where": task.source.title,
                "mend": f"see {task.folder / 'maker.log'}"}  # fmt: skip
        folder.write("error.json", {"time": time.time(), "request": False, **told})


def _end_with(given: BinaryIO) -> None:
    while given.read(1):
        pass
    os._exit(0)


def make(task: Task, folder: StreamFolder, alone: Callable[[], bool] = lambda: True) -> None:
    """Make what readers want until no reader is left, or `alone` is no longer true: the folder was removed."""
    _make_room(folder, task.keep + 1)  # the limit may have been higher before
    shards: Iterator[tuple[Facts, np.ndarray]] = iter(())
    at = -1  # the number of the next shard that `shards` gives
    lonely = time.monotonic()
    while time.monotonic() - lonely < _LONELY and alone():
        wants = folder.wants()[: task.keep]
        if wants:
            lonely = time.monotonic()
        end = folder.end()
        here = set(folder.present())
        missing = [want for want in wants if want not in here and not (end and want >= end[0])]
        if not missing:
            time.sleep(_POLL)
            continue
        near, start = folder.start_of(missing[0], task.first)
        if not near <= at <= missing[0]:
            _close(shards)
            at, shards = near, made(task, near, start, _teller(folder))
        facts, tokens = next(shards)
        at = facts.index + 1 if facts.following else -1
        _keep(task, folder, facts, tokens if facts.index in wants else None)
    _close(shards)


def _close(shards: Iterator[tuple[Facts, np.ndarray]]) -> None:
    close = getattr(shards, "close", None)
    if close is not None:
        close()


def _teller(folder: StreamFolder) -> Callable[[str], None]:
    return lambda what: folder.write("trouble.json", {"what": what, "time": time.time()})


def _keep(task: Task, folder: StreamFolder, facts: Facts, tokens: np.ndarray | None) -> None:
    """Write a shard where there is room for it; wait for room on a full disk."""
    began = time.monotonic()
    while True:
        try:
            if tokens is None:
                folder.keep(facts, tokens)
            else:
                with locked(folder.path.parent / "room"):  # or several would find the same room
                    _make_room(folder, task.keep)
                    _make_room_of_others(task, folder, tokens.nbytes)
                    folder.keep(facts, tokens)
            return
        except OSError as error:
            reason = error.strerror or str(error)
            if time.monotonic() - began > task.patience:
                raise RunError(
                    f"its shards cannot be written ({reason})", str(task.folder),
                    "make room and run the same command again; it goes on where it stopped",
                ) from None  # fmt: skip
            _teller(folder)(f"its shards cannot be written ({reason}); trying again")
            time.sleep(min(_DISK_PATIENCE, task.patience))


def _make_room(folder: StreamFolder, keep: int) -> None:
    """Drop shards until another one fits: first what nobody wants, the longest there first."""
    present, wants = folder.present(), folder.wants()[:keep]
    unwanted = [index for index in present if index not in wants]
    late = [index for index in reversed(wants) if index in present]
    for index in (unwanted + late)[: max(0, len(present) + 1 - keep)]:
        folder.bin(index).unlink(missing_ok=True)


def _make_room_of_others(task: Task, folder: StreamFolder, wanted: int) -> None:
    """Drop shards of streams that nobody reads, the oldest first, where all together would be too many."""
    bins = [path for path in folder.path.parent.glob("*/*.bin") if path.stem.isdigit()]
    excess = sum(map(size_of, bins)) + wanted - task.cache_bytes
    if excess <= 0:
        return
    idle = {path for path in {path.parent for path in bins} - {folder.path} if StreamFolder(path).idle}
    for path in sorted((path for path in bins if path.parent in idle), key=age_of):
        if excess <= 0:
            return
        excess -= size_of(path)
        path.unlink(missing_ok=True)


@dataclass
class _Pending:
    """Training documents that are not in a shard yet."""

    tokens: list[np.ndarray] = field(default_factory=list)
    lengths: list[np.ndarray] = field(default_factory=list)
    files: list[np.ndarray] = field(default_factory=list)
    rows: list[np.ndarray] = field(default_factory=list)
    numbers: list[np.ndarray] = field(default_factory=list)  # of documents in the source, held-out ones too
    text_bytes: list[np.ndarray] = field(default_factory=list)

    def add(self, run: Tokenised, seen: int) -> int:
        """Take in a run whose first document is number `seen`; how many tokens came."""
        chosen = ~run.held_out
        tokens, lengths = run.of("train")
        self.tokens.append(tokens)
        self.lengths.append(lengths)
        self.files.append(run.files[chosen])
        self.rows.append(run.rows[chosen])
        self.numbers.append(seen + np.flatnonzero(chosen))
        self.text_bytes.append(run.text_bytes[chosen])
        return len(tokens)

    def whole(self) -> _Pending:
        """The same in one piece."""
        lists = (self.tokens, self.lengths, self.files, self.rows, self.numbers, self.text_bytes)
        return _Pending(*([np.concatenate(parts)] for parts in lists))


def made(
    task: Task, index: int, start: Start, trouble: Callable[[str], None]
) -> Iterator[tuple[Facts, np.ndarray]]:
    """Shards from `index` on, which starts at `start`, with their facts; the last one is known as such.

    Raises:
        LinnetError: when the source stays away, or its content is wrong.
    """
    pending, waiting, seen = _Pending(), 0, start.documents
    skip = start.offset  # tokens of the first document that lie in the shard before
    with tokeniser(task.tokenizer, task.processes, task.held_out) as tokenise:
        for run in tokenise(_documents(task, start, trouble), Tally()):
            waiting += pending.add(run, seen)
            seen += len(run.lengths)
            while waiting - skip > task.shard_tokens:  # one token more, so this is not the last
                facts, tokens, rest, skip = _cut(task, index, start, pending, skip)
                yield facts, tokens
                assert facts.following is not None
                index, start, pending = index + 1, facts.following, rest
                waiting = len(pending.tokens[0])
    if waiting - skip <= 0:
        what = "there is no document in it" if not index else "it ends earlier than it did before"
        raise RequestError(what, task.source.title, "check its path, its filter and its lengths")
    yield _last(task, index, start, pending.whole(), skip)


def _documents(task: Task, start: Start, trouble: Callable[[str], None]) -> Iterator[Document]:
    limit = task.source.documents
    unlimited = task.source.model_copy(update={"documents": None})
    reading = persistent(
        lambda file, row: documents(unlimited, files=task.files, file=file, row=row, cleaning=task.cleaning),
        start.file, start.row, task.patience, trouble,
    )  # fmt: skip
    return islice(reading, None if limit is None else max(0, limit - start.documents))


def _cut(
    task: Task, index: int, start: Start, pending: _Pending, skip: int
) -> tuple[Facts, np.ndarray, _Pending, int]:
    """A full shard, what follows it, and how many tokens of the first document of that lie in the shard."""
    parts = pending.whole()
    tokens, ends = parts.tokens[0], np.cumsum(parts.lengths[0])
    stop = skip + task.shard_tokens
    through = int(np.searchsorted(ends, stop, side="right"))  # the document that the next shard begins in
    begin = int(ends[through - 1]) if through else 0
    following = Start(
        before=int(tokens[stop - 1]), file=int(parts.files[0][through]), row=int(parts.rows[0][through]),
        offset=stop - begin, documents=int(parts.numbers[0][through]),
    )  # fmt: skip
    rest = _Pending([tokens[begin:]], *([part[0][through:]] for part in (
        parts.lengths, parts.files, parts.rows, parts.numbers, parts.text_bytes,
    )))  # fmt: skip
    counts = through - (skip > 0) + (stop > begin), int(parts.text_bytes[0][:through].sum())
    facts, kept = _facts(task, index, start, following, tokens[skip:stop], *counts)
    return facts, kept, rest, stop - begin


def _last(task: Task, index: int, start: Start, parts: _Pending, skip: int) -> tuple[Facts, np.ndarray]:
    counts = len(parts.lengths[0]) - (skip > 0), int(parts.text_bytes[0].sum())
    return _facts(task, index, start, None, parts.tokens[0][skip:], *counts)


def _facts(
    task: Task, index: int, start: Start, following: Start | None, tokens: np.ndarray, documents: int,
    text_bytes: int,
) -> tuple[Facts, np.ndarray]:  # fmt: skip
    kept = np.ascontiguousarray(tokens, dtype=token_dtype(task.tokenizer.vocab_size))
    sha256 = hashlib.sha256(kept.data).hexdigest()
    return Facts(index, start, following, len(kept), documents, text_bytes, sha256), kept
