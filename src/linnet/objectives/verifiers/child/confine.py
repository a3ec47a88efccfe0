"""Takes from this process what a completion's program has no business with, for good.

Three layers, outermost last: limits of resources (every Unix), an audit hook that names what it refuses
(every Unix; whoever knows the interpreter well gets around it), and on Linux the kernel's own refusal
(`kernel_rules`). Only the last is a boundary of security.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
from collections.abc import Callable
from typing import Any

try:
    import kernel_rules
except ImportError:  # another system, or a Python that was built without ctypes
    kernel_rules = None  # type: ignore[assignment]

MIB = 1 << 20

# Auditing events that are refused; a name that ends in a dot or underscore stands for all that begin with it.
REFUSED_EVENTS = (
    "socket.", "subprocess.", "os.fork", "os.exec", "os.posix_spawn", "os.spawn", "os.system", "os.kill",
    "os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.chmod", "os.chown",
    "os.truncate", "os.utime", "os.setxattr", "os.removexattr", "os.chflags", "os.lockf", "os.startfile",
    "shutil.", "tempfile.", "ctypes.", "pty.", "signal.pthread_kill", "gc.get_", "sys._current_frames",
    "sys._current_exceptions", "sys.settrace", "sys.setprofile", "sys.addaudithook", "code.__new__",
    "mmap.", "syslog.", "urllib.", "http.", "ftplib.", "smtplib.", "webbrowser.", "fcntl.",
    "resource.prlimit", "resource.setrlimit", "_thread.start_new_thread", "cpython.run_",
)  # fmt: skip
# A frame leads to the variables of whoever called, the runner of the tests among them.
FRAMES = ("tb_frame", "gi_frame", "cr_frame", "ag_frame", "f_back")
REFUSED_MODULES = frozenset(
    ("ctypes", "_ctypes", "_posixsubprocess", "multiprocessing", "_multiprocessing", "faulthandler", "pty")
)
SYSTEM_FILES = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/etc/ld.so.cache",
                "/usr/share/zoneinfo", "/etc/localtime", "/dev/urandom", "/dev/null")  # fmt: skip
# Set by the first and by any read of a file; a write needs one of them.
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class Refused(PermissionError):
    """What a completion's program sees when it tries something that it may not do."""


def library_folders() -> list[str]:
    """Where the standard library and what it loads lie; nothing else needs to be read."""
    shared = [os.path.join(base, "lib") for base in (sys.base_prefix, sys.base_exec_prefix)]
    found = (os.path.dirname(os.__file__), *sys.path, *shared, *SYSTEM_FILES)
    return [os.path.realpath(place) for place in dict.fromkeys(found) if place and os.path.exists(place)]


def limit_resources(seconds: float, memory_mb: int) -> None:
    """CPU time, address space, no bytes written to files, no core dump, no further processes.

    The alarm ends a program that sleeps after the training program itself was killed.
    """
    cpu = max(1, int(seconds) + 1)
    for kind, soft, hard in (
        ("RLIMIT_CPU", cpu, cpu + 1), ("RLIMIT_AS", memory_mb * MIB, memory_mb * MIB),
        ("RLIMIT_FSIZE", 0, 0), ("RLIMIT_CORE", 0, 0), ("RLIMIT_NPROC", 0, 0), ("RLIMIT_NOFILE", 32, 32),
    ):  # fmt: skip
        try:
            resource.setrlimit(getattr(resource, kind), (soft, hard))
        except (AttributeError, ValueError, OSError):
            continue  # a system without that limit, or with a lower one already
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, seconds + 2)


def audit_hook(readable: tuple[str, ...]) -> Callable[[str, tuple[Any, ...]], None]:
    """A hook that refuses by raising. All that it uses is bound here, where a program cannot replace it."""
    refused, frames, modules, writing, error = REFUSED_EVENTS, FRAMES, REFUSED_MODULES, WRITING, Refused
    text, realpath, decode = str, os.path.realpath, os.fsdecode

    def may_open(path: Any, mode: Any, flags: Any) -> bool:
        if flags & writing or (mode and any(letter in mode for letter in "wax+")):
            return False
        if type(path) is int:
            return True
        return realpath(decode(path)).startswith(readable)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, mode, flags = arguments
            if not may_open(path, mode, flags or 0):
                raise error(f"a completion may not open {path!r}")
        elif event == "import":
            if arguments[0].partition(".")[0] in modules:
                raise error(f"a completion may not import {arguments[0]}")
        elif event == "sys._getframe":
            raise ValueError("a completion may not look at frames")  # what namedtuple and enum are ready for
        elif event == "object.__getattr__":
            if arguments[1] in frames:
                raise error("a completion may not look at frames")
        elif event in ("os.listdir", "os.scandir"):
            if not realpath(text(arguments[0] or ".")).startswith(readable):
                raise error("a completion may not list that folder")
        elif event.startswith(refused):
            raise error(f"a completion may not do {event}")

    return hook


def confine(seconds: float, memory_mb: int) -> str:
    """Confine this process for good.

    Returns:
        Which of the kernel's own refusals hold: "seccomp+landlock", "seccomp", "landlock" or "".
    """
    folders = library_folders()
    reads = kernel_rules is not None and kernel_rules.restrict_reading(folders)
    limit_resources(seconds, memory_mb)
    calls = kernel_rules is not None and kernel_rules.restrict_calls()
    for name in [
        name for name in sys.modules if name.partition(".")[0] in (*REFUSED_MODULES, "kernel_rules")
    ]:
        del sys.modules[name]
    sys.addaudithook(audit_hook(tuple(folders)))
    return "+".join(name for name, holds in (("seccomp", calls), ("landlock", reads)) if holds)
