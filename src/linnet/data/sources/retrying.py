"""Reading on through trouble: a place that does not answer is asked again, from where it stopped.

Why this exists: a run of days meets every blip of its network. Reopening at the row after the last
one makes a blip cost seconds and no document; whoever stays away for long ends the work with a line,
and what was read before is safe.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from linnet.config import LinnetError, RunError
from linnet.data.sources.troubles import Damage, Interruption, trouble_with

if TYPE_CHECKING:
    from linnet.data.sources.documents import Document

FIRST_DELAY = 0.5  # seconds
LONGEST_DELAY = 60.0
DAMAGED_READS = 3  # a body that was cut short looks like damage; damage looks the same every time


def persistent(
    open_at: Callable[[int, int], Iterator[Document]],
    file: int,
    row: int,
    patience: float,
    trouble: Callable[[str], None],
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], object] = time.sleep,
    draw: Callable[[], float] = random.random,
) -> Iterator[Document]:
    """The documents of `open_at(file, row)`, reopened after the last one whenever the place fails to answer.

    Delays double from FIRST_DELAY to LONGEST_DELAY, each shortened by up to a half by `draw` (so that
    ranks do not ask in step), and are never shorter than what the place asks for.

    Args:
        patience: seconds after the first failure, without a document since, before giving up.
        trouble: is told one line each time it asks again.
        clock, sleep, draw: the time, waiting, and a number in [0, 1); what `sleep` raises ends the reading.

    Raises:
        RunError: when there was no document for `patience` seconds.
        LinnetError: at once, when asking again cannot help: a file that is gone, access that is refused,
            content that is wrong.
    """
    failures = damaged = 0
    since = 0.0
    while True:
        reading = open_at(file, row)
        try:
            for document in reading:
                failures = damaged = 0
                file, row = document.file, document.row + 1
                yield document
            return
        except Exception as error:
            met = error if isinstance(error, LinnetError) else trouble_with(error, "", remote=True)
            if isinstance(met, Damage) and met.remote and damaged + 1 < DAMAGED_READS:
                damaged += 1
            elif not isinstance(met, Interruption):
                if met is None or met is error:
                    raise
                raise met from None
            assert isinstance(met, (Damage, Interruption))
        finally:
            close = getattr(reading, "close", None)
            if close is not None:
                close()
        if (met.file or 0) > file:
            file, row = met.file or 0, 0  # the files before it have been read to their ends
        now = clock()
        since = since if failures else now
        if now - since >= patience:
            if isinstance(met, Damage):
                raise met
            raise RunError(f"does not answer ({met.what})", met.where or "the source",
                           "run the same command again; it goes on where it stopped")  # fmt: skip
        delay = min(LONGEST_DELAY, FIRST_DELAY * 2.0 ** min(failures, 30)) * (1 - draw() / 2)
        delay = max(delay, getattr(met, "after", None) or 0.0)
        delay = min(delay, since + patience - now)
        failures += 1
        where = f"{met.where}: " if met.where else ""
        trouble(f"{where}{met.what}; asking again in {delay:.1f} s")
        sleep(delay)
