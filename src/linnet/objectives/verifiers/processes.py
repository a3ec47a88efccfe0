"""Starting a program of `child/` and ending it for certain.

A process here is always the leader of a group of its own, always ended by killing that group before its exit
is collected (so the number cannot have gone to somebody else), and never made by forking this one, which
holds a model and a CUDA context. Its environment is empty but for what is given.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

CHILDREN = Path(__file__).parent / "child"
READ_BYTES = 1 << 16
_running: set[subprocess.Popen[bytes]] = set()
_owner = os.getpid()  # a fork of this process owns none of them


def start(
    program: str,
    *,
    stdin: int | IO[bytes],
    stdout: int,
    environment: Mapping[str, str],
    folder: str | None = None,
    keep: Sequence[int] = (),
    packages: bool = False,
) -> subprocess.Popen[bytes]:
    """Start a program of `child/` in a session of its own.

    Args:
        program: its file's name.
        stdin: for Popen.
        stdout: for Popen; standard error goes nowhere.
        environment: the whole of it.
        folder: where it starts.
        keep: file descriptors that stay open in it.
        packages: whether it may import installed packages.
    """
    options = ["-B", "-P", "-s"] if packages else ["-B", "-P", "-s", "-S", "-X", "utf8"]
    process = subprocess.Popen(
        [sys.executable, *options, str(CHILDREN / program)],
        stdin=stdin,
        stdout=stdout,
        stderr=subprocess.DEVNULL,
        env=dict(environment),
        cwd=folder,
        pass_fds=tuple(keep),
        start_new_session=True,
    )
    _running.add(process)
    return process


def end(process: subprocess.Popen[bytes]) -> int:
    """Kill a process and its group, whatever it is doing, and collect its exit status.

    A process that ended before keeps the status that it ended with.
    """
    if process.returncode is None:
        with contextlib.suppress(
            ProcessLookupError, PermissionError
        ):  # macOS: EPERM for a dead leader's group
            os.killpg(process.pid, signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError):
            process.kill()
    _running.discard(process)
    return process.wait()


def _end_all() -> None:
    """What threads were still waiting for when the interpreter ends must not outlive it."""
    if os.getpid() == _owner:
        for process in list(_running):
            end(process)


atexit.register(_end_all)


def await_exit(process: subprocess.Popen[bytes], seconds: float) -> None:
    """Wait for a process to end by itself, without collecting its exit: its number stays its own."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if hasattr(os, "waitid") and os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            return
        time.sleep(0.005)


def read_some(descriptor: int, deadline: float) -> bytes | None:
    """What can be read next; b"" at the end; None when nothing came before the deadline."""
    left = deadline - time.monotonic()
    poll = select.poll()
    poll.register(descriptor, select.POLLIN | select.POLLHUP)
    if left <= 0 or not poll.poll(left * 1000):
        return None
    return os.read(descriptor, READ_BYTES)
