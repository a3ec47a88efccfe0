"""Many verdicts at once, and an end to waiting.

Each verdict is another process's work, so threads are enough to wait for them. They are daemon threads of
our own: those of `concurrent.futures` are joined when the interpreter ends, and one verifier that never
returns would keep a finished run from ending.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")
MOST_WORKERS = 16  # by default; each may hold `memory_mb`


def available_workers() -> int:
    """As many as this process may use cores, at most MOST_WORKERS."""
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # macOS
        cores = os.cpu_count() or 1
    return min(cores, MOST_WORKERS)


@dataclass(frozen=True)
class Budget:
    """How many processes may work at once, until when (on `time.monotonic`'s clock), and whom to tell.

    `tell` takes one line for a person about what went wrong without ending anything.
    """

    workers: int = field(default_factory=available_workers)
    deadline: float = float("inf")
    tell: Callable[[str], None] = lambda line: None

    @property
    def left(self) -> float:
        """Seconds until the deadline, never below 0."""
        return max(0.0, self.deadline - time.monotonic())


@dataclass
class Done(Generic[Result]):
    """What became of one item: a result, or the exception that its work ended with."""

    result: Result | None = None
    error: BaseException | None = None


def each(
    items: Sequence[Item], work: Callable[[Item], Result], workers: int, deadline: float
) -> list[Done[Result] | None]:
    """Work on every item, up to `workers` at once.

    Returns:
        One entry an item, in their order; None for those that were not done by the deadline.
    """
    results: list[Done[Result] | None] = [None] * len(items)
    waiting = iter(range(len(items)))
    lock, finished = threading.Lock(), threading.Event()
    at_work = min(workers, len(items))

    def take() -> int | None:
        with lock:
            return next(waiting, None) if time.monotonic() < deadline else None

    def run() -> None:
        nonlocal at_work
        while (index := take()) is not None:
            try:
                done = Done(result=work(items[index]))
            except (
                BaseException
            ) as error:  # SystemExit too: a thread that ends uncounted is waited for for ever
                done = Done(error=error)
            results[index] = done
        with lock:
            at_work -= 1
            if at_work == 0:
                finished.set()

    if not items:
        return results
    for number in range(at_work):
        threading.Thread(target=run, name=f"verdicts-{number}", daemon=True).start()
    finished.wait(None if deadline == float("inf") else max(0.0, deadline - time.monotonic()))
    return list(results)
