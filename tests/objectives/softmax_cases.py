"""The loss's Triton kernel beside plain torch; a program, because Triton's interpreter is chosen at import.

Prints a JSON object of relative errors by case. Run with TRITON_INTERPRET=1.
"""

from __future__ import annotations

import json
import sys

import torch
import torch.nn.functional as F

from linnet.objectives import linear_cross_entropy as loss
from linnet.objectives.softmax_kernel import softmax_by_rows

VOCABULARIES = (7, 64, 320, 4_096, 4_099, 32_000, 50_257)
DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def error(found: torch.Tensor, right: torch.Tensor) -> float:
    return float((found.double() - right.double()).norm() / right.double().norm().clamp_min(1e-30))


def kernel_alone(vocabulary: int, dtype: torch.dtype, padding: int) -> float:
    """Losses and gradient in place, with ignored rows, extreme logits, and NaN in the padding."""
    torch.manual_seed(vocabulary)
    rows, scale = 5, 8.0
    buffer = torch.full((rows, vocabulary + padding), float("nan")).to(dtype)
    logits = buffer[:, :vocabulary]
    logits.copy_(torch.randn(rows, vocabulary) * 4)
    logits[1] += 60.0  # an exponential that would overflow
    logits[2] -= 60.0
    logits[3, 0] = 90.0  # all others' probabilities underflow
    targets = torch.randint(vocabulary, (rows,))
    counted = torch.tensor([True, True, True, True, False])
    wide = logits.double().requires_grad_()
    each = F.cross_entropy(wide, targets, reduction="none")
    right = torch.where(counted, each, 0)
    (gradient,) = torch.autograd.grad(right.sum() * scale, wide)
    before = buffer.clone()

    only = softmax_by_rows(logits, targets, None, scale, False)
    assert torch.equal(buffer.nan_to_num(), before.nan_to_num()), (
        "logits changed where no gradient was asked for"
    )
    found = softmax_by_rows(logits, targets, counted, scale, True)
    assert float(found[4]) == 0.0
    assert not logits[4].any(), "an ignored row has a gradient"
    return max(error(only, each.detach()), error(found, right.detach()), error(logits, gradient))


def whole_loss(dtype: torch.dtype) -> float:
    """The chunked loss with the kernel in its place, in three chunks, as CUDA would run it."""
    loss._softmax_for = lambda *facts: softmax_by_rows
    loss._reads_freely = lambda device: False
    torch.manual_seed(1)
    hidden = torch.randn(11, 24).to(dtype).requires_grad_()
    weight = (torch.randn(509, 24) * 0.3).requires_grad_()
    targets = torch.randint(509, (11,))
    targets[::4] = -100
    found = loss.linear_cross_entropy(hidden, weight, targets, chunk_tokens=4)
    got = torch.autograd.grad(found / 8, (hidden, weight))
    wide = hidden.detach().double().requires_grad_(), weight.detach().double().requires_grad_()
    right = F.cross_entropy(F.linear(*wide), targets, reduction="sum")
    wanted = torch.autograd.grad(right / 8, wide)
    pairs = [(found, right), *zip(got, wanted, strict=True)]
    return max(error(a.detach(), b.detach()) for a, b in pairs)


def not_finite() -> bool:
    """NaN and infinity among logits reach the loss."""
    logits = torch.randn(2, 100)
    logits[0, 3], logits[1, 4] = float("nan"), float("inf")
    return not softmax_by_rows(logits, torch.tensor([0, 0]), None, 1.0, True).isfinite().any()


if __name__ == "__main__":
    found = {
        f"{vocabulary} {str(dtype)[6:]} {padding}": kernel_alone(vocabulary, dtype, padding)
        for vocabulary in VOCABULARIES
        for dtype in DTYPES
        for padding in (0, -vocabulary % 64)
    }
    found |= {f"loss {str(dtype)[6:]}": whole_loss(dtype) for dtype in DTYPES}
    json.dump({"errors": found, "not_finite": not_finite()}, sys.stdout)
