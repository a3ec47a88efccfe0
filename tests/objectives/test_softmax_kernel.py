"""The Triton kernel of the loss computes what torch computes; run by Triton's interpreter, on the CPU."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy
import pytest

CASES = Path(__file__).with_name("softmax_cases.py")
BOUNDS = {"float32": 5e-6, "bfloat16": 8e-3, "float16": 1e-3}  # rounding of what is written back

if importlib.util.find_spec("triton") is None:
    pytest.skip("triton is not installed", allow_module_level=True)
if tuple(map(int, numpy.__version__.split(".")[:2])) > (2, 3):
    pytest.skip(
        f"Triton's interpreter is not known to work with numpy {numpy.__version__}", allow_module_level=True
    )


def test_losses_and_gradients_are_those_of_torch_in_float64() -> None:
    """In every dtype, for vocabularies of any size, with ignored rows, extreme logits and any padding."""
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    done = subprocess.run([sys.executable, str(CASES)], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    assert len(found["errors"]) > 30
    bad = {name: error for name, error in found["errors"].items() if not error < BOUNDS[name.split()[1]]}
    assert not bad
    assert found["not_finite"], "NaN and infinity do not reach the loss"


def test_loads_and_stores_are_16_bytes_wide_on_hopper() -> None:
    """Compiled for sm_90, which takes no GPU: only the row's target and loss move in fewer bytes."""
    program = """
import re, sys
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, compile
from linnet.objectives.softmax_kernel import BLOCK, WARPS, _softmax_row
pointers = {"logits": "*bf16", "targets": "*i64", "counted": "*u8", "losses": "*fp32"}
numbers = {"stride": "i32", "vocabulary": "i32", "width": "i32", "scale": "fp32"}
constants = {"ALL_COUNT": False, "GRADIENT": True, "BLOCK": BLOCK}
signature = {name: {**pointers, **numbers}.get(name, "constexpr") for name in _softmax_row.arg_names}
aligned = [i for i, name in enumerate(signature) if name in {"logits", "targets", "losses", "stride", "width"}]
source = ASTSource(_softmax_row, signature, constants, {(i,): [["tt.divisibility", 16]] for i in aligned})
made = compile(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": WARPS})
print(*re.findall(r"(?:ld|st)[.]global[.\\w:]*", made.asm["ptx"]))
"""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    if "No module named 'triton.backends.nvidia'" in done.stderr:
        pytest.skip("this Triton has no NVIDIA backend")
    assert done.returncode == 0, done.stderr[-2000:]
    moves = done.stdout.split()
    wide = [move for move in moves if "v4.b32" in move]
    assert len(wide) >= 6
    assert len(moves) - len(wide) <= 4, moves
