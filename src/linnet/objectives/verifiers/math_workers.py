"""Processes that compare mathematical expressions, reused from one verdict to the next, killed when they hang.

Starting one imports sympy (a second); comparing takes it 1 to 100 ms. So they are started when a verdict
first needs one, kept, and given back to whoever asks next, in whatever thread. One that does not answer in
time is killed with its group, and the next question starts another: nothing waits for sympy, and no alarm is
used, which would ring only in a main thread.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import subprocess
import threading
import time
from collections.abc import Callable
from typing import Any

from linnet.config import RequestError, RunError
from linnet.objectives.verifiers import processes

STARTING_SECONDS = 120.0  # sympy's import on a cold and busy disk
LEAST_MEMORY_MB = 1024
# A worker reads its libraries and computes; of the environment it needs where they lie and nothing else.
INHERITED = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "PATH", "LD_LIBRARY_PATH", "LANG", "TMPDIR")


class TookTooLong(Exception):
    """A worker did not answer in time, or died of the question; it was ended."""


class _Worker:
    def __init__(self, memory_mb: int) -> None:
        environment = {name: os.environ[name] for name in INHERITED if name in os.environ}
        self.process = processes.start(
            "math_judge.py",
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            environment=environment | {"PYTHONHASHSEED": "0"},
            packages=True,
        )
        self._unread = b""
        try:
            self._send({"memory_mb": memory_mb})
            started = self._line(time.monotonic() + STARTING_SECONDS)
        except TookTooLong:
            raise RunError("the process that compares mathematics did not start", "verifier math",
                           "try: python -c 'import math_verify'; or use kind: numeric") from None  # fmt: skip
        if "missing" in started:
            self.close()
            raise missing_library()

    def ask(self, gold: str, answer: str, seconds: float) -> dict[str, Any]:
        self._send({"gold": gold, "answer": answer, "seconds": seconds})
        return self._line(time.monotonic() + seconds)

    def _send(self, message: dict[str, Any]) -> None:
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(message).encode() + b"\n")
            self.process.stdin.flush()
        except OSError:
            self.close()
            raise TookTooLong from None

    def _line(self, deadline: float) -> dict[str, Any]:
        assert self.process.stdout is not None
        while b"\n" not in self._unread:
            part = processes.read_some(self.process.stdout.fileno(), deadline)
            if not part:
                self.close()
                raise TookTooLong
            self._unread += part
        line, _, self._unread = self._unread.partition(b"\n")
        said: dict[str, Any] = json.loads(line)
        return said

    def close(self) -> None:
        processes.end(self.process)
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()


class MathWorkers:
    """The workers that are idle; there are as many at work as there are threads that ask.

    Args:
        memory_mb: address space of each in MiB, at least LEAST_MEMORY_MB (sympy alone takes half of it).
        start: what makes a worker.
    """

    def __init__(self, memory_mb: int, start: Callable[[int], _Worker] = _Worker) -> None:
        self._memory_mb, self._start = max(memory_mb, LEAST_MEMORY_MB), start
        self._idle: list[_Worker] = []
        self._lock = threading.Lock()
        self._owner = os.getpid()
        atexit.register(self.close)

    def equal(self, gold: str, answer: str, seconds: float) -> bool:
        """Whether two expressions are equal.

        Raises:
            TookTooLong: no verdict within `seconds`; starting a worker does not count.
            RequestError: math-verify is not installed.
            RunError: a worker cannot be started.
        """
        worker = self._take()
        said = worker.ask(gold, answer, seconds)
        if said.get("error") in ("MemoryError", "RecursionError"):
            worker.close()  # what it still holds is unknown
        else:
            with self._lock:
                self._idle.append(worker)
        return bool(said.get("equal"))

    def _take(self) -> _Worker:
        with self._lock:
            if self._owner != os.getpid():  # forked: the pipes belong to the parent
                self._idle, self._owner = [], os.getpid()
            while self._idle:
                worker = self._idle.pop()
                if worker.process.poll() is None:
                    return worker
                worker.close()
        return self._start(self._memory_mb)

    def close(self) -> None:
        """End the workers that are idle."""
        with self._lock:
            workers, self._idle = self._idle, []
        if self._owner == os.getpid():
            for worker in workers:
                worker.close()


_shared: dict[int, MathWorkers] = {}
_sharing = threading.Lock()


def shared_workers(memory_mb: int) -> MathWorkers:
    """The workers of this program with that much memory."""
    with _sharing:
        if memory_mb not in _shared:
            _shared[memory_mb] = MathWorkers(memory_mb)
        return _shared[memory_mb]


def missing_library() -> RequestError:
    """What is said when math-verify is absent."""
    return RequestError("the verifier math needs math-verify for answers that are not plain numbers",
                        "", "pip install 'linnet[math]', or use kind: numeric")  # fmt: skip
