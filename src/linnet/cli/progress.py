"""A line that moves while something long goes on."""

from __future__ import annotations

import shutil
import sys
import time
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Generic, TypeVar

from linnet.observe import duration

if TYPE_CHECKING:
    from linnet.data.shards.progress import BuildProgress

# seconds: before the first line, between lines on a terminal, in a log
_QUIET, _LIVE, _LOGGED = 2.0, 0.2, 30.0

Told = TypeVar("Told")


class ProgressLine(Generic[Told]):
    """Tells how something goes, once it takes over two seconds; `text` says in which words."""

    def __init__(self) -> None:
        self._live = sys.stderr.isatty()
        self._told = time.monotonic()
        self._wait = _QUIET
        self._firsts: dict[str, tuple[float, Told]] = {}

    def work(self, progress: Told) -> str:
        """What this belongs to: each work has a pace of its own."""
        return ""

    def text(self, progress: Told, first: Told, seconds: float) -> str:
        """How far it is, and how fast it came from `first` to here in `seconds`."""
        raise NotImplementedError

    def __call__(self, progress: Told) -> None:
        now = time.monotonic()
        began, first = self._firsts.setdefault(self.work(progress), (now, progress))
        if now - self._told < self._wait:
            return
        self._told, self._wait = now, _LIVE if self._live else _LOGGED
        line = self.text(progress, first, now - began)
        with suppress(BrokenPipeError):  # nobody reads any more; the work goes on
            if self._live:
                width = shutil.get_terminal_size().columns - 1
                print(f"\r\x1b[2K{line[:width]}", end="", file=sys.stderr, flush=True)
            else:
                print(line, file=sys.stderr, flush=True)

    def __enter__(self) -> ProgressLine[Told]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live and self._wait == _LIVE:
            print(file=sys.stderr)


class BuildLine(ProgressLine["BuildProgress"]):
    """How a build goes; speed and time left are of this run alone."""

    def work(self, progress: BuildProgress) -> str:
        """See ProgressLine."""
        return f"{progress.doing} {progress.source}"

    def text(self, progress: BuildProgress, first: BuildProgress, seconds: float) -> str:
        """See ProgressLine."""
        documents = f"{progress.documents:,} documents, " if progress.documents else ""
        line = f"{progress.doing} {progress.source}: {documents}{progress.text_bytes / 1e6:,.1f} MB"
        if progress.note:
            return f"{line} ({progress.note})"
        if not seconds:
            return line
        line += f", {(progress.text_bytes - first.text_bytes) / 1e6 / seconds:,.1f} MB/s"
        if progress.share is None or first.share is None:
            return line
        line += f", {100 * progress.share:.0f}%"
        gained = progress.share - first.share
        return f"{line}, {duration(seconds * (1 - progress.share) / gained)} left" if gained > 0 else line
