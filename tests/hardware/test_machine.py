"""Reading the machine: cgroups, instructions, compilers, memory, the matrix rate."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from linnet.hardware import (
    Device,
    choose,
    describe,
    detect_cpu,
    gpu_memory,
    gpu_utilization,
    host,
    matrix_rate,
    peak_memory,
    reset_gpu_peak,
    resident_memory,
)
from linnet.hardware.choose import HardwareSettings
from linnet.hardware.device import detect
from linnet.train import Meter

MIB = 1024**2


def machine(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_a_cgroup_v2_limit_binds_even_when_a_parent_set_it(tmp_path: Path) -> None:
    root = machine(
        tmp_path,
        {
            "proc/self/cgroup": "0::/job/step\n",
            "sys/fs/cgroup/job/memory.max": f"{300 * MIB}\n",
            "sys/fs/cgroup/job/cpu.max": "50000 100000\n",
            "sys/fs/cgroup/job/step/memory.max": "max\n",
            "sys/fs/cgroup/job/step/cpu.max": "max 100000\n",
        },
    )
    assert host.memory_bytes(root) == 300 * MIB
    assert host.cores(root) == 1


def test_a_cgroup_v1_limit_binds(tmp_path: Path) -> None:
    root = machine(
        tmp_path,
        {
            "proc/self/cgroup": "4:memory:/docker/abc\n3:cpu,cpuacct:/\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{200 * MIB}\n",
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "100000\n",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
        },
    )
    assert host.memory_bytes(root) == 200 * MIB
    assert host.cores(root) == 1


def test_no_limit_means_the_machine_s_own_figures(tmp_path: Path) -> None:
    root = machine(
        tmp_path,
        {
            "proc/self/cgroup": "4:memory:/\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
        },
    )
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert host.memory_bytes(root) == total
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert host.cores(root) == allowed


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="affinity is Linux's")
def test_cores_respect_the_affinity() -> None:
    code = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); "
    code += "from linnet.hardware import host; print(host.cores())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1"


@pytest.mark.parametrize(
    ("cpuinfo", "found"),
    [
        ("flags\t\t: fpu avx2 avx512_bf16 amx_bf16\n", {"avx2", "avx512_bf16", "amx_bf16"}),
        ("flags\t\t: fpu avx2 avx512f avx512vl\n", {"avx2", "avx512f"}),
        ("flags\t\t: fpu sse2 avx2\n", {"avx2"}),
        ("Features\t: fp asimd bf16 i8mm\n", {"arm_bf16"}),
        ("Features\t: fp asimd\n", set()),
        ("", set()),
    ],
)
@pytest.mark.skipif(sys.platform == "darwin", reason="macOS has no /proc")
def test_instruction_sets_of_interest_are_read(tmp_path: Path, cpuinfo: str, found: set[str]) -> None:
    assert host.instructions(machine(tmp_path, {"proc/cpuinfo": cpuinfo})) == found


def test_a_compiler_that_cannot_compile_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "c++"
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    for lookup in (host.cpp_compiler, host.c_compiler):
        for variable in ("CXX", "CC"):
            monkeypatch.setenv(variable, str(broken))
        assert lookup.__wrapped__() is None
        for variable in ("CXX", "CC"):
            monkeypatch.setenv(variable, "no-such-compiler")
        assert lookup.__wrapped__() is None


@pytest.mark.skipif(host.cpp_compiler() is None, reason="no C++ compiler here")
@pytest.mark.skipif(sys.platform == "darwin", reason="Apple's compiler needs other flags")
def test_the_compiler_that_is_found_can_build_what_it_was_tried_on(tmp_path: Path) -> None:
    source = tmp_path / "one.cpp"
    source.write_text("#include <omp.h>\nint main() { return omp_get_max_threads() > 0 ? 0 : 1; }\n")
    compiler = host.cpp_compiler()
    assert compiler is not None
    subprocess.run([compiler, "-fopenmp", str(source), "-o", str(tmp_path / "one")], check=True)
    subprocess.run([str(tmp_path / "one")], check=True)


def test_this_machine_is_described_and_served() -> None:
    device = detect()
    assert device.memory_bytes > 0
    assert 1 <= device.cores <= (os.cpu_count() or 1)
    assert device.torch_version == str(torch.__version__)
    assert describe(device)
    assert choose(HardwareSettings(), device).precision.value in ("fp32", "bf16", "fp16")


@pytest.mark.skipif(detect_cpu().bf16 is False, reason="this CPU has no bf16")
@pytest.mark.skipif(not hasattr(torch.cpu, "_is_avx512_bf16_supported"), reason="torch does not tell")
@pytest.mark.skipif("arm_bf16" in detect_cpu().instructions, reason="torch tells of x86 only")
def test_bf16_is_what_torch_too_finds() -> None:
    assert torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def test_the_matrix_rate_is_the_rate_of_the_products(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose clock moves only by products, best at size 1024: two FLOPs a multiply-add."""
    clock, sizes = [0.0], []

    def product(left: torch.Tensor, right: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
        size = len(left)
        sizes.append(size)
        clock[0] += 2 * size**3 / (1e11 if size == 1024 else 5e10)
        return left if out is None else out

    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(torch, "mm", product)
    rate = matrix_rate(Device("cpu", "made up", memory_bytes=2**34), torch.bfloat16, seconds=4.0)
    assert rate == pytest.approx(1e11)
    assert set(sizes) >= {512, 1024, 2048}
    assert sizes[-1] == 1024
    assert clock[0] < 6.0
    small = 3 * 8 * 1024**2 * 2  # no room for more than 512 x 512
    sizes.clear()
    matrix_rate(Device("cpu", "made up", memory_bytes=small), torch.bfloat16, seconds=1.0)
    assert set(sizes) == {512}


def test_the_matrix_rate_of_this_machine_is_one() -> None:
    assert 1e8 < matrix_rate(detect_cpu(), torch.float32, seconds=0.1) < 1e14


def test_peak_memory_remembers_what_was_given_back() -> None:
    code = (
        "from linnet.hardware import peak_memory, resident_memory\n"
        "before = peak_memory()\n"
        "block = bytearray(b'x') * (64 << 20)\n"
        "held = resident_memory()\n"
        "del block\n"
        "print(peak_memory() - before, held, resident_memory(), peak_memory())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    grown, held, now, peak = map(int, done.stdout.split())
    assert 56 * MIB < grown < 100 * MIB
    # The kernel settles these counters in batches, so they may be a few pages behind each other.
    assert peak >= held - MIB
    assert held - now > 56 * MIB or sys.platform == "darwin"


def test_a_child_does_not_inherit_its_parent_s_peak() -> None:
    if sys.platform == "darwin":
        pytest.skip("macOS counts each process for itself")
    ballast = b"x" * (400 << 20)
    code = "from linnet.hardware import peak_memory; print(peak_memory())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) < len(ballast)
    assert peak_memory() > len(ballast)
    assert resident_memory() > len(ballast)


class Properties:
    def __init__(self, major: int, minor: int, gib: float) -> None:
        self.major, self.minor, self.total_memory = major, minor, int(gib * 2**30)


@pytest.mark.parametrize(
    ("name", "properties", "bf16", "picks"),
    [
        ("NVIDIA H200", Properties(9, 0, 139.8), True, ("H200", "cuda", "bf16", True)),
        ("Tesla T4", Properties(7, 5, 14.6), False, ("T4", "cuda", "fp16", True)),
        ("GeForce GTX 1660", Properties(7, 5, 5.8), False, ("GeForce GTX 1660", "cuda", "fp32", False)),
        ("NVIDIA A100-SXM4-40GB MIG 1g.5gb", Properties(8, 0, 4.75), True, (None, "cuda", "bf16", True)),
        ("Tesla P100-PCIE-16GB", Properties(6, 0, 15.9), False, ("P100 PCIe 16GB", "cpu", None, False)),
    ],
)  # fmt: skip
def test_a_gpu_is_read_through_torch(
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    properties: Properties,
    bf16: bool,
    picks: tuple[str | None, str, str | None, bool],
) -> None:
    answers = {
        "is_available": lambda: True,
        "device_count": lambda: 2,
        "get_device_properties": lambda _: properties,
        "get_device_name": lambda _: name,
        "is_bf16_supported": lambda including_emulation: bf16 or including_emulation,
        "get_arch_list": lambda: ["sm_75", "sm_80", "sm_90", "sm_100", "sm_120"],
    }
    for function, answer in answers.items():
        monkeypatch.setattr(torch.cuda, function, answer)
    device = detect()
    chip, kind, precision, tensor_cores = picks
    assert (device.kind, device.count, device.name) == ("cuda", 2, name)
    assert (device.chip.name if device.chip else None) == chip
    assert device.tensor_cores is tensor_cores
    assert device.cpu is not None
    assert device.cpu.kind == "cpu"
    chosen = choose(HardwareSettings(), device)
    assert chosen.device.value == kind
    assert precision is None or chosen.precision.value == precision


def test_a_mac_s_gpu_is_read_through_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.mps, "recommended_max_memory", lambda: 12 * 2**30)
    device = detect()
    assert (device.kind, device.memory_bytes) == ("mps", 12 * 2**30)
    assert choose(HardwareSettings(), device).precision.value == "fp32"
    assert choose(HardwareSettings(device="cpu"), device).machine is device.cpu


def test_without_cuda_there_is_no_gpu_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu_memory() is None
    assert gpu_utilization() is None
    reset_gpu_peak()


@pytest.mark.parametrize("call", ["nvmlInit", "nvmlDeviceGetHandleByIndex", "nvmlDeviceGetUtilizationRates"])
@pytest.mark.parametrize("name", ["NVMLError_NotSupported", "NVMLError_DriverNotLoaded", "NVMLError_Unknown"])
def test_a_gpu_that_does_not_tell_its_utilisation_stops_no_run(
    call: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a GPU is divided (MIG), or a driver or container lacks it, pynvml raises errors of its own."""
    base = type("NVMLError", (Exception,), {})
    names = ("NVMLError_NotSupported", "NVMLError_DriverNotLoaded", "NVMLError_Unknown")
    errors = {error: type(error, (base,), {}) for error in names}

    def fails(*_: object) -> None:
        raise errors[name](3)

    calls = ("nvmlInit", "nvmlDeviceGetHandleByIndex", "nvmlDeviceGetUtilizationRates")
    pynvml = SimpleNamespace(
        **errors, NVMLError=base, **dict.fromkeys(calls, lambda *_: SimpleNamespace(gpu=7))
    )
    monkeypatch.setitem(sys.modules, "pynvml", pynvml)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "_HAS_PYNVML", True, raising=False)
    monkeypatch.setattr(torch.cuda, "pynvml", pynvml, raising=False)
    monkeypatch.setattr(torch.cuda, "_get_nvml_device_index", lambda _: 0)
    for memory in ("memory_allocated", "max_memory_allocated", "max_memory_reserved"):
        monkeypatch.setattr(torch.cuda, memory, lambda: 5)
    meter = Meter(1, None)
    meter.step(10)
    assert meter.read()["gpu/utilization"] == 7
    setattr(pynvml, call, fails)
    meter.step(10)
    told = meter.read()
    assert "gpu/utilization" not in told
    assert told["gpu/memory_allocated_gb"] == 5e-9
