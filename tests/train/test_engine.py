"""A step of the local engine: what is summed, what is clipped, what is left out whole."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import tiny
from linnet.data.batches import IGNORE, Batch
from linnet.model import Transformer
from linnet.objectives import Loss, NextToken
from linnet.train.engines import LocalEngine, StopRequested
from linnet.train.engines.microbatch import CPU_TOKENS
from linnet.train.engines.scaling import LossScale
from linnet.train.optimizers import optimizers_for


class Spoilt(NextToken):
    """Next-token prediction that goes wrong as told."""

    def __init__(self, spoil: Callable[[Tensor], Tensor]) -> None:
        self.spoil = spoil

    def loss(self, model: Transformer, batch: Batch) -> Loss:
        return Loss(self.spoil(super().loss(model, batch).sum))


class _BrokenGradient(torch.autograd.Function):
    """A loss that looks well and whose gradient is not a number."""

    @staticmethod
    def forward(context: object, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(context: object, grad: Tensor) -> Tensor:
        return grad * float("nan")


def steps(engine: LocalEngine, count: int, objective: NextToken | None = None) -> list[float]:
    losses = []
    for step in range(count):
        terms = engine.accumulate(objective or NextToken(), tiny.batch(seed=step % 4), step, tiny.never)
        losses.append(terms.mean())
        engine.update(terms, 1e-2)
    return losses


# --- steps that are left out ------------------------------------------------------------------------


def test_an_overflow_in_fp16_is_skipped_and_training_goes_on() -> None:
    engine = tiny.engine("fp16")
    before_it = steps(engine, 5)
    kept, scale = tiny.state_of(engine), engine.scale.value
    assert scale == 65536.0
    overflow = Spoilt(lambda loss: loss * 1e6)  # finite itself; its scaled gradient is beyond FP16's 65,504
    terms = engine.accumulate(overflow, tiny.batch(), 5, tiny.never)
    assert torch.isfinite(terms.loss_sum)
    update = engine.update(terms, 1e-2)
    assert not update.applied
    assert engine.scale.value == scale / 2
    assert tiny.same(tiny.state_of(engine), kept)
    after_it = steps(engine, 40)
    assert after_it[-1] < 0.5 * before_it[0]
    assert engine.scale.value == scale / 2


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize(
    "spoil", [lambda loss: loss * float("nan"), _BrokenGradient.apply, lambda loss: loss * 1e39]
)
def test_a_step_that_is_not_finite_changes_nothing(precision: str, spoil: Callable[[Tensor], Tensor]) -> None:
    engine = tiny.engine(precision, optim="muon", weight_decay=0.5)
    steps(engine, 2)
    kept = tiny.state_of(engine)
    terms = engine.accumulate(Spoilt(spoil), tiny.batch(), 2, tiny.never)
    assert not engine.update(terms, 1e-2).applied
    assert tiny.same(tiny.state_of(engine), kept)
    assert not tiny.gradients(engine.model), "a bad gradient would be added to the next step's"
    assert steps(engine, 20)[-1] < 4.0


def test_one_bad_micro_batch_spoils_its_step_only() -> None:
    engine = tiny.engine(micro_batch_size=2)
    kept, calls = tiny.state_of(engine), list[int]()

    def third(loss: Tensor) -> Tensor:
        calls.append(1)
        return loss * float("inf") if len(calls) == 3 else loss

    assert not engine.update(engine.accumulate(Spoilt(third), tiny.batch(), 0, tiny.never), 1e-2).applied
    assert tiny.same(tiny.state_of(engine), kept)


def test_the_loss_scale_halves_doubles_and_ends_at_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("linnet.train.engines.scaling.GROWTH_INTERVAL", 3)
    scale = LossScale(4.0, dynamic=True)
    seen = []
    for finite in (True, True, False, True, True, True, False, False, False, False):
        scale.update(finite)
        seen.append(scale.value)
    assert seen == [4, 4, 2, 2, 2, 4, 2, 1, 1, 1]
    fixed = LossScale()
    fixed.update(False)
    assert fixed.value == 1.0


def test_loss_scaling_gives_small_gradients_room() -> None:
    """Gradients too small for FP16 come out right because the loss was scaled."""
    tiny_loss = Spoilt(lambda loss: loss * 1e-6)
    exact, scaled = tiny.engine("fp32"), tiny.engine("fp16")
    norms = []
    for engine in (exact, scaled):
        norms.append(engine.update(engine.accumulate(tiny_loss, tiny.batch(), 0, tiny.never), 0.0).grad_norm)
    assert norms[1] == pytest.approx(norms[0], rel=0.02)


# --- sums over the whole step -----------------------------------------------------------------------


def accumulated(micro_batch_size: int, **changes: object) -> tuple[float, dict[str, Tensor]]:
    engine = tiny.engine(micro_batch_size=micro_batch_size, **changes)
    terms = engine.accumulate(NextToken(), tiny.batch(), 0, tiny.never)
    return terms.mean(), tiny.gradients(engine.model)


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_micro_batches_with_unequal_counts_add_up_to_the_whole(size: int) -> None:
    """1×8 = 8×1, and what a mean of the micro-batches' means would give is far from it."""
    whole, gradients = accumulated(8)
    loss, parts = accumulated(size)
    assert loss == pytest.approx(whole, rel=1e-6)
    for name, gradient in gradients.items():
        torch.testing.assert_close(parts[name], gradient, rtol=1e-4, atol=1e-7)
    engine, batch = tiny.engine(), tiny.batch()
    rows = [batch.rows(row, row + 1) for row in range(8)]
    means = [NextToken().loss(engine.model, row).sum.item() / row.counted for row in rows]
    assert abs(sum(means) / 8 - whole) > 1e-3


def test_loss_and_gradient_are_those_of_plain_cross_entropy() -> None:
    engine, batch = tiny.engine(), tiny.batch()
    loss, gradients = accumulated(2)
    logits = engine.model.logits(engine.model(batch.tokens))
    expected = F.cross_entropy(logits.flatten(0, 1), batch.targets.flatten(), ignore_index=IGNORE)
    expected.backward()
    assert loss == pytest.approx(expected.item(), rel=1e-6)
    for name, gradient in tiny.gradients(engine.model).items():
        torch.testing.assert_close(gradients[name], gradient, rtol=1e-4, atol=1e-7)


def test_gradient_checkpointing_gives_the_same_gradients_with_dropout() -> None:
    spec = tiny.spec(dropout=0.2, attention_dropout=0.2)
    plain = accumulated(4, model=spec)
    saved = accumulated(4, model=spec, gradient_checkpointing=True)
    assert plain[0] == saved[0]
    assert tiny.same(plain[1], saved[1])
    assert accumulated(4)[0] != plain[0], "dropout must have been at work"


def test_dropout_is_drawn_from_seed_step_and_row() -> None:
    spec = tiny.spec(dropout=0.2)

    def loss(step: int, seed: int = 5) -> float:
        engine = tiny.engine(model=spec)
        engine.seed = seed
        torch.rand(17)  # whatever else has drawn numbers
        return engine.accumulate(NextToken(), tiny.batch(), step, tiny.never).mean()

    assert loss(3) == loss(3)
    assert len({loss(3), loss(4), loss(3, seed=6)}) == 3


def test_evaluation_has_no_dropout_and_leaves_no_gradient() -> None:
    engine = tiny.engine(model=tiny.spec(dropout=0.5))
    halves = [tiny.batch().rows(0, 3), tiny.batch().rows(3, 8)]
    once, again = (engine.evaluate(NextToken(), halves, tiny.never) for _ in range(2))
    plain = tiny.engine().accumulate(NextToken(), tiny.batch(), 0, tiny.never)
    assert once.mean() == again.mean() == pytest.approx(plain.mean(), rel=1e-6)
    assert once.counted == plain.counted
    assert not tiny.gradients(engine.model)


def test_a_stop_between_micro_batches_leaves_nothing_behind() -> None:
    engine = tiny.engine(micro_batch_size=2)
    kept, asked = tiny.state_of(engine), list[int]()

    def third_time() -> bool:
        asked.append(1)
        return len(asked) == 3

    with pytest.raises(StopRequested):
        engine.accumulate(NextToken(), tiny.batch(), 0, third_time)
    assert tiny.same(tiny.state_of(engine), kept)
    assert not tiny.gradients(engine.model)


# --- the update against torch -----------------------------------------------------------------------


@pytest.mark.parametrize("max_grad_norm", [0.05, 1e9, 0.0])
def test_an_update_is_torchs_clipping_and_adamw(max_grad_norm: float) -> None:
    engine = tiny.engine(max_grad_norm=max_grad_norm, weight_decay=0.3, adam_beta2=0.9, adam_epsilon=1e-6)
    other = copy.deepcopy(engine.model)
    matrices = [p for n, p in other.named_parameters() if p.dim() == 2 and "embed" not in n]
    rest = [p for n, p in other.named_parameters() if p.dim() != 2 or "embed" in n]
    groups = [{"params": matrices, "weight_decay": 0.3}, {"params": rest, "weight_decay": 0.0}]
    reference = torch.optim.AdamW(groups, lr=1e-2, betas=(0.9, 0.9), eps=1e-6, foreach=False)
    for step in range(5):
        batch = tiny.batch(seed=step)
        update = engine.update(engine.accumulate(NextToken(), batch, step, tiny.never), 1e-2 / (step + 1))
        logits = other.logits(other(batch.tokens)).flatten(0, 1)
        F.cross_entropy(logits, batch.targets.flatten(), ignore_index=IGNORE).backward()
        limit = max_grad_norm or float("inf")
        norm = torch.nn.utils.clip_grad_norm_(other.parameters(), limit)
        reference.param_groups[0]["lr"] = reference.param_groups[1]["lr"] = 1e-2 / (step + 1)
        reference.step()
        reference.zero_grad()
        assert update.grad_norm == pytest.approx(float(norm), rel=1e-4)
        assert (float(norm) > limit) == (max_grad_norm == 0.05)
    for (name, ours), theirs in zip(engine.model.named_parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5, msg=name)


def groups_of(architecture: str, **changes: object) -> tuple[set[str], set[str]]:
    more = {
        "gpt2": {"num_key_value_heads": None},
        "llama": {"attention_bias": True, "tie_word_embeddings": False},
    }
    model = Transformer(tiny.spec(architecture=architecture, **more[architecture]))
    names = {id(p): name for name, p in model.named_parameters()}
    decayed, plain = set(), set()
    for optimizer in optimizers_for(model, tiny.settings(weight_decay=0.1, **changes)):
        for group in optimizer.param_groups:
            (decayed if group["weight_decay"] else plain).update(names.pop(id(p)) for p in group["params"])
    assert not names, "every parameter is in exactly one group"
    return decayed, plain


@pytest.mark.parametrize("optim", ["adamw", "muon"])
@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_norms_and_biases_are_never_decayed_and_embeddings_by_choice(architecture: str, optim: str) -> None:
    tables = {"embed_tokens.weight", "embed_positions.weight" if architecture == "gpt2" else "lm_head.weight"}
    for choice in (False, True):
        decayed, plain = groups_of(architecture, optim=optim, decay_embeddings=choice)
        assert all("norm" in name or name.endswith("bias") for name in plain - tables)
        assert not any("norm" in name or name.endswith("bias") for name in decayed)
        assert tables <= (decayed if choice else plain)
        assert {name for name in decayed if "proj" in name}


def test_muon_takes_the_matrices_of_the_layers_only() -> None:
    model = Transformer(tiny.spec())
    muon, adamw = optimizers_for(model, tiny.settings(optim="muon"))
    names = {id(p): name for name, p in model.named_parameters()}
    taken = {names[id(p)] for group in muon.param_groups for p in group["params"]}
    assert taken == {name for name, p in model.named_parameters() if "proj" in name}
    assert type(muon).__name__ == "Muon"
    assert type(adamw).__name__ == "AdamW"


def test_an_automatic_micro_batch_divides_the_batch_and_bounds_the_tokens() -> None:
    for rows in (1, 7, 24, 1000):
        engine = tiny.engine(train_batch_size=rows, micro_batch_size="auto")
        assert rows % engine.micro_batch_size == 0
        assert engine.micro_batch_size * 24 <= CPU_TOKENS
