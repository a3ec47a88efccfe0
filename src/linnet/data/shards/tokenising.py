"""Documents to tokens, by one process or by many, always in the order they came.

Processes are spawned, not forked: a fork of a process that has threads may hang. The first
documents are tokenised at once in this process, so a small corpus starts none.
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
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from linnet.config import RunError
from linnet.data.shards.store import token_dtype
from linnet.text import Tokenizer

BATCH_CHARACTERS = 1 << 20
_BATCHES_BEFORE_PROCESSES = 8  # about two seconds of work, which is what starting processes costs
_WAITING_PER_PROCESS = 3

Tokenise = Callable[[Iterator[str], float], Iterator["Tokenised"]]


@dataclass
class Tokenised:
    """A run of documents as tokens, each ended by one EOS; which of them are held out."""

    tokens: np.ndarray  # [sum of lengths], of the vocabulary's shard type
    lengths: np.ndarray  # [documents]
    held_out: np.ndarray  # [documents], boolean
    text_bytes: int

    def of(self, split: str) -> tuple[np.ndarray, np.ndarray]:
        """Tokens and lengths of the documents that belong to a split."""
        chosen = self.held_out if split == "validation" else ~self.held_out
        if chosen.all():
            return self.tokens, self.lengths
        return self.tokens[np.repeat(chosen, self.lengths)], self.lengths[chosen]


def tokenised(tokenizer: Tokenizer, documents: list[str], share: float) -> Tokenised:
    """Documents as tokens, each followed by exactly one EOS; `share` of them held out."""
    encoded = tokenizer.encode_batch(documents)
    lengths = np.fromiter((len(ids) + 1 for ids in encoded), np.int64, len(encoded))
    tokens = np.full(int(lengths.sum()), tokenizer.eos_id, token_dtype(tokenizer.vocab_size))
    for ids, end in zip(encoded, np.cumsum(lengths).tolist(), strict=True):
        tokens[end - 1 - len(ids) : end - 1] = ids
    raw = [text.encode() for text in documents]
    chosen = np.array([is_held_out(document, share) for document in raw])
    return Tokenised(tokens, lengths, chosen, sum(map(len, raw)))


def is_held_out(document: bytes, share: float) -> bool:
    """Whether a document belongs to validation: by a hash of its content alone."""
    if share in (0.0, 1.0):
        return bool(share)
    place = int.from_bytes(hashlib.blake2b(document, digest_size=8, key=b"linnet validation").digest(), "big")
    return place < share * (1 << 64)


def batches(documents: Iterator[str]) -> Iterator[list[str]]:
    """Documents in runs of about BATCH_CHARACTERS."""
    batch: list[str] = []
    size = 0
    for text in documents:
        batch.append(text)
        size += len(text)
        if size >= BATCH_CHARACTERS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


@contextmanager
def tokeniser(tokenizer: Tokenizer, processes: int) -> Iterator[Tokenise]:
    """A function from (documents, share held out) to runs of tokens, in order, by that many processes.

    Raises:
        RunError: when the system ends one of the processes.
    """
    pool: list[ProcessPoolExecutor] = []

    def there(runs: Iterator[list[str]], share: float) -> Iterator[Tokenised]:
        waiting: deque[Future[Tokenised]] = deque()
        for run in runs:
            if not pool:
                context = multiprocessing.get_context("spawn")
                pool.append(ProcessPoolExecutor(processes, context, _begin, (tokenizer,)))
            waiting.append(pool[0].submit(_tokenised_there, run, share))
            if len(waiting) > _WAITING_PER_PROCESS * processes:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    def tokenise(documents: Iterator[str], share: float) -> Iterator[Tokenised]:
        runs = batches(documents)
        here = None if processes == 1 else 0 if pool else _BATCHES_BEFORE_PROCESSES
        for run in itertools.islice(runs, here):
            yield tokenised(tokenizer, run, share)
        try:
            yield from there(runs, share)
        except BrokenProcessPool:
            raise RunError(
                "a process that tokenises was ended by the system, probably for want of memory", "",
                "set data.preprocessing_processes lower and run the same command again; it goes on from here",
            ) from None  # fmt: skip

    try:
        yield tokenise
    finally:
        for executor in pool:
            executor.shutdown(wait=True, cancel_futures=True)


_here: list[Tokenizer] = []


def _begin(tokenizer: Tokenizer) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends the pool
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _here[:] = [tokenizer]


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)  # a killed parent cannot end its pool; the pool would wait for work for ever


def _tokenised_there(documents: list[str], share: float) -> Tokenised:
    return tokenised(_here[0], documents, share)
