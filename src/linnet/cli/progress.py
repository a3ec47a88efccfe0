"""A line that moves while shards are built."""

from __future__ import annotations

import shutil
import sys
import time
from types import TracebackType

from linnet.data.shards.progress import BuildProgress
from linnet.observe import duration

_QUIET, _LIVE, _LOGGED = (
    2.0,
    0.2,
    30.0,
)  # seconds: before the first line, between lines on a terminal, in a log


class BuildLine:
    """Tells how a build goes, once it takes over two seconds; speed and time left are of this run alone."""

    def __init__(self) -> None:
        self._live = sys.stderr.isatty()
        self._told = time.monotonic()
        self._wait = _QUIET
        self._first: tuple[float, BuildProgress] | None = None

    def __call__(self, progress: BuildProgress) -> None:
        now = time.monotonic()
        if self._first is None:
            self._first = (now, progress)
        if now - self._told < self._wait:
            return
        self._told, self._wait = now, _LIVE if self._live else _LOGGED
        line = _line(progress, self._first[1], now - self._first[0])
        if self._live:
            print(
                f"\r\x1b[2K{line[: shutil.get_terminal_size().columns - 1]}",
                end="",
                file=sys.stderr,
                flush=True,
            )
        else:
            print(line, file=sys.stderr, flush=True)

    def __enter__(self) -> BuildLine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live and self._wait == _LIVE:
            print(file=sys.stderr)


def _line(progress: BuildProgress, first: BuildProgress, seconds: float) -> str:
    """How far it is, and how fast it came from `first` to here in `seconds`."""
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
