"""What this process may use of the machine it runs on: cores, memory, instructions, a compiler.

A container or a batch scheduler often grants less than the machine has. Reading the machine
instead of the grant starts too many threads or plans for memory that gets the process killed.
"""

from __future__ import annotations

import functools
import math
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

INSTRUCTIONS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "arm_bf16")
_UNLIMITED = 1 << 60  # cgroup v1 says "no limit" with a number near 2^63


def cores(root: Path = Path("/")) -> int:
    """CPU cores that this process may use: its affinity, and its cgroup's share of time."""
    try:
        count = len(os.sched_getaffinity(0))
    except AttributeError:  # macOS has no affinity
        count = os.cpu_count() or 1
    quotas = [_quota(folder) for folder in _cgroup_folders("cpu", root)]
    return max(1, min([count, *(math.ceil(quota) for quota in quotas if quota is not None)]))


def memory_bytes(root: Path = Path("/")) -> int:
    """Memory that this process may use, in bytes: the machine's, or its cgroup's limit if smaller."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limits = [total]
    for folder in _cgroup_folders("memory", root):
        for name in ("memory.max", "memory.limit_in_bytes"):
            text = _read(folder / name)
            if text.isdigit() and int(text) < _UNLIMITED:
                limits.append(int(text))
    return min(limits)


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _cgroup_folders(controller: str, root: Path) -> list[Path]:
    """The cgroup folders that bind this process, from its own up to the top (a parent binds too)."""
    mount = root / "sys/fs/cgroup"
    folders: list[Path] = []
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, own = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        base = mount / controller if controllers else mount
        path = Path(own.lstrip("/"))
        folders += [base / part for part in (path, *path.parents)]
    # Inside a container the path of /proc/self/cgroup may be the host's: the mount's top still binds.
    return list(dict.fromkeys([*folders, mount, mount / controller]))


def _quota(folder: Path) -> float | None:
    """Cores' worth of time that a cgroup grants, or None when it sets no limit."""
    both = _read(folder / "cpu.max").split()  # v2: "200000 100000" or "max 100000"
    if len(both) != 2:
        both = [_read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us")]
    quota, period = both
    return int(quota) / int(period) if quota.isdigit() and period.isdigit() and int(period) else None


def cpu_name(root: Path = Path("/")) -> str:
    """The processor's name as the machine gives it."""
    for line in _read(root / "proc/cpuinfo").splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    if sys.platform == "darwin":
        return _sysctl("machdep.cpu.brand_string") or platform.machine()
    return platform.machine() or "CPU"


def instructions(root: Path = Path("/")) -> frozenset[str]:
    """Which of `INSTRUCTIONS` this CPU has and the kernel lets a process use."""
    flags: set[str] = set()
    for line in _read(root / "proc/cpuinfo").splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "flags":
            flags |= set(value.split())
        elif key.strip() == "Features" and "bf16" in value.split():
            flags.add("arm_bf16")
        if flags:
            break
    # torch has no fast bf16 matrix path for Apple's CPUs, so their bf16 flag is not reported here.
    if sys.platform == "darwin" and "AVX2" in _sysctl("machdep.cpu.leaf7_features").split():
        flags.add("avx2")
    return frozenset(flags & set(INSTRUCTIONS))


def _sysctl(name: str) -> str:
    try:
        done = subprocess.run(["sysctl", "-n", name], capture_output=True, text=True, timeout=5)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


@functools.cache
def cpp_compiler() -> str | None:
    """The C++ compiler that `torch.compile` will use on the CPU, if it works, or None.

    torch takes $CXX, else g++ (clang++ on macOS). It is tried on what generated kernels need:
    C++20, Python's and OpenMP's headers, and linking; a machine may well have g++ and lack the headers.
    """
    mac = sys.platform == "darwin"
    compiler = os.environ.get("CXX") or ("clang++" if mac else "g++")
    source = "#include <Python.h>\n#include <omp.h>\nint threads() { return omp_get_max_threads(); }\n"
    flags = ["-shared", "-fPIC", "-std=c++20"]
    if mac:
        # Apple's compiler has no OpenMP of its own; these are the places where torch looks for one.
        prefixes = [os.environ.get("OMP_PREFIX"), os.environ.get("CONDA_PREFIX")]
        prefixes += ["/opt/homebrew/opt/libomp", "/usr/local/opt/libomp"]
        flags += [f"-I{prefix}/include" for prefix in prefixes if prefix]
        flags += ["-Xclang", "-fopenmp", "-undefined", "dynamic_lookup"]
    else:
        flags += ["-fopenmp"]
    return compiler if _compiles(compiler, source, ".cpp", flags) else None


@functools.cache
def c_compiler() -> str | None:
    """The C compiler with which Triton builds its launchers, or None."""
    candidates = [os.environ["CC"]] if os.environ.get("CC") else ["gcc", "clang", "cc"]
    source = "#include <Python.h>\nint one(void) { return 1; }\n"
    return next((name for name in candidates if _compiles(name, source, ".c", ["-shared", "-fPIC"])), None)


def _compiles(compiler: str, source: str, suffix: str, flags: list[str]) -> bool:
    program = shutil.which(compiler)
    if program is None:
        return False
    headers = {sysconfig.get_path("include"), sysconfig.get_path("platinclude")}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"trial{suffix}"
        file.write_text(source)
        command = [program, str(file), *(f"-I{path}" for path in headers), "-o", f"{folder}/trial.so", *flags]
        try:
            return subprocess.run(command, capture_output=True, timeout=60).returncode == 0
        except (OSError, subprocess.SubprocessError):
            return False
