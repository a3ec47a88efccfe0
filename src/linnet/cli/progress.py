"""A line that moves while shards are built."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from linnet.data.build import BuildProgress
from linnet.observe import duration


class BuildLine:
    """Tells how a build goes: once it takes over two seconds, and not more often than that."""

    def __init__(self) -> None:
        self._began = self._told = time.monotonic()
        self._live = sys.stderr.isatty()
        self._shown = False

    def __call__(self, progress: BuildProgress) -> None:
        now = time.monotonic()
        if now - self._told < (0.2 if self._live and self._shown else 2.0):
            return
        self._told, self._shown = now, True
        seconds = now - self._began
        size = progress.text_bytes / 1e6
        line = (
            f"tokenising {progress.source}: {progress.documents:,} documents, {size:,.1f} MB, "
            f"{size / seconds:,.1f} MB/s{_eta(progress.share, seconds)}"
        )
        print(f"\r\x1b[2K{line}" if self._live else line, end="" if self._live else "\n", file=sys.stderr, flush=True)

    def __enter__(self) -> BuildLine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._shown and self._live:
            print(file=sys.stderr)


def _eta(share: float | None, seconds: float) -> str:
    return f", {duration(seconds * (1 - share) / share)} left" if share else ""
