"""Scores that FP16 cannot hold until they are scaled: query times key passes 65,504, the scaled score does not."""

from __future__ import annotations

import pytest
import torch

from linnet.model.attention import Path, attention_path

HEAD, LENGTH = 64, 12


def inputs() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """[1, T, 2, head] in FP16, of which some products are near 90,000, an eighth of it when scaled."""
    draw = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(1, LENGTH, 2, HEAD, generator=draw) for _ in range(3))
    q, k = q.sign() * 37.5, q.sign() * (37.5 + 0.01 * k)
    return q.half(), k.half(), v.half()


@pytest.mark.parametrize("documents", [False, True])
@pytest.mark.parametrize("path", ["sdpa", "eager"])
def test_fp16_scores_do_not_overflow_before_they_are_scaled(path: Path, documents: bool) -> None:
    attend, mask_for = attention_path(path)
    numbers = torch.tensor([[0] * 5 + [1] * (LENGTH - 5)])
    q, k, v = (x.requires_grad_() for x in inputs())
    products = torch.einsum("bihd,bjhd->bhij", q.float(), k.float())
    assert products.max() > torch.finfo(torch.float16).max > products.max() / HEAD**0.5
    mask = mask_for(numbers) if documents else None
    found = attend(q, k, v, mask, 0.0)

    wide = [x.detach().double().requires_grad_() for x in (q, k, v)]
    expected = attend(wide[0], wide[1], wide[2], mask, 0.0)
    assert found.isfinite().all()
    torch.testing.assert_close(found.double(), expected, atol=2e-2, rtol=0)
    for gradient in torch.autograd.grad(found.float().sum(), (q, k, v)):
        assert gradient.isfinite().all()
