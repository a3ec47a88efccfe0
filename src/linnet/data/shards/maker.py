"""The process that makes a stream's shards, as the reader holds it: started when needed, watched, ended.

It is a program of its own, not a fork: it shares no lock and no memory with training, and it
ends by itself when whoever started it is gone, because its input then closes.
"""

from __future__ import annotations

import contextlib
import math
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

from linnet.config import RunError
from linnet.data.settings import Cleaning, Source
from linnet.data.shards.locking import taken

if TYPE_CHECKING:
    from linnet.data.shards.stream_folder import Start
    from linnet.data.shards.tokenising import HeldOut
    from linnet.data.sources.files import File
    from linnet.text import Tokenizer

Trouble = Callable[[str], None]
_PATIENCE_AT_END = 5.0  # seconds for it to end by itself
_DEATHS = 3  # in a row, without a word, before giving up


@dataclass(frozen=True)
class Task:
    """All that the process needs to know.

    shard_tokens: in every shard but the last. keep: the most shards on disk. patience: seconds that a
    source may fail to answer. cache_bytes: that the shards of all streams of the cache may take.
    """

    folder: Path
    source: Source
    files: list[File]
    cleaning: Cleaning
    tokenizer: Tokenizer
    held_out: HeldOut
    first: Start
    shard_tokens: int
    keep: int
    processes: int
    patience: float
    cache_bytes: float = math.inf


class Maker:
    """One stream's process; with several readers of one cache, only one of them has it."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.log = task.folder / "maker.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._deaths = 0
        self._looked = 0.0

    def ensure(self) -> None:
        """Start the process unless it, or another reader's, is at work.

        Raises:
            RunError: when it was ended several times without having said why.
        """
        if self._process is not None and self._process.poll() is None:
            return
        if monotonic() - self._looked < 0.2:
            return
        self._looked = monotonic()
        if self._process is not None and self._process.returncode:
            self._deaths += 1
            if self._deaths >= _DEATHS:
                raise RunError(
                    f"the process that makes its shards was ended {self._deaths} times (exit code "
                    f"{self._process.returncode})", self.task.source.title,
                    f"see {self.log}; set data.preprocessing_processes lower where memory is short",
                )  # fmt: skip
        self._process = None
        if _free(self.task.folder / "maker.lock"):
            self._begin()

    def worked(self) -> None:
        """A shard was had: what ended it before was no lasting trouble."""
        self._deaths = 0

    def _begin(self) -> None:
        command = [sys.executable, "-c", "from linnet.data.shards.making import main; main()"]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True
            )
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(pickle.dumps(self.task))
            self._process.stdin.flush()

    def close(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        with contextlib.suppress(OSError):
            process.stdin.close()
        try:
            process.wait(_PATIENCE_AT_END)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _free(lock: Path) -> bool:
    """Whether nobody holds a lock."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    handle = taken(lock)
    if handle is None:
        return False
    os.close(handle)
    return True
