"""The chunked head against torch's plain one: value, gradients, precision, masks, memory."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from linnet.objectives import linear_cross_entropy as module
from linnet.objectives.linear_cross_entropy import linear_cross_entropy, per_token_losses

Case = tuple[Tensor, Tensor, Tensor]


def make_case(tokens: int = 37, width: int = 24, vocabulary: int = 131, ignored: float = 0.3) -> Case:
    generator = torch.Generator().manual_seed(5)
    hidden = torch.randn(tokens, width, generator=generator, dtype=torch.float64)
    weight = torch.randn(vocabulary, width, generator=generator, dtype=torch.float64)
    targets = torch.randint(0, vocabulary, (tokens,), generator=generator)
    targets[torch.rand(tokens, generator=generator) < ignored] = -100
    return hidden, weight, targets


def plain(hidden: Tensor, weight: Tensor, targets: Tensor, factor: float = 1.0) -> Case:
    """Loss and gradients from torch's full logits, in the operands' own dtype."""
    hidden, weight = hidden.clone().requires_grad_(), weight.clone().requires_grad_()
    loss = F.cross_entropy(F.linear(hidden, weight), targets, reduction="sum")
    hidden_grad, weight_grad = torch.autograd.grad(loss * factor, (hidden, weight))
    return loss.detach(), hidden_grad, weight_grad


def chunked(
    hidden: Tensor, weight: Tensor, targets: Tensor, chunk: int | None = None, factor: float = 1.0
) -> Case:
    hidden, weight = hidden.clone().requires_grad_(), weight.clone().requires_grad_()
    loss = linear_cross_entropy(hidden, weight, targets, chunk_tokens=chunk)
    (loss * factor).backward()
    assert hidden.grad is not None
    assert weight.grad is not None
    return loss.detach(), hidden.grad, weight.grad


def relative_error(value: Tensor, reference: Tensor) -> float:
    return float((value.double() - reference.double()).norm() / reference.double().norm())


@pytest.mark.parametrize("chunk", [1, 8, 37, 64, None])
@pytest.mark.parametrize("cached_elements", [1, 400, module.CACHED_ELEMENTS])
def test_value_and_gradients_equal_plain_cross_entropy_in_float64(
    chunk: int | None, cached_elements: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CACHED_ELEMENTS", cached_elements)
    case = make_case()
    for ours, reference in zip(chunked(*case, chunk, factor=0.37), plain(*case, factor=0.37), strict=True):
        assert ours.dtype == torch.float64
        assert relative_error(ours, reference) < 1e-12


@pytest.mark.parametrize("vocabulary", [1, 64, 65, 50_257])
def test_any_vocabulary_size_fits_the_padded_buffer(vocabulary: int) -> None:
    case = make_case(tokens=9, vocabulary=vocabulary)
    for ours, reference in zip(chunked(*case, 4), plain(*case), strict=True):
        torch.testing.assert_close(ours, reference, rtol=1e-9, atol=1e-12)


def test_fp32_is_as_exact_as_the_plain_one() -> None:
    hidden, weight, targets = make_case(tokens=300, vocabulary=1000)
    reference = plain(hidden, weight, targets)
    for ours, theirs in zip(chunked(hidden.float(), weight.float(), targets, 128), reference, strict=True):
        assert relative_error(ours, theirs) < 2e-6


def test_bf16_hidden_with_fp32_master_weight_gives_fp32_weight_gradient() -> None:
    hidden, weight, targets = make_case(tokens=512, vocabulary=1000)
    hidden, weight = hidden.bfloat16(), weight.float() * 0.2
    reference = plain(hidden.double(), weight.bfloat16().double(), targets)
    loss, hidden_grad, weight_grad = chunked(hidden, weight, targets, 100)
    assert (loss.dtype, hidden_grad.dtype, weight_grad.dtype) == (
        torch.float32,
        torch.bfloat16,
        torch.float32,
    )
    assert relative_error(loss, reference[0]) < 2e-4
    assert relative_error(hidden_grad, reference[1]) < 6e-3
    assert relative_error(weight_grad, reference[2]) < 6e-3


def test_weight_gradient_adds_up_over_chunks_in_fp32() -> None:
    """Equal tokens, one a chunk: a BF16 sum stops growing at 256 addends."""
    hidden = torch.ones(1000, 4, dtype=torch.bfloat16)
    weight = torch.zeros(2, 4)
    weight.requires_grad_()
    linear_cross_entropy(hidden, weight, torch.zeros(1000, dtype=torch.int64), chunk_tokens=1).backward()
    torch.testing.assert_close(weight.grad, torch.tensor([[-500.0], [500.0]]).expand(2, 4))


def test_fp16_keeps_gradients_that_fp16_probabilities_would_lose() -> None:
    """Probabilities near 3e-8 vanish in FP16; with the caller's loss scale they must come back."""
    vocabulary, width, tokens = 2048, 16, 6
    hidden = torch.zeros(tokens, width)
    hidden[:, 0] = 1.0
    hidden[:, 1] = torch.linspace(-1, 1, tokens)
    weight = torch.zeros(vocabulary, width)
    weight[1:, 0] = -17.25  # softmax: nearly 1 for token 0, 3.2e-8 for each other one
    weight[:, 1] = torch.linspace(-1, 1, vocabulary)
    targets = torch.zeros(tokens, dtype=torch.int64)
    factor = 2.0**14
    reference = plain(hidden.half().double(), weight.half().double(), targets, factor)
    _, hidden_grad, weight_grad = chunked(hidden.half(), weight, targets, 4, factor)
    assert hidden_grad.dtype == torch.float16
    assert weight_grad.dtype == torch.float32
    assert relative_error(weight_grad[1:], reference[2][1:]) < 0.02
    assert relative_error(hidden_grad, reference[1]) < 0.02


def test_fp16_gradients_do_not_overflow() -> None:
    """2,000 tokens of one class: the weight's gradient, 120,000, is beyond FP16's largest number."""
    hidden = torch.full((2000, 4), 120.0, dtype=torch.float16)
    weight = torch.zeros(2, 4, requires_grad=True)
    linear_cross_entropy(hidden, weight, torch.zeros(2000, dtype=torch.int64)).backward()
    torch.testing.assert_close(weight.grad, torch.tensor([[-120_000.0], [120_000.0]]).expand(2, 4))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_only_ignored_tokens_give_zero_loss_and_zero_gradients(dtype: torch.dtype) -> None:
    hidden, weight, targets = make_case(ignored=1.1)
    loss, hidden_grad, weight_grad = chunked(hidden.to(dtype), weight.float(), targets)
    assert loss == 0
    assert not hidden_grad.any()
    assert not weight_grad.any()


def test_no_tokens_at_all_give_zero() -> None:
    loss, hidden_grad, weight_grad = chunked(*make_case(tokens=0))
    assert loss == 0
    assert hidden_grad.shape == (0, 24)
    assert not weight_grad.any()


@pytest.mark.parametrize("masking", [False, True])
def test_ignored_rows_contribute_exactly_nothing_even_when_not_finite(
    masking: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if masking:
        mask_instead_of_selecting(monkeypatch)
    hidden, weight, targets = make_case()
    ignored = targets == -100
    expected = chunked(hidden, weight, targets)
    hidden[ignored] = float("nan")
    loss, hidden_grad, weight_grad = chunked(hidden, weight, targets)
    assert torch.equal(loss, expected[0])
    assert torch.equal(weight_grad, expected[2])
    assert not hidden_grad[ignored].any()
    assert torch.equal(hidden_grad[~ignored], expected[1][~ignored])


def mask_instead_of_selecting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs what accelerators run."""
    monkeypatch.setattr(module, "_reads_freely", lambda device: False)
    monkeypatch.setattr(module, "_softmax_for", lambda *_: module._softmax_at_once)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16])
def test_accelerator_path_equals_cpu_path(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    hidden, weight, targets = make_case()
    case = (hidden.to(dtype), weight.to(torch.promote_types(dtype, torch.float32)), targets)
    expected = chunked(*case, 8)
    mask_instead_of_selecting(monkeypatch)
    tolerance = {torch.float64: 1e-12, torch.float32: 5e-6, torch.float16: 2e-3}[dtype]
    for ours, reference in zip(chunked(*case, 8), expected, strict=True):
        assert relative_error(ours, reference) < tolerance


def test_a_loss_beyond_the_range_of_exp_stays_finite_and_right() -> None:
    hidden = torch.eye(3, requires_grad=True)
    weight = torch.tensor([[200.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    targets = torch.tensor([1, 1, 0])
    losses = per_token_losses(hidden, weight, targets)
    torch.testing.assert_close(losses, F.cross_entropy(hidden @ weight.T, targets, reduction="none").detach())
    assert losses[0] == 200


def test_non_finite_logits_are_not_hidden() -> None:
    hidden, weight, targets = make_case(ignored=0)
    hidden[3, 0] = float("nan")
    assert linear_cross_entropy(hidden, weight, targets).isnan()


def test_per_token_losses_equal_plain_and_have_no_gradient() -> None:
    hidden, weight, targets = make_case()
    losses = per_token_losses(hidden.requires_grad_(), weight, targets, chunk_tokens=5)
    assert not losses.requires_grad
    torch.testing.assert_close(losses, F.cross_entropy(hidden @ weight.T, targets, reduction="none").detach())


def test_another_ignore_index() -> None:
    hidden, weight, targets = make_case(ignored=0)
    targets[2] = 7
    expected = F.cross_entropy(hidden @ weight.T, targets, ignore_index=7, reduction="sum")
    torch.testing.assert_close(linear_cross_entropy(hidden, weight, targets, ignore_index=7), expected)


@pytest.mark.parametrize(("hidden_wanted", "weight_wanted"), [(True, False), (False, True)])
def test_only_the_gradients_asked_for_are_made(hidden_wanted: bool, weight_wanted: bool) -> None:
    hidden, weight, targets = make_case()
    expected = plain(hidden, weight, targets)
    hidden.requires_grad_(hidden_wanted)
    weight.requires_grad_(weight_wanted)
    linear_cross_entropy(hidden, weight, targets).backward()
    for tensor, wanted, reference in ((hidden, hidden_wanted, 1), (weight, weight_wanted, 2)):
        if wanted:
            assert tensor.grad is not None
            assert relative_error(tensor.grad, expected[reference]) < 1e-12
        else:
            assert tensor.grad is None


@pytest.mark.parametrize("mode", ["training", "no_grad", "nothing requires grad", "evaluation"])
def test_products_made_and_logits_held(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three products a chunk in training, one otherwise; no tensor of [N, V] ever."""
    hidden, weight, targets = make_case(tokens=40, ignored=0)
    if mode != "nothing requires grad":
        hidden.requires_grad_()
        weight.requires_grad_()
    largest, products = 0, 0

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            nonlocal largest, products
            result = func(*args, **(kwargs or {}))
            if isinstance(result, Tensor):
                largest = max(largest, result.numel())
            products += func.overloadpacket in (torch.ops.aten.mm, torch.ops.aten.addmm)
            return result

    with Watch(), torch.set_grad_enabled(mode != "no_grad"):
        if mode == "evaluation":
            per_token_losses(hidden, weight, targets, chunk_tokens=10)
        else:
            linear_cross_entropy(hidden, weight, targets, chunk_tokens=10)
    assert products == (12 if mode == "training" else 4)
    assert largest < 40 * 131


def test_tied_weight_gets_both_gradients() -> None:
    _, weight, targets = make_case()
    inputs = targets.clamp(min=0)
    grads = []
    for head in (linear_cross_entropy, lambda h, w, t: F.cross_entropy(h @ w.T, t, reduction="sum")):
        tied = weight.clone().requires_grad_()
        head(F.embedding(inputs, tied).sin(), tied, targets).backward()
        grads.append(tied.grad)
    torch.testing.assert_close(*grads)


def test_backward_twice_is_refused() -> None:
    hidden, weight, targets = make_case()
    loss = linear_cross_entropy(hidden.requires_grad_(), weight, targets)
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="once"):
        loss.backward()


def test_autocast_around_it_changes_nothing() -> None:
    hidden, weight, targets = make_case()
    case = (hidden.float(), weight.float(), targets)
    expected = chunked(*case)
    with torch.autocast("cpu", torch.bfloat16):
        ours = chunked(*case)
    for one, other in zip(ours, expected, strict=True):
        assert torch.equal(one, other)


def test_works_under_compile_of_what_surrounds_it() -> None:
    hidden, weight, targets = make_case()
    expected = plain(hidden.sin(), weight, targets)[0]
    step = torch.compile(lambda h: linear_cross_entropy(h.sin(), weight, targets) * 2, backend="eager")
    torch.testing.assert_close(step(hidden), expected * 2)


def test_compiled_softmax_is_compiled_and_equal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Accelerators compile the softmax: four graphs at most (gradients or not, full or last chunk)."""
    graphs = 0

    def count(graph: torch.fx.GraphModule, inputs: object) -> object:
        nonlocal graphs
        graphs += 1
        return graph

    case = make_case(tokens=37)
    expected = chunked(*case)
    mask_instead_of_selecting(monkeypatch)
    compiled = torch.compile(module._softmax_at_once, dynamic=True, backend=count)
    monkeypatch.setattr(module, "_softmax_for", lambda *_: compiled)
    for chunk in (8, 16, 20):
        for ours, reference in zip(chunked(*case, chunk), expected, strict=True):
            assert relative_error(ours, reference) < 1e-12
        per_token_losses(*case, chunk_tokens=chunk)
    assert 1 <= graphs <= 4


def test_shapes_that_do_not_fit_are_refused() -> None:
    hidden, weight, targets = make_case()
    with pytest.raises(ValueError, match="do not fit"):
        linear_cross_entropy(hidden[:, :3], weight, targets)
    with pytest.raises(ValueError, match="targets"):
        linear_cross_entropy(hidden, weight, targets[:4])
    with pytest.raises(ValueError, match="chunk_tokens"):
        linear_cross_entropy(hidden, weight, targets, chunk_tokens=0)


def test_nothing_is_read_from_memory_that_nobody_wrote(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of the buffer are longer than the vocabulary; kernels for AMX multiply what lies behind it by zeros."""
    empty = torch.Tensor.new_empty

    def poisoned(self: Tensor, *shape: Any, **how: Any) -> Tensor:
        made = empty(self, *shape, **how)
        return made.fill_(float("nan")) if made.is_floating_point() else made

    monkeypatch.setattr(torch.Tensor, "new_empty", poisoned)
    hidden, weight, targets = make_case(tokens=64, vocabulary=1000)
    for found in chunked(hidden.bfloat16(), weight.bfloat16(), targets, 20):
        assert found.isfinite().all()
