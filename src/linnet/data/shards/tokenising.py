"""Documents to tokens, by threads and then by processes, always in the order they came.

The engines work outside the interpreter's lock, so threads serve a small corpus well and begin
at once; a large one is worth the seconds that processes take to start. They are spawned, not
forked: a fork of a process that has threads may hang.
"""

from __future__ import annotations

import hashlib
import itertools
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np

from linnet.config import LinnetError, RunError
from linnet.data.shards.store import token_dtype
from linnet.data.sources.documents import Document, Tally
from linnet.text import Tokenizer

BATCH_CHARACTERS = 1 << 20
_RUNS_BEFORE_PROCESSES = 128  # by threads: with two, 1.5 to 2 times one core's speed, and nothing to start
_WAITING_PER_WORKER = 3
LARGEST_SHARE = 0.5  # of documents that is held out where a smaller one gives none

Tokenise = Callable[[Iterator[Document], Tally], Iterator["Tokenised"]]


@dataclass(frozen=True)
class HeldOut:
    """Which documents belong to validation, by their content alone: equal ones fall on the same side.

    share: of all documents, chosen by a keyed hash. digests: of documents that are known to be.
    """

    share: float
    digests: frozenset[int] = frozenset()

    def __contains__(self, document: bytes) -> bool:
        if self.share == 1.0:
            return True
        if not self.share and not self.digests:
            return False
        place = digest_of(document)
        return place < self.share * (1 << 64) or place in self.digests


def digest_of(document: bytes) -> int:
    """A document's 64-bit hash, which decides where it belongs."""
    return int.from_bytes(hashlib.blake2b(document, digest_size=8, key=b"linnet validation").digest(), "big")


@dataclass
class Tokenised:
    """A run of documents as tokens, as `tokenised` makes them; where each came from; which are held out."""

    tokens: np.ndarray  # [sum of lengths], of the vocabulary's shard type
    lengths: np.ndarray  # [documents]
    held_out: np.ndarray  # [documents], boolean
    text_bytes: np.ndarray  # [documents]
    files: np.ndarray  # [documents]
    rows: np.ndarray  # [documents]
    tally: Tally  # of all rows up to the last of these documents

    def of(self, split: str) -> tuple[np.ndarray, np.ndarray]:
        """Tokens and lengths of the documents that belong to a split."""
        chosen = self.held_out if split == "validation" else ~self.held_out
        if chosen.all():
            return self.tokens, self.lengths
        return self.tokens[np.repeat(chosen, self.lengths)], self.lengths[chosen]


Arrays = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def tokenised(tokenizer: Tokenizer, texts: list[str], held_out: HeldOut) -> Arrays:
    """Tokens of the texts, each followed by exactly one EOS; lengths; which are held out; bytes of text.

    Where the tokenizer has a `document_bos_id`, each text is preceded by exactly one of it.
    """
    encoded = tokenizer.encode_batch(texts)
    bos_id = tokenizer.document_bos_id
    around = 1 if bos_id is None else 2
    lengths = np.fromiter((len(ids) + around for ids in encoded), np.int64, len(encoded))
    tokens = np.full(int(lengths.sum()), tokenizer.eos_id, token_dtype(tokenizer.vocab_size))
    for ids, end in zip(encoded, np.cumsum(lengths).tolist(), strict=True):
        tokens[end - 1 - len(ids) : end - 1] = ids
    if bos_id is not None:
        tokens[np.cumsum(lengths) - lengths] = bos_id
    raw = [text.encode() for text in texts]
    chosen = np.array([document in held_out for document in raw], dtype=bool)
    return tokens, lengths, chosen, np.fromiter(map(len, raw), np.int64, len(raw))


@dataclass
class _Run:
    """Documents that are tokenised together."""

    texts: list[str]
    files: list[int]
    rows: list[int]
    tally: Tally = field(default_factory=Tally)

    def with_tokens(self, arrays: Arrays) -> Tokenised:
        files, rows = np.array(self.files, np.int64), np.array(self.rows, np.int64)
        return Tokenised(*arrays, files, rows, self.tally)


def _runs(documents: Iterator[Document], tally: Tally) -> Iterator[_Run]:
    """Documents in runs of about BATCH_CHARACTERS, with what `tally` counts at the end of each.

    What came before an error is given before it is raised: it may be all that somebody waits for.
    """
    run, size, failure = _Run([], [], []), 0, None
    try:
        for document in documents:
            run.texts.append(document.text)
            run.files.append(document.file)
            run.rows.append(document.row)
            size += len(document.text)
            if size >= BATCH_CHARACTERS:
                run.tally = replace(tally)
                yield run
                run, size = _Run([], [], []), 0
    except LinnetError as error:
        failure = error
    if run.texts:
        run.tally = replace(tally)
        yield run
    if failure is not None:
        raise failure


@contextmanager
def tokeniser(tokenizer: Tokenizer, processes: int, held_out: HeldOut) -> Iterator[Tokenise]:
    """A function from documents, and the tally of their reading, to runs of tokens, in order.

    Raises:
        RunError: when the system ends one of the processes.
    """
    threads = ThreadPoolExecutor(processes, "tokenise")
    pool: list[ProcessPoolExecutor] = []

    def by_threads(texts: list[str]) -> Future[Arrays]:
        return threads.submit(tokenised, tokenizer, texts, held_out)

    def by_processes(texts: list[str]) -> Future[Arrays]:
        if not pool:
            context = multiprocessing.get_context("spawn")
            pool.append(ProcessPoolExecutor(processes, context, _begin, (tokenizer, held_out)))
        return pool[0].submit(_tokenised_there, texts)

    def tokenise(documents: Iterator[Document], tally: Tally) -> Iterator[Tokenised]:
        runs = _runs(documents, tally)
        if processes == 1:
            for run in runs:
                yield run.with_tokens(tokenised(tokenizer, run.texts, held_out))
            return
        depth = _WAITING_PER_WORKER * processes
        if not pool:
            yield from _ahead(itertools.islice(runs, _RUNS_BEFORE_PROCESSES), by_threads, depth)
        try:
            yield from _ahead(runs, by_processes, depth)
        except BrokenProcessPool:
            raise RunError(
                "a process that tokenises was ended by the system, probably for want of memory", "",
                "set data.preprocessing_processes lower and run the same command again; it goes on from here",
            ) from None  # fmt: skip

    try:
        yield tokenise
    finally:
        threads.shutdown(wait=True, cancel_futures=True)
        for executor in pool:
            executor.shutdown(wait=True, cancel_futures=True)


def _ahead(
    runs: Iterator[_Run], submit: Callable[[list[str]], Future[Arrays]], depth: int
) -> Iterator[Tokenised]:
    """Runs in their order, `depth` of them at work at once; those before an error come before it."""
    waiting: deque[tuple[_Run, Future[Arrays]]] = deque()
    failure = None
    try:
        for run in runs:
            waiting.append((run, submit(run.texts)))
            if len(waiting) > depth:
                first, arrays = waiting.popleft()
                yield first.with_tokens(arrays.result())
    except LinnetError as error:
        failure = error
    for first, arrays in waiting:
        yield first.with_tokens(arrays.result())
    if failure is not None:
        raise failure


_here: list[tuple[Tokenizer, HeldOut]] = []


def _begin(tokenizer: Tokenizer, held_out: HeldOut) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends the pool
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _here[:] = [(tokenizer, held_out)]


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)  # a killed parent cannot end its pool; the pool would wait for work for ever


def _tokenised_there(texts: list[str]) -> Arrays:
    tokenizer, held_out = _here[0]
    return tokenised(tokenizer, texts, held_out)
