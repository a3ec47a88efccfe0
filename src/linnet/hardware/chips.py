"""What accelerators can do at most, so that a measured speed has an honest denominator.

A model-FLOPs utilisation is only as true as the peak it is divided by. Figures here are
*dense* rates (makers like to print the twice as large rate of 2:4 sparsity) with fp32
accumulation, the way training uses them; GeForce tensor cores run fp16 at half rate then.
A chip that is not in this table has no peak and no utilisation: nothing is estimated.

Datacentre rows carry datasheet figures. GeForce rows are computed from the published core
count and boost clock: a core does one fused multiply-add (2 FLOPs) a clock in fp32, and the
architecture whitepapers give the tensor-core rates as multiples of that.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches

from linnet.config.errors import RequestError

GIB = 1024**3


@dataclass(frozen=True)
class Chip:
    """One accelerator.

    Attributes:
        name: a readable name, unique in the table.
        memory_gib: the datasheet's figure; torch reports up to 7% less (ECC and reserved memory).
        bandwidth_gb_s: memory bandwidth in 10^9 bytes a second.
        capability: CUDA compute capability.
        peak: dense TFLOP/s by precision (fp32, tf32, fp16, bf16, fp8); a precision that the
            hardware lacks is absent.
        source: where the figures come from.
        device_names: the names that the driver reports for exactly this chip.
        short_names: what a person types for it.
        tensor_cores: whether it has matrix units at all.
    """

    name: str
    memory_gib: float
    bandwidth_gb_s: float
    capability: tuple[int, int]
    peak: dict[str, float]
    source: str
    device_names: tuple[str, ...]
    short_names: tuple[str, ...] = ()
    tensor_cores: bool = True

    def __hash__(self) -> int:
        return hash(self.name)


def _tensor(
    fp32: float,
    tf32: float | None = None,
    fp16: float | None = None,
    bf16: float | None = None,
    fp8: float | None = None,
) -> dict[str, float]:
    rates = {"fp32": fp32, "tf32": tf32, "fp16": fp16, "bf16": bf16, "fp8": fp8}
    return {precision: rate for precision, rate in rates.items() if rate is not None}


# name, GiB, GB/s, capability, peak (fp32, tf32, fp16, bf16, fp8), source, device names, short names
_DATACENTRE = (
    Chip("P100 PCIe 16GB", 16, 732, (6, 0), _tensor(9.3, fp16=18.7), "Tesla P100 PCIe datasheet",
         ("Tesla P100-PCIE-16GB",), ("p100",), tensor_cores=False),
    Chip("V100 SXM2 16GB", 16, 900, (7, 0), _tensor(15.7, fp16=125), "V100 datasheet",
         ("Tesla V100-SXM2-16GB",), ("v100-16gb",)),
    Chip("V100 SXM2 32GB", 32, 900, (7, 0), _tensor(15.7, fp16=125), "V100 datasheet",
         ("Tesla V100-SXM2-32GB",), ("v100", "v100-32gb")),
    Chip("V100 PCIe 16GB", 16, 900, (7, 0), _tensor(14, fp16=112), "V100 datasheet",
         ("Tesla V100-PCIE-16GB",), ("v100-pcie-16gb",)),
    Chip("V100 PCIe 32GB", 32, 900, (7, 0), _tensor(14, fp16=112), "V100 datasheet",
         ("Tesla V100-PCIE-32GB",), ("v100-pcie", "v100-pcie-32gb")),
    Chip("V100S PCIe 32GB", 32, 1134, (7, 0), _tensor(16.4, fp16=130), "V100 datasheet",
         ("Tesla V100S-PCIE-32GB",), ("v100s",)),
    Chip("T4", 16, 320, (7, 5), _tensor(8.1, fp16=65), "T4 datasheet", ("Tesla T4",), ("t4",)),
    Chip("A10", 24, 600, (8, 6), _tensor(31.2, 62.5, 125, 125), "A10 datasheet", ("NVIDIA A10",), ("a10",)),
    Chip("A10G", 24, 600, (8, 6), _tensor(35, 35, 70, 70), "A10G datasheet", ("NVIDIA A10G",), ("a10g",)),
    Chip("A30", 24, 933, (8, 0), _tensor(10.3, 82, 165, 165), "A30 datasheet", ("NVIDIA A30",), ("a30",)),
    Chip("A40", 48, 696, (8, 6), _tensor(37.4, 74.8, 149.7, 149.7), "A40 datasheet",
         ("NVIDIA A40",), ("a40",)),
    Chip("RTX A6000", 48, 768, (8, 6), _tensor(38.7, 77.4, 154.8, 154.8), "RTX A6000 datasheet",
         ("NVIDIA RTX A6000",), ("a6000",)),
    Chip("A100 SXM 40GB", 40, 1555, (8, 0), _tensor(19.5, 156, 312, 312), "A100 datasheet",
         ("NVIDIA A100-SXM4-40GB",), ("a100-40gb", "a100-sxm-40gb")),
    Chip("A100 SXM 80GB", 80, 2039, (8, 0), _tensor(19.5, 156, 312, 312), "A100 datasheet",
         ("NVIDIA A100-SXM4-80GB",), ("a100", "a100-80gb", "a100-sxm", "a100-sxm-80gb")),
    Chip("A100 PCIe 40GB", 40, 1555, (8, 0), _tensor(19.5, 156, 312, 312), "A100 datasheet",
         ("NVIDIA A100-PCIE-40GB",), ("a100-pcie-40gb",)),
    Chip("A100 PCIe 80GB", 80, 1935, (8, 0), _tensor(19.5, 156, 312, 312), "A100 datasheet",
         ("NVIDIA A100 80GB PCIe",), ("a100-pcie", "a100-pcie-80gb")),
    Chip("L4", 24, 300, (8, 9), _tensor(30.3, 60, 121, 121, 242.5), "L4 datasheet (sparse ÷ 2)",
         ("NVIDIA L4",), ("l4",)),
    Chip("L40", 48, 864, (8, 9), _tensor(90.5, 90.5, 181, 181, 362), "L40 datasheet",
         ("NVIDIA L40",), ("l40",)),
    Chip("L40S", 48, 864, (8, 9), _tensor(91.6, 183, 362, 362, 733), "L40S datasheet",
         ("NVIDIA L40S",), ("l40s",)),
    Chip("RTX 6000 Ada", 48, 960, (8, 9), _tensor(91.1, 182.1, 364.2, 364.2, 728.5),
         "Ada professional whitepaper", ("NVIDIA RTX 6000 Ada Generation",), ("rtx6000-ada",)),
    Chip("H100 SXM", 80, 3350, (9, 0), _tensor(67, 494.7, 989.4, 989.4, 1978.9),
         "H100 datasheet (sparse ÷ 2)", ("NVIDIA H100 80GB HBM3",), ("h100", "h100-sxm")),
    Chip("H100 PCIe", 80, 2000, (9, 0), _tensor(51, 378, 756, 756, 1513), "H100 PCIe datasheet (sparse ÷ 2)",
         ("NVIDIA H100 PCIe",), ("h100-pcie",)),
    Chip("H100 NVL", 94, 3900, (9, 0), _tensor(60, 417.5, 835.5, 835.5, 1670.5),
         "H100 datasheet (sparse ÷ 2)", ("NVIDIA H100 NVL",), ("h100-nvl",)),
    Chip("H200", 141, 4800, (9, 0), _tensor(67, 494.7, 989.4, 989.4, 1978.9), "H200 datasheet (sparse ÷ 2)",
         ("NVIDIA H200",), ("h200", "h200-sxm")),
    Chip("H200 NVL", 141, 4800, (9, 0), _tensor(60, 417.5, 835.5, 835.5, 1670.5),
         "H200 datasheet (sparse ÷ 2)", ("NVIDIA H200 NVL",), ("h200-nvl",)),
    Chip("GH200 96GB", 96, 4000, (9, 0), _tensor(67, 494.7, 989.4, 989.4, 1978.9),
         "GH200 datasheet (sparse ÷ 2)",
         # The 480 or 120 GB of these names is the CPU's memory.
         ("NVIDIA GH200 480GB", "NVIDIA GH200 120GB"), ("gh200",)),
    Chip("GH200 144GB", 144, 4900, (9, 0), _tensor(67, 494.7, 989.4, 989.4, 1978.9),
         "GH200 datasheet (sparse ÷ 2)", ("NVIDIA GH200 144G HBM3e",), ("gh200-144gb",)),
    Chip("B200", 180, 7700, (10, 0), _tensor(75, 1125, 2250, 2250, 4500),
         "HGX B200 datasheet (8 GPUs ÷ 8, sparse ÷ 2)", ("NVIDIA B200",), ("b200",)),
)  # fmt: skip

# Tensor-core rate over the fp32 rate, with fp32 accumulation: Turing, GA102, Ada and RTX Blackwell
# whitepapers. TU116 and TU117 (GTX 16) have no tensor cores, but fp16 vector units of double rate.
_RATES = {
    "gtx16": ((7, 5), {"fp32": 1, "fp16": 2}),
    "turing": ((7, 5), {"fp32": 1, "fp16": 4}),
    "ampere": ((8, 6), {"fp32": 1, "tf32": 1, "fp16": 2, "bf16": 2}),
    "ada": ((8, 9), {"fp32": 1, "tf32": 1, "fp16": 2, "bf16": 2, "fp8": 4}),
    "blackwell": ((12, 0), {"fp32": 1, "tf32": 1, "fp16": 2, "bf16": 2, "fp8": 4}),
}

# name, architecture, cores, boost MHz, GiB, GB/s. GTX 16 and RTX 20 notebooks report the desktop
# card's name unless they are Max-Q; their clocks are lower. From RTX 30 on they say "Laptop GPU".
_GEFORCE = (
    ("GTX 1650", "gtx16", 896, 1665, 4, 128),
    ("GTX 1650 Ti", "gtx16", 1024, 1485, 4, 192),  # exists in notebooks only
    ("GTX 1650 SUPER", "gtx16", 1280, 1725, 4, 192),
    ("GTX 1660", "gtx16", 1408, 1785, 6, 192),
    ("GTX 1660 SUPER", "gtx16", 1408, 1785, 6, 336),
    ("GTX 1660 Ti", "gtx16", 1536, 1770, 6, 288),
    ("RTX 2060", "turing", 1920, 1680, 6, 336),
    ("RTX 2060", "turing", 2176, 1650, 12, 336),
    ("RTX 2060 SUPER", "turing", 2176, 1650, 8, 448),
    ("RTX 2070", "turing", 2304, 1620, 8, 448),
    ("RTX 2070 SUPER", "turing", 2560, 1770, 8, 448),
    ("RTX 2080", "turing", 2944, 1710, 8, 448),
    ("RTX 2080 SUPER", "turing", 3072, 1815, 8, 496),
    ("RTX 2080 Ti", "turing", 4352, 1545, 11, 616),
    ("RTX 3050", "ampere", 2560, 1777, 8, 224),
    ("RTX 3060", "ampere", 3584, 1777, 12, 360),
    ("RTX 3060 Ti", "ampere", 4864, 1665, 8, 448),
    ("RTX 3070", "ampere", 5888, 1725, 8, 448),
    ("RTX 3070 Ti", "ampere", 6144, 1770, 8, 608),
    ("RTX 3080", "ampere", 8704, 1710, 10, 760),
    ("RTX 3080", "ampere", 8960, 1710, 12, 912),
    ("RTX 3080 Ti", "ampere", 10240, 1665, 12, 912),
    ("RTX 3090", "ampere", 10496, 1695, 24, 936),
    ("RTX 3090 Ti", "ampere", 10752, 1860, 24, 1008),
    ("RTX 4060", "ada", 3072, 2460, 8, 272),
    ("RTX 4060 Ti", "ada", 4352, 2535, 8, 288),
    ("RTX 4060 Ti", "ada", 4352, 2535, 16, 288),
    ("RTX 4070", "ada", 5888, 2475, 12, 504),
    ("RTX 4070 SUPER", "ada", 7168, 2475, 12, 504),
    ("RTX 4070 Ti", "ada", 7680, 2610, 12, 504),
    ("RTX 4070 Ti SUPER", "ada", 8448, 2610, 16, 672),
    ("RTX 4080", "ada", 9728, 2505, 16, 717),
    ("RTX 4080 SUPER", "ada", 10240, 2550, 16, 736),
    ("RTX 4090", "ada", 16384, 2520, 24, 1008),
    ("RTX 5060", "blackwell", 3840, 2497, 8, 448),
    ("RTX 5060 Ti", "blackwell", 4608, 2572, 8, 448),
    ("RTX 5060 Ti", "blackwell", 4608, 2572, 16, 448),
    ("RTX 5070", "blackwell", 6144, 2512, 12, 672),
    ("RTX 5070 Ti", "blackwell", 8960, 2452, 16, 896),
    ("RTX 5080", "blackwell", 10752, 2617, 16, 960),
    ("RTX 5090", "blackwell", 21760, 2407, 32, 1792),
)


def _geforce() -> Iterable[Chip]:
    names = [row[0] for row in _GEFORCE]
    taken: set[str] = set()
    for name, architecture, cores, boost_mhz, gib, bandwidth in _GEFORCE:
        capability, rates = _RATES[architecture]
        fp32 = 2 * cores * boost_mhz * 1e6 / 1e12
        twin = names.count(name) > 1
        short = name.lower().replace(" ", "")
        # Of two cards of one name, the bare short name means the first.
        shorts = ((f"{short}-{gib}gb",) if twin else ()) + ((short,) if name not in taken else ())
        taken.add(name)
        yield Chip(
            name=f"GeForce {name} {gib}GB" if twin else f"GeForce {name}",
            memory_gib=gib,
            bandwidth_gb_s=bandwidth,
            capability=capability,
            peak={precision: round(fp32 * rate, 1) for precision, rate in rates.items()},
            source=f"GeForce specification ({cores} cores, {boost_mhz} MHz), {architecture} whitepaper",
            device_names=(f"NVIDIA GeForce {name}",),
            short_names=shorts,
            tensor_cores=architecture != "gtx16",
        )


CHIPS: tuple[Chip, ...] = (*_DATACENTRE, *_geforce())


def _words(name: str) -> tuple[str, ...]:
    """A device name without its maker's and brand words, so that old and new drivers agree."""
    words = re.split(r"[\s\-_]+", name.strip().lower())
    return tuple(word for word in words if word not in ("nvidia", "tesla", "geforce", "graphics", "gpu"))


def chip_of(device_name: str, memory_bytes: int | None = None) -> Chip | None:
    """The row of the chip that the driver calls `device_name`, or None when it is not known.

    Every word of the name has to agree: "GH200" is not "H200", a "Laptop GPU", a "Max-Q" or a
    MIG slice is not the whole desktop chip, and an "RTX 4090 D" is not an "RTX 4090".

    Args:
        device_name: as `torch.cuda.get_device_name` gives it.
        memory_bytes: as torch reports it; tells apart cards that share a name, and refuses a
            part whose memory is not the row's (a slice, or a variant that is not in the table).
    """
    words = _words(device_name)
    if "laptop" in device_name.lower():
        return None
    rows = [chip for chip in CHIPS if any(_words(known) == words for known in chip.device_names)]
    if memory_bytes is not None:
        rows = [chip for chip in rows if 0.88 < memory_bytes / (chip.memory_gib * GIB) < 1.02]
    return rows[0] if rows else None


def chip_named(text: str) -> Chip:
    """The chip that a person means by `h200`, `a100-40gb` or `rtx4090`.

    Raises:
        RequestError: when no chip of the table has that name.
    """

    def bare(name: str) -> str:
        return re.sub(r"[^a-z0-9]", "", name.lower())

    known = {bare(short): chip for chip in CHIPS for short in (*chip.short_names, chip.name)}
    if bare(text) in known:
        return known[bare(text)]
    chip = chip_of(text)
    if chip is not None:
        return chip
    shorts = {bare(short): short for chip in CHIPS for short in chip.short_names}
    close = get_close_matches(bare(text), shorts, n=1, cutoff=0.6)
    mend = f"did you mean {shorts[close[0]]!r}?" if close else "for example h200, a100-40gb or rtx4090"
    raise RequestError(f"no accelerator called {text!r} is known", mend=mend)
