"""The machine that parts run on, and what stands in for a GPU where there is none."""

from __future__ import annotations

import importlib
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parent.parent.parent
CUDA = torch.cuda.is_available()
DEVICE = "cuda" if CUDA else "cpu"


def machine() -> tuple[str, dict[str, Any]]:
    """What is here: card, driver and versions; and every module of Linnet that a run imports."""
    import numpy
    import transformers

    from linnet.hardware import HardwareSettings, choose, describe, detect

    for module in ("linnet.cli.main", "linnet.plan", "linnet.recipe", "linnet.infer"):
        importlib.import_module(module)
    found = detect()
    choices = choose(HardwareSettings(), found)
    versions = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version() if CUDA else None,
        "triton": _version("triton"),
        "numpy": numpy.__version__,
        "transformers": transformers.__version__,
    }
    facts = {"card": describe(found), "driver": _driver(), **versions, **choices.lines()}
    return f"{facts['card']}, torch {torch.__version__}, attention {choices.attention.line}", facts


def _version(package: str) -> str | None:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _driver() -> str | None:
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        return subprocess.run(query, capture_output=True, text=True, timeout=10).stdout.split("\n")[0] or None
    except (OSError, subprocess.TimeoutExpired):
        return None


def stand_in() -> str:
    """On a CPU: kernels for `varlen` and an uncompiled `flex`, so that our code of these paths runs; says so."""
    if CUDA:
        return ""
    from torch.nn.attention import flex_attention

    import linnet.model.attention

    sys.path.insert(0, str(ROOT / "tests" / "model"))
    import varlen_kernels

    varlen_kernels.register()
    linnet.model.attention._compiled_flex = lambda: flex_attention.flex_attention
    return "; on the CPU, varlen by kernels written out, flex uncompiled and forward only"
