"""What the Linux kernel itself refuses to a completion's program: seccomp and Landlock, without privileges.

Checks inside the interpreter can be got around by whoever is inside it. These two cannot: a list of system
calls that may be made (none of them starts a process, sends a signal, opens a socket or a file for writing)
and a list of folders that may be read. Both can only be tightened afterwards. Sources: seccomp(2),
Documentation/userspace-api/landlock.rst, the kernel's system call tables.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from collections.abc import Iterable

# Both numbers of each call: x86_64, aarch64 (-1: that machine has none of that name).
ALLOWED = {
    "read": (0, 63), "write": (1, 64), "close": (3, 57), "stat": (4, -1), "fstat": (5, 80), "lstat": (6, -1),
    "poll": (7, -1), "lseek": (8, 62), "mmap": (9, 222), "mprotect": (10, 226), "munmap": (11, 215),
    "brk": (12, 214), "rt_sigaction": (13, 134), "rt_sigprocmask": (14, 135), "rt_sigreturn": (15, 139),
    "ioctl": (16, 29), "pread64": (17, 67), "readv": (19, 65), "writev": (20, 66), "access": (21, -1),
    "select": (23, -1), "sched_yield": (24, 124), "mremap": (25, 216), "madvise": (28, 233), "dup": (32, 23),
    "dup2": (33, -1), "pause": (34, -1), "nanosleep": (35, 101), "getitimer": (36, 102), "getpid": (39, 172),
    "exit": (60, 93), "uname": (63, 160), "fcntl": (72, 25), "getcwd": (79, 17), "readlink": (89, -1),
    "gettimeofday": (96, 169), "getrlimit": (97, 163), "getrusage": (98, 165), "sysinfo": (99, 179),
    "times": (100, 153), "getuid": (102, 174), "getgid": (104, 176), "geteuid": (107, 175),
    "getegid": (108, 177), "getppid": (110, 173), "getpgrp": (111, -1), "sigaltstack": (131, 132),
    "gettid": (186, 178), "time": (201, -1), "futex": (202, 98), "sched_getaffinity": (204, 123),
    "getdents64": (217, 61), "restart_syscall": (219, 128), "clock_gettime": (228, 113),
    "clock_getres": (229, 114), "clock_nanosleep": (230, 115), "exit_group": (231, 94),
    "newfstatat": (262, 79), "readlinkat": (267, 78), "faccessat": (269, 48), "pselect6": (270, 72),
    "ppoll": (271, 73), "set_robust_list": (273, 99), "dup3": (292, 24), "getcpu": (309, 168),
    "getrandom": (318, 278), "membarrier": (324, 283), "statx": (332, 291), "rseq": (334, 293),
    "faccessat2": (439, 439),
}  # fmt: skip
# Number, and which argument holds the flags.
OPENING = {"open": ((2, -1), 1), "openat": ((257, 56), 2)}
PRLIMIT = (302, 261)  # of itself only: another process's limits can be lowered to harm it
MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7), "arm64": (1, 0xC00000B7)}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

ALLOW, REFUSE, KILL = 0x7FFF0000, 0x00050000, 0x80000000
EACCES, ENOSYS = 13, 38  # a C library falls back to an older call on ENOSYS, and not on EPERM
LOAD, EQUAL, ANY_BIT, RETURN = 0x20, 0x15, 0x45, 0x06
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
LANDLOCK_CREATE, LANDLOCK_ADD, LANDLOCK_RESTRICT = 444, 445, 446  # the same on every machine
READ_FILE, READ_DIR = 1 << 2, 1 << 3
O_PATH = 0x200000  # absent from `os` on other systems


def program() -> bytes | None:
    """The filter of system calls as classic BPF; None for a machine whose call numbers are not known here."""
    column, architecture = MACHINES.get(os.uname().machine, (0, 0))
    if not architecture or struct.calcsize("P") != 8 or sys.byteorder != "little":
        return None

    def step(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
        return struct.pack("<HBBI", code, if_true, if_false, value)

    steps = [step(LOAD, 4), step(EQUAL, architecture, 1, 0), step(RETURN, KILL), step(LOAD, 0)]
    for numbers in ALLOWED.values():
        if numbers[column] >= 0:
            steps += [step(EQUAL, numbers[column], 0, 1), step(RETURN, ALLOW)]
    for numbers, argument in OPENING.values():
        if numbers[column] >= 0:
            steps += [step(EQUAL, numbers[column], 0, 4), step(LOAD, 16 + 8 * argument),
                      step(ANY_BIT, WRITING, 0, 1), step(RETURN, REFUSE | EACCES),
                      step(RETURN, ALLOW)]  # fmt: skip
    steps += [step(EQUAL, PRLIMIT[column], 0, 4), step(LOAD, 16), step(EQUAL, 0, 1, 0),
              step(RETURN, REFUSE | EACCES), step(RETURN, ALLOW)]  # fmt: skip
    steps.append(step(RETURN, REFUSE | ENOSYS))
    return b"".join(steps)


def restrict_reading(folders: Iterable[str]) -> bool:
    """Let this process read only beneath `folders`, and write nowhere. False where Landlock is missing."""
    libc = ctypes.CDLL(None, use_errno=True)
    version = libc.syscall(LANDLOCK_CREATE, None, 0, 1)
    if version < 1:
        return False
    rights = (1 << {1: 13, 2: 14, 3: 15, 4: 15}.get(version, 16)) - 1
    attributes = struct.pack("<Q", rights)
    rules = libc.syscall(LANDLOCK_CREATE, attributes, ctypes.c_size_t(len(attributes)), 0)
    if rules < 0:
        return False
    for folder in folders:
        try:
            place = os.open(folder, O_PATH | os.O_CLOEXEC)
        except OSError:
            continue
        allowed = READ_FILE | READ_DIR if os.path.isdir(folder) else READ_FILE
        libc.syscall(LANDLOCK_ADD, rules, 1, struct.pack("<Qi", allowed, place), 0)
        os.close(place)
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    restricted = libc.syscall(LANDLOCK_RESTRICT, rules, 0) == 0
    os.close(rules)
    return restricted


def restrict_calls() -> bool:
    """Let this process make only harmless system calls. False where seccomp is missing."""
    steps = program()
    if steps is None:
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    held = ctypes.create_string_buffer(steps, len(steps))
    header = struct.pack("<HxxxxxxQ", len(steps) // 8, ctypes.addressof(held))
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        return False
    filter_at = ctypes.create_string_buffer(header, len(header))
    return (
        libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.c_void_p(ctypes.addressof(filter_at)), 0, 0)
        == 0
    )
