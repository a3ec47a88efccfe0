"""One program run where it cannot harm this one, with its verdict or its output brought back.

On Linux with seccomp and Landlock (5.13 and later, x86_64 and aarch64) the kernel refuses the program
further processes, signals, sockets, writing any file and reading any but Python's own library: that is a
boundary, as strong as the kernel. Elsewhere (macOS, another machine, a container that forbids the two
calls) an audit hook and limits of resources stand alone; they end accidents and cheap tricks, and a program
written to break out of them can. Nowhere is anything promised about timing channels or faults of the
kernel, and macOS does not enforce the limit of memory. Run untrusted people's programs in a virtual machine.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import json
import os
import secrets
import select
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass
from typing import Any, Literal

from linnet.objectives.verifiers import processes

MOST_REPORT_BYTES = 4096
MOST_OUTPUT_BYTES = 1 << 20
STARTING_SECONDS = (
    10.0  # for Python itself on a busy machine; a program's own time starts when it is confined
)
# A fixed hash seed: the order of a set must not change a reward between a run and its repetition.
ENVIRONMENT = {"PYTHONHASHSEED": "0", "LC_ALL": "C.UTF-8", "HOME": "/nonexistent"}

End = Literal["passed", "failed", "error", "exited", "timeout", "died", "flooded", "unusable"]


@dataclass(frozen=True)
class Outcome:
    """How a program ended.

    `end` is passed or failed (its tests ran), error (it failed before them), exited (it left before them),
    timeout, died (killed by the system, or left without a verdict), flooded (too much output), unusable
    (the tests themselves cannot be read). `kernel` names the kernel's rules that held.
    """

    end: End
    passed: int = 0
    total: int = 0
    detail: str = ""
    output: bytes = b""
    kernel: str = ""


@functools.cache
def _empty_folder() -> str:
    folder = tempfile.mkdtemp(prefix="linnet-sandbox-")
    os.chmod(folder, 0o500)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def run_tests(code: str, tests: list[str], setup: str, seconds: float, memory_mb: int) -> Outcome:
    """Run a program, then each test in its names; a test passes when it raises nothing.

    Args:
        code: the program; it runs under the name `completion`, so a `__main__` part does not.
        tests: source of each test.
        setup: source that runs before each test.
        seconds: wall-clock time for all of it; CPU time is limited to one second more.
        memory_mb: address space, in MiB.
    """
    nonce = secrets.token_hex(16)
    job = {"code": code, "tests": tests, "setup": setup, "nonce": nonce}
    ran = _run(job, b"", seconds, memory_mb, wants_output=False)
    for line in ran.report.splitlines():
        words = line.decode("utf-8", "replace").split(" ", 4)
        if len(words) >= 4 and words[0] == nonce:
            end: Any = words[3]
            return Outcome(end, int(words[1]), int(words[2]), words[4] if len(words) > 4 else "",
                           kernel=ran.kernel)  # fmt: skip
    return Outcome("timeout" if ran.late else "died", total=len(tests), kernel=ran.kernel)


def run_script(code: str, given: str, seconds: float, memory_mb: int) -> Outcome:
    """Run a program as a script on standard input; "passed" means that it ended well by itself."""
    ran = _run({"code": code, "tests": None}, given.encode(), seconds, memory_mb, wants_output=True)
    if len(ran.output) > MOST_OUTPUT_BYTES:
        return Outcome("flooded", kernel=ran.kernel)
    end: End = (
        "timeout" if ran.late else "passed" if ran.status == 0 else "error" if ran.status > 0 else "died"
    )
    return Outcome(end, output=ran.output, kernel=ran.kernel)


@dataclass
class _Ran:
    report: bytes = b""
    output: bytes = b""
    late: bool = False
    status: int = -1

    @property
    def kernel(self) -> str:
        first = self.report.partition(b"\n")[0].decode("ascii", "replace")
        return first.removeprefix("confined ") if first.startswith("confined ") else ""


def _run(job: dict[str, Any], given: bytes, seconds: float, memory_mb: int, wants_output: bool) -> _Ran:
    reading, writing = os.pipe()
    process = None
    try:
        # A file that has no name: no pipe to fill while nobody reads, and gone with its last descriptor.
        with tempfile.TemporaryFile() as file:
            job |= {"report": writing, "seconds": seconds, "memory_mb": memory_mb}
            file.write(json.dumps(job).encode() + b"\n" + given)
            file.seek(0)
            process = processes.start(
                "run_tests.py",
                stdin=file,
                stdout=subprocess.PIPE if wants_output else subprocess.DEVNULL,
                environment=ENVIRONMENT,
                folder=_empty_folder(),
                keep=(writing,),
            )
        os.close(writing)
        writing = -1
        ran = _gathered(process, reading, seconds)
        ran.status = processes.end(process)
        return ran
    finally:
        if process is not None:
            processes.end(process)
            if process.stdout is not None:
                process.stdout.close()
        for descriptor in (reading, writing):
            if descriptor >= 0:
                with contextlib.suppress(OSError):
                    os.close(descriptor)


def _gathered(process: subprocess.Popen[bytes], report: int, seconds: float) -> _Ran:
    """Read report and output until both are closed, there is a verdict, too much came, or it is too late."""
    ran, deadline, confined = _Ran(), time.monotonic() + STARTING_SECONDS, False
    open_ones = {report}
    if process.stdout is not None:
        open_ones.add(process.stdout.fileno())
    poll = select.poll()
    for descriptor in open_ones:
        poll.register(descriptor, select.POLLIN | select.POLLHUP)
    while open_ones:
        left = deadline - time.monotonic()
        ready = poll.poll(left * 1000) if left > 0 else []
        if not ready:
            ran.late = True
            break
        for descriptor, _ in ready:
            part = os.read(descriptor, processes.READ_BYTES)
            if not part:
                open_ones.discard(descriptor)
                poll.unregister(descriptor)
            elif descriptor == report:
                ran.report += part
            else:
                ran.output += part
        if not confined and b"\n" in ran.report:
            confined, deadline = True, time.monotonic() + seconds
        # Of a report, the first line says how it is confined and the second is the verdict.
        if len(ran.output) > MOST_OUTPUT_BYTES or len(ran.report) > MOST_REPORT_BYTES:
            break
        if ran.report.count(b"\n") > 1:
            break
    # Both pipes are closed when a process ends, a moment before its exit is there to be seen.
    if not ran.late and ran.report.count(b"\n") <= 1:
        processes.await_exit(process, 0.2)
    return ran
