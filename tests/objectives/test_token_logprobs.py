"""Log-probabilities and entropies of tokens against torch's own in float64."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from linnet.objectives import token_logprobs as module
from linnet.objectives.linear_cross_entropy import IGNORE_INDEX, linear_cross_entropy
from linnet.objectives.token_logprobs import token_entropies, token_logprobs


def problem(
    dtype: torch.dtype = torch.float64, tokens: int = 37, width: int = 24, vocabulary: int = 101
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Hidden states, a weight, targets of which some are not counted, and a gradient for each token."""
    generator = torch.Generator().manual_seed(3)
    hidden = torch.randn(tokens, width, generator=generator, dtype=torch.float64).to(dtype)
    weight = torch.randn(vocabulary, width, generator=generator, dtype=torch.float64).to(dtype)
    targets = torch.randint(vocabulary, (tokens,), generator=generator)
    targets[[0, 5, 6, tokens - 1]] = IGNORE_INDEX
    above = torch.randn(tokens, generator=generator, dtype=torch.float64)
    return hidden.requires_grad_(), weight.requires_grad_(), targets, above


def plain(hidden: Tensor, weight: Tensor, targets: Tensor, temperature: float) -> Tensor:
    """What torch makes of it with all logits at once."""
    logs = F.log_softmax(F.linear(hidden, weight) / temperature, -1)
    counted = targets != IGNORE_INDEX
    return logs.gather(1, targets.where(counted, 0)[:, None]).squeeze(1).where(counted, 0)


@pytest.mark.parametrize("temperature", [1.0, 0.7, 3.0])
@pytest.mark.parametrize("chunk_tokens", [1, 8, None])
@pytest.mark.parametrize("cached_elements", [1, 350, module.CACHED_ELEMENTS])
def test_values_and_gradients_are_those_of_log_softmax(
    temperature: float, chunk_tokens: int | None, cached_elements: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CACHED_ELEMENTS", cached_elements)
    hidden, weight, targets, above = problem()
    found = token_logprobs(hidden, weight, targets, temperature=temperature, chunk_tokens=chunk_tokens)
    gradients = torch.autograd.grad((found * above).sum(), (hidden, weight))
    expected = plain(hidden, weight, targets, temperature)
    wanted = torch.autograd.grad((expected * above).sum(), (hidden, weight))
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    for one, other in zip(gradients, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize(
    ("dtype", "near"), [(torch.bfloat16, 2e-2), (torch.float16, 3e-3), (torch.float32, 2e-6)]
)
@pytest.mark.parametrize("factor", [1.0, 1e-4, 65536.0])
def test_low_precision_is_near_and_results_are_fp32(dtype: torch.dtype, near: float, factor: float) -> None:
    hidden, weight, targets, above = problem(dtype)
    exact = hidden.detach().double().requires_grad_(), weight.detach().double().requires_grad_()
    found = token_logprobs(hidden, weight, targets, temperature=0.8)
    assert found.dtype == torch.float32
    expected = plain(*exact, targets, 0.8)
    assert (found - expected).abs().max() < near * expected.abs().max()
    if dtype == torch.float16 and factor > 1:
        factor = 512.0  # a gradient that FP16 can hold
    gradients = torch.autograd.grad((found * above.float() * factor).sum(), (hidden, weight))
    wanted = torch.autograd.grad((expected * above).sum(), exact)
    for value, one, other in zip((hidden, weight), gradients, wanted, strict=True):
        assert one.dtype == value.dtype
        assert (one.double() / factor - other).norm() < near * other.norm()


def test_an_fp32_master_weight_under_bf16_states_gets_an_fp32_gradient() -> None:
    hidden, weight, targets, above = problem(torch.bfloat16)
    master = weight.detach().float().requires_grad_()
    found = token_logprobs(hidden, master, targets)
    (gradient,) = torch.autograd.grad((found * above.float()).sum(), master)
    assert gradient.dtype == torch.float32
    exact = weight.detach().double().requires_grad_()
    expected = (plain(hidden.detach().double(), exact, targets, 1.0) * above).sum()
    (wanted,) = torch.autograd.grad(expected, exact)
    assert (gradient - wanted).norm() < 2e-2 * wanted.norm()


def test_a_frozen_weight_costs_no_gradient() -> None:
    hidden, weight, targets, above = problem()
    token_logprobs(hidden, weight.detach(), targets).mul(above).sum().backward()
    expected = torch.autograd.grad((plain(hidden, weight, targets, 1.0) * above).sum(), hidden)[0]
    torch.testing.assert_close(hidden.grad, expected)


def test_their_sum_is_the_cross_entropy_of_training() -> None:
    hidden, weight, targets, _ = problem(torch.float32)
    loss = linear_cross_entropy(hidden, weight, targets)
    found = -token_logprobs(hidden, weight, targets).sum()
    assert found.item() == pytest.approx(loss.item(), rel=1e-6)


def test_rows_that_do_not_count_are_zero_even_where_they_hold_no_number() -> None:
    hidden, weight, targets, _ = problem()
    spoiled = hidden.detach().clone()
    spoiled[targets == IGNORE_INDEX] = torch.nan
    spoiled.requires_grad_()
    found = token_logprobs(spoiled, weight, targets)
    gradients = torch.autograd.grad(found.sum(), (spoiled, weight))
    skipped = targets == IGNORE_INDEX
    assert not found[skipped].any()
    assert not gradients[0][skipped].any()
    assert all(value.isfinite().all() for value in (found, *gradients))


def test_nothing_counted_is_zero_with_zero_gradient() -> None:
    hidden, weight, targets, _ = problem()
    found = token_logprobs(hidden, weight, torch.full_like(targets, IGNORE_INDEX))
    gradients = torch.autograd.grad(found.sum(), (hidden, weight))
    assert not any(value.any() for value in (found, *gradients))


def test_a_hopeless_token_has_a_finite_log_probability_and_gradient() -> None:
    hidden = torch.tensor([[300.0]], requires_grad=True)
    found = token_logprobs(hidden, torch.tensor([[1.0], [-1.0]]), torch.tensor([1]))
    (gradient,) = torch.autograd.grad(found.sum(), hidden)
    assert found.item() == -600
    assert gradient.item() == -2


class Largest(TorchDispatchMode):
    """The most elements any tensor has that is made meanwhile."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        if isinstance(made, Tensor):
            self.elements = max(self.elements, made.numel())
        return made


def test_all_logits_never_exist_at_once() -> None:
    hidden, weight, targets, _ = problem(torch.float32, tokens=512, width=4, vocabulary=128)
    with Largest() as largest:
        token_logprobs(hidden, weight, targets, chunk_tokens=32).sum().backward()
        token_entropies(hidden, weight, chunk_tokens=32)
    assert 32 * 128 <= largest.elements <= 2 * 32 * 128


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_entropies_are_those_of_a_categorical_distribution(temperature: float) -> None:
    hidden, weight, targets, _ = problem()
    expected = torch.distributions.Categorical(logits=F.linear(hidden, weight) / temperature).entropy()
    found = token_entropies(hidden, weight, temperature=temperature, chunk_tokens=5)
    assert not found.requires_grad
    torch.testing.assert_close(found, expected.detach(), rtol=1e-12, atol=1e-12)
    counted = targets != IGNORE_INDEX
    some = token_entropies(hidden, weight, counted, temperature=temperature)
    torch.testing.assert_close(some, expected.detach().where(counted, 0), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan")])
def test_a_temperature_that_is_not_positive_is_refused(temperature: float) -> None:
    hidden, weight, targets, _ = problem()
    with pytest.raises(ValueError, match="temperature must be above 0"):
        token_logprobs(hidden, weight, targets, temperature=temperature)
    with pytest.raises(ValueError, match="temperature must be above 0"):
        token_entropies(hidden, weight, temperature=temperature)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize(
    ("dtype", "near"), [(torch.bfloat16, 1e-2), (torch.float16, 2e-3), (torch.float32, 1e-5)]
)
def test_on_a_gpu_logits_are_not_rounded(dtype: torch.dtype, near: float) -> None:
    hidden, weight, targets, above = (value.detach().cuda() for value in problem(dtype, 300, 128, 1000))
    hidden.requires_grad_()
    weight.requires_grad_()
    exact = hidden.detach().double().requires_grad_(), weight.detach().double().requires_grad_()
    found = token_logprobs(hidden, weight, targets, temperature=0.8, chunk_tokens=64)
    expected = plain(*exact, targets, 0.8)
    assert float((found - expected).abs().max()) < 1e-3, "what is rounded are states and weights alone"
    gradients = torch.autograd.grad((found * above.float()).sum(), (hidden, weight))
    wanted = torch.autograd.grad((expected * above).sum(), exact)
    for one, other in zip(gradients, wanted, strict=True):
        assert (one.double() - other).norm() < near * other.norm()
    entropies = token_entropies(hidden, weight, temperature=0.8)
    logits = (exact[0] @ exact[1].T).detach() / 0.8
    assert float((entropies - torch.distributions.Categorical(logits=logits).entropy()).abs().max()) < 1e-3
