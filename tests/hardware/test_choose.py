"""What each machine would get, checked on devices written by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from linnet.config import RequestError
from linnet.hardware import Device, HardwareSettings, chip_of, choose, peak_flops
from linnet.hardware.device import has_tensor_cores, missing_kernels

PLAIN_CPU = Device("cpu", "Intel Core i5", cores=4, torch_version="2.13.0", compiler="g++", varlen=True)
SERVER_CPU = replace(
    PLAIN_CPU, name="AMD EPYC", instructions=frozenset({"avx2", "avx512f", "avx512_bf16"}), bf16=True
)
AMX_CPU = replace(PLAIN_CPU, instructions=frozenset({"avx512_bf16", "amx_bf16"}), bf16=True)
ARM_CPU = replace(PLAIN_CPU, instructions=frozenset({"arm_bf16"}), bf16=True)
M2 = Device("mps", "Apple M2", torch_version="2.13.0", varlen=True, cpu=replace(PLAIN_CPU, name="Apple M2"))


def gpu(name: str, capability: tuple[int, int], **changes: object) -> Device:
    device = Device(
        "cuda",
        name,
        capability=capability,
        bf16=capability >= (8, 0),
        tensor_cores=has_tensor_cores(name, capability),
        chip=chip_of(name),
        torch_version="2.13.0",
        compiler="triton",
        varlen=True,
        cpu=PLAIN_CPU,
    )
    return replace(device, **changes)  # type: ignore[arg-type]


H200 = gpu("NVIDIA H200", (9, 0))
T4 = gpu("Tesla T4", (7, 5))
GTX = gpu("NVIDIA GeForce GTX 1650 Ti", (7, 5))
PASCAL = gpu("NVIDIA GeForce GTX 1080", (6, 1))
VOLTA = gpu("Tesla V100-SXM2-16GB", (7, 0))
RTX_4090 = gpu("NVIDIA GeForce RTX 4090", (8, 9))


@pytest.mark.parametrize(
    ("device", "precision", "attention", "compiled"),
    [
        (PLAIN_CPU, "fp32", "sdpa", True),
        (SERVER_CPU, "bf16", "sdpa", True),
        (AMX_CPU, "bf16", "sdpa", True),
        (ARM_CPU, "bf16", "sdpa", True),
        (replace(SERVER_CPU, compiler=None), "bf16", "sdpa", False),
        (M2, "fp32", "sdpa", False),
        (H200, "bf16", "varlen", True),
        (RTX_4090, "bf16", "varlen", True),
        (replace(H200, varlen=False), "bf16", "flex", True),
        (replace(H200, varlen=False, compiler=None), "bf16", "sdpa", False),
        (T4, "fp16", "sdpa", True),
        (VOLTA, "fp16", "sdpa", True),
        (GTX, "fp32", "sdpa", True),
        (PASCAL, "fp32", "sdpa", False),
        (gpu("NVIDIA Some Future Card", (13, 0)), "bf16", "varlen", True),
    ],
)
def test_automatic_picks(device: Device, precision: str, attention: str, compiled: bool) -> None:
    picks = choose(HardwareSettings(), device)
    assert picks.machine is device
    assert (picks.precision.value, picks.attention.value, picks.compile.value) == (
        precision,
        attention,
        compiled,
    )
    assert picks.loss_scaling == (precision == "fp16")
    assert all(pick and "\n" not in pick for pick in picks.lines().values())


@pytest.mark.parametrize(
    ("device", "name", "line"),
    [
        (SERVER_CPU, "precision", "bf16: this CPU has AVX-512 BF16"),
        (AMX_CPU, "precision", "bf16: this CPU has AMX BF16"),
        (T4, "precision", "fp16: with loss scaling, the T4 has no bf16"),
        (H200, "precision", "bf16: the H200 has it in hardware"),
        (GTX, "precision", "fp32: the GTX 1650 Ti has no tensor cores and is unreliable in fp16"),
        (T4, "attention", "sdpa: not varlen, the T4 is older than its kernels (compute capability 8.0)"),
    ],
)
def test_reasons_are_plain_lines(device: Device, name: str, line: str) -> None:
    assert choose(HardwareSettings(), device).lines()[name] == line


@pytest.mark.parametrize(
    ("settings", "device", "says"),
    [
        ({"device": "cuda"}, PLAIN_CPU, "hardware.device=cuda is not possible here: .* sees no CUDA GPU"),
        ({"device": "mps"}, H200, "sees no Apple GPU"),
        ({"attention": "varlen"}, SERVER_CPU, "CUDA kernels only; write hardware.attention=auto"),
        ({"attention": "varlen"}, T4, "older than its kernels"),
        ({"attention": "varlen", "precision": "fp32"}, H200, "no fp32 kernels"),
        ({"attention": "varlen"}, replace(H200, varlen=False), "does not have it"),
        ({"attention": "flex"}, PLAIN_CPU, "backward pass on CUDA only"),
        ({"attention": "flex"}, replace(H200, compiler=None), "no working Triton"),
        ({"precision": "fp16"}, M2, "no loss scaling for Apple GPUs; write hardware.precision=fp32"),
        ({"compile": True}, replace(PLAIN_CPU, compiler=None), r"no working C\+\+ compiler; install g\+\+"),
        ({"compile": True}, PASCAL, "Triton needs compute capability 7.0"),
    ],
)
def test_what_is_impossible_is_refused_with_the_mend(
    settings: dict[str, object], device: Device, says: str
) -> None:
    with pytest.raises(RequestError, match=says) as caught:
        choose(HardwareSettings(**settings), device)  # type: ignore[arg-type]
    assert caught.value.mend


@pytest.mark.parametrize(
    ("precision", "device", "says"),
    [
        ("bf16", T4, "emulated here, and slow"),
        ("bf16", PLAIN_CPU, "emulated here, and slow"),
        ("bf16", M2, "saves memory"),
        ("fp16", PLAIN_CPU, "a CPU is slow at it"),
        ("fp16", GTX, "no tensor cores"),
        ("fp32", H200, "half precision would be faster"),
    ],
)
def test_what_is_only_slow_is_taken_and_said(precision: str, device: Device, says: str) -> None:
    pick = choose(HardwareSettings(precision=precision), device).precision  # type: ignore[arg-type]
    assert pick.value == precision
    assert says in pick.reason


def test_fp32_on_cuda_gets_an_attention_path_that_has_fp32() -> None:
    assert choose(HardwareSettings(precision="fp32"), H200).attention.value == "flex"


def test_the_cpu_behind_a_gpu_can_be_asked_for_and_gets_its_own_picks() -> None:
    picks = choose(HardwareSettings(device="cpu"), replace(H200, cpu=SERVER_CPU))
    assert picks.machine is SERVER_CPU
    assert (picks.device.value, picks.attention.value) == ("cpu", "sdpa")
    assert "H200 is left idle" in picks.device.reason


def test_a_gpu_that_this_torch_has_no_kernels_for_is_left_idle() -> None:
    old = replace(PASCAL, unsupported=missing_kernels((6, 1), ["sm_75", "sm_80", "sm_90", "compute_120"]))
    picks = choose(HardwareSettings(), old)
    assert picks.device.value == "cpu"
    assert "no kernels for compute capability 6.1" in picks.device.reason
    with pytest.raises(RequestError, match=r"CUDA 12\.6"):
        choose(HardwareSettings(device="cuda"), old)


@pytest.mark.parametrize(
    ("capability", "architectures", "runs"),
    [
        ((9, 0), ["sm_80", "sm_90"], True),
        ((9, 0), ["sm_80", "sm_90a"], True),
        ((8, 9), ["sm_75", "sm_80", "sm_86"], True),
        ((12, 0), ["sm_90", "compute_90"], True),
        ((12, 0), ["sm_80", "sm_90"], False),
        ((7, 0), ["sm_75", "sm_80"], False),
        ((8, 0), ["sm_86"], False),
    ],
)
def test_kernels_run_on_their_major_version_and_ptx_on_later_ones(
    capability: tuple[int, int], architectures: list[str], runs: bool
) -> None:
    assert (missing_kernels(capability, architectures) == "") == runs


def test_deterministic_is_passed_on_and_its_price_is_said() -> None:
    pick = choose(HardwareSettings(deterministic=True), H200).deterministic
    assert pick.value is True
    assert "speed" in pick.reason


def test_peak_is_known_only_where_the_chip_and_the_precision_are() -> None:
    assert peak_flops(H200, "bf16") == 989.4e12
    assert peak_flops(T4, "fp16") == 65e12
    assert peak_flops(T4, "bf16") is None
    assert peak_flops(PLAIN_CPU, "fp32") is None
    assert peak_flops(gpu("NVIDIA Some Future Card", (13, 0)), "bf16") is None


def test_short_sequences_on_a_compiling_cpu_are_attended_to_by_the_plain_formula():
    picks = choose(HardwareSettings(), SERVER_CPU, sequence_length=128)
    assert picks.attention.value == "eager"
    assert choose(HardwareSettings(), SERVER_CPU, sequence_length=2048).attention.value == "sdpa"
    assert choose(HardwareSettings(compile=False), SERVER_CPU, sequence_length=128).attention.value == "sdpa"
    assert (
        choose(HardwareSettings(attention="sdpa"), SERVER_CPU, sequence_length=128).attention.value == "sdpa"
    )
    assert choose(HardwareSettings(), H200, sequence_length=128).attention.value == "varlen"


def test_attention_dropout_is_never_given_to_a_path_without_it():
    assert choose(HardwareSettings(), H200, attention_dropout=0.1).attention.value == "sdpa"
    with pytest.raises(RequestError, match="it has no attention dropout"):
        choose(HardwareSettings(attention="varlen"), H200, attention_dropout=0.1)


def test_a_run_that_is_over_before_it_is_compiled_is_not_compiled_on_a_cpu() -> None:
    short, long = 1e12, 1e14
    assert choose(HardwareSettings(), SERVER_CPU, flops=short).compile.value is False
    assert choose(HardwareSettings(), SERVER_CPU, flops=long).compile.value is True
    assert choose(HardwareSettings(compile=True), SERVER_CPU, flops=short).compile.value is True
    assert choose(HardwareSettings(), H200, flops=short).compile.value is True
    assert choose(HardwareSettings(), SERVER_CPU, sequence_length=128, flops=short).attention.value == "sdpa"
