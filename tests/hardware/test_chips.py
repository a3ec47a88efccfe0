"""The table of chips: plausible rows, and no chip taken for another."""

from __future__ import annotations

import pytest

from linnet.config import RequestError
from linnet.hardware import CHIPS, chip_named, chip_of

GIB = 1024**3


@pytest.mark.parametrize(
    ("device_name", "name", "precision", "tflops"),
    [
        ("NVIDIA H200", "H200", "bf16", 989.4),
        ("NVIDIA H100 80GB HBM3", "H100 SXM", "bf16", 989.4),
        ("NVIDIA H100 PCIe", "H100 PCIe", "bf16", 756),
        ("NVIDIA H100 NVL", "H100 NVL", "bf16", 835.5),
        ("NVIDIA H200 NVL", "H200 NVL", "bf16", 835.5),
        ("NVIDIA GH200 480GB", "GH200 96GB", "bf16", 989.4),
        ("NVIDIA GH200 144G HBM3e", "GH200 144GB", "bf16", 989.4),
        ("NVIDIA B200", "B200", "bf16", 2250),
        ("NVIDIA A100-SXM4-80GB", "A100 SXM 80GB", "bf16", 312),
        ("NVIDIA A100-SXM4-40GB", "A100 SXM 40GB", "fp16", 312),
        ("NVIDIA A100 80GB PCIe", "A100 PCIe 80GB", "tf32", 156),
        ("A100-PCIE-40GB", "A100 PCIe 40GB", "bf16", 312),
        ("Tesla T4", "T4", "fp16", 65),
        ("Tesla V100-SXM2-16GB", "V100 SXM2 16GB", "fp16", 125),
        ("Tesla V100-PCIE-32GB", "V100 PCIe 32GB", "fp16", 112),
        ("NVIDIA L4", "L4", "bf16", 121),
        ("NVIDIA L40S", "L40S", "bf16", 362),
        ("NVIDIA A10", "A10", "bf16", 125),
        ("NVIDIA A10G", "A10G", "bf16", 70),
        # With fp32 accumulation, from the architecture whitepapers' tables.
        ("NVIDIA GeForce RTX 5090", "GeForce RTX 5090", "bf16", 209.5),
        ("NVIDIA GeForce RTX 4090", "GeForce RTX 4090", "bf16", 165.2),
        ("NVIDIA GeForce RTX 4090", "GeForce RTX 4090", "fp8", 330.3),
        ("NVIDIA GeForce RTX 4080 SUPER", "GeForce RTX 4080 SUPER", "fp16", 104.4),
        ("NVIDIA GeForce RTX 4070 Ti SUPER", "GeForce RTX 4070 Ti SUPER", "fp16", 88.2),
        ("NVIDIA GeForce RTX 3090", "GeForce RTX 3090", "bf16", 71.2),
        ("NVIDIA GeForce RTX 3070", "GeForce RTX 3070", "tf32", 20.3),
        ("GeForce RTX 2080 Ti", "GeForce RTX 2080 Ti", "fp16", 53.8),
        ("NVIDIA GeForce GTX 1650 Ti", "GeForce GTX 1650 Ti", "fp32", 3.0),
    ],
)
def test_a_driver_s_name_finds_its_row(device_name: str, name: str, precision: str, tflops: float) -> None:
    chip = chip_of(device_name)
    assert chip is not None
    assert chip.name == name
    assert chip.peak[precision] == pytest.approx(tflops, abs=0.06)


@pytest.mark.parametrize(
    "device_name",
    [
        "NVIDIA GeForce RTX 4090 Laptop GPU",
        "NVIDIA GeForce RTX 3070 Ti Laptop GPU",
        "NVIDIA GeForce RTX 4090 D",
        "NVIDIA GeForce RTX 2080 with Max-Q Design",
        "NVIDIA GeForce GTX 1650 Ti with Max-Q Design",
        "NVIDIA A100-SXM4-40GB MIG 1g.5gb",
        "NVIDIA A100-SXM-64GB",
        "NVIDIA H20",
        "NVIDIA H100",
        "NVIDIA Graphics Device",
        "AMD Instinct MI300X",
        "Apple M2",
        "",
    ],
)
def test_a_chip_that_is_not_in_the_table_is_unknown(device_name: str) -> None:
    assert chip_of(device_name) is None


def test_cards_that_share_a_name_are_told_apart_by_memory() -> None:
    small = chip_of("NVIDIA GeForce RTX 3080", int(9.8 * GIB))
    large = chip_of("NVIDIA GeForce RTX 3080", int(11.8 * GIB))
    assert small is not None
    assert large is not None
    assert (small.bandwidth_gb_s, large.bandwidth_gb_s) == (760, 912)


def test_a_part_of_a_chip_is_not_the_chip() -> None:
    assert chip_of("NVIDIA H200", int(139.8 * GIB)) is not None
    assert chip_of("Tesla T4", int(14.6 * GIB)) is not None
    assert chip_of("NVIDIA H200", int(17 * GIB)) is None


def test_rows_are_dense_rates_in_the_ratios_of_the_hardware() -> None:
    for chip in CHIPS:
        peak = chip.peak
        assert chip.source, chip.name
        assert "fp32" in peak, chip.name
        assert ("bf16" in peak) == (chip.capability >= (8, 0)), chip.name
        assert ("tf32" in peak) == (chip.capability >= (8, 0)), chip.name
        assert ("fp8" in peak) == (chip.capability >= (8, 9)), chip.name
        if "bf16" in peak:
            assert peak["bf16"] == peak["fp16"], chip.name
            assert peak["tf32"] * 2 == pytest.approx(peak["bf16"], rel=0.02), chip.name
        if "fp8" in peak:
            assert peak["fp8"] == pytest.approx(2 * peak["fp16"], rel=0.02), chip.name
        # FLOPs for each byte of memory traffic: a sparse figure or a slip of a digit falls outside.
        if chip.tensor_cores:
            assert 50 < peak["fp16"] * 1e12 / (chip.bandwidth_gb_s * 1e9) < 425, chip.name


def test_names_are_unique() -> None:
    names = [chip.name for chip in CHIPS]
    shorts = [short for chip in CHIPS for short in chip.short_names]
    assert len(set(names)) == len(names)
    assert len(set(shorts)) == len(shorts)
    assert all(chip.short_names for chip in CHIPS)


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        ("h200", "H200"),
        ("H100", "H100 SXM"),
        ("a100-40gb", "A100 SXM 40GB"),
        ("RTX 4090", "GeForce RTX 4090"),
        ("rtx3080", "GeForce RTX 3080 10GB"),
        ("rtx3080-12gb", "GeForce RTX 3080 12GB"),
        ("NVIDIA H100 PCIe", "H100 PCIe"),
    ],
)
def test_a_person_s_short_name_finds_the_chip(typed: str, name: str) -> None:
    assert chip_named(typed).name == name


def test_a_misspelt_chip_is_answered_with_the_nearest_one() -> None:
    with pytest.raises(RequestError, match="'rtx409' is known; did you mean 'rtx4090'"):
        chip_named("rtx409")
