"""Batches made ahead of the step that needs them, by threads; their order is that of the steps."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

import torch

from linnet.data.batches import Batch


def made_ahead(
    make: Callable[[int], Batch | None], steps: range, workers: int = 0, pin: bool = False
) -> Generator[Batch, None, None]:
    """`make(step)` of each step, in order, until one is None.

    Closing the iterator, or leaving it, ends the threads.

    Args:
        workers: threads; 0 makes each batch here, when it is asked for.
        pin: put them in page-locked memory; for CUDA devices.
    """

    def made(step: int) -> Batch | None:
        batch = make(step)
        return batch.pin_memory() if pin and batch is not None else batch

    if not workers:
        for step in steps:
            if (batch := made(step)) is None:
                return
            yield batch
        return
    begin = partial(torch.cuda.set_device, torch.cuda.current_device()) if pin else None
    pool = ThreadPoolExecutor(workers, "batches", begin)
    ahead: deque[Future[Batch | None]] = deque()
    try:
        for step in steps:
            ahead.append(pool.submit(made, step))
            if len(ahead) > 2 * workers:
                if (batch := ahead.popleft().result()) is None:
                    return
                yield batch
        while ahead:
            if (batch := ahead.popleft().result()) is None:
                return
            yield batch
    finally:
        for waiting in ahead:
            waiting.cancel()
        pool.shutdown(wait=True)
