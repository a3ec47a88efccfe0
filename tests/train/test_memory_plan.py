"""What is kept for backward is estimated as autograd counts it, and decides whether it is recomputed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks

import tiny
from linnet.hardware import Choices, HardwareSettings, Pick, choose, detect_cpu
from linnet.model import ModelSpec, Transformer, count_parameters, flops_per_token, score_flops
from linnet.objectives import NextToken
from linnet.recipe import load_recipe
from linnet.train import TrainSettings
from linnet.train.engines import microbatch
from linnet.train.engines.microbatch import activation_values, checkpoints, micro_batch_size
from linnet.train.meter import Meter

SHAPE: dict[str, Any] = {
    "vocab_size": 61, "hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
    "intermediate_size": 352, "max_position_embeddings": 96,
}  # fmt: skip
SPECS = {
    "gpt2": ModelSpec(architecture="gpt2", **SHAPE),
    "llama": ModelSpec(architecture="llama", **SHAPE),
    "grouped": ModelSpec(architecture="llama", num_key_value_heads=1, **SHAPE),
    "qwen3": ModelSpec(architecture="qwen3", num_key_value_heads=2, **SHAPE),
    "wide heads": ModelSpec(architecture="qwen3", num_key_value_heads=2, head_dim=64, **SHAPE),
}
ROWS, LENGTH = 8, 48


def counted(spec: ModelSpec, dtype: torch.dtype, compiled: bool) -> float:
    """Bytes that autograd keeps of one block, per token and hidden unit, in units of the dtype; no weights."""
    model = Transformer(spec).train()
    model.use_precision(dtype)
    block, kept = model.layers[1], []
    if compiled:
        torch._dynamo.reset()
        block.compile(fullgraph=True, dynamic=False, backend="aot_eager_decomp_partition")
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}

    def pack(saved: torch.Tensor) -> torch.Tensor:
        kept.append(saved)
        return saved

    x = torch.randn(ROWS, LENGTH, spec.hidden_size).to(dtype).requires_grad_()
    with saved_tensors_hooks(pack, lambda saved: saved):
        block(x, model._rotation(torch.zeros(ROWS, LENGTH, dtype=torch.long), None), None)
    sizes = {
        p.numel() for p in model.parameters()
    }  # copies of weights in half precision, one per micro-batch
    storages = {t.untyped_storage().data_ptr(): t for t in kept if t.numel() not in sizes}
    total = sum(t.untyped_storage().nbytes() for at, t in storages.items() if at not in weights)
    return total / (x.numel() * x.element_size())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("name", SPECS)
def test_the_estimate_is_what_autograd_keeps(name: str, dtype: torch.dtype) -> None:
    found = counted(SPECS[name], dtype, compiled=False)
    assert activation_values(SPECS[name], False, dtype.itemsize) == pytest.approx(found, rel=0.08)


@pytest.mark.parametrize("name", ["gpt2", "qwen3"])
def test_the_estimate_is_what_a_compiled_block_keeps(name: str) -> None:
    found = counted(SPECS[name], torch.bfloat16, compiled=True)
    assert activation_values(SPECS[name], True, 2) == pytest.approx(found, rel=0.08)


def on_a_gpu(monkeypatch: pytest.MonkeyPatch, gigabytes: float) -> Choices:
    choices = choose(HardwareSettings(precision="bf16"), detect_cpu())
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (int(gigabytes * 1e9), int(gigabytes * 1e9)))
    return replace(choices, device=Pick("cuda", "for this test"), compile=Pick(True, "for this test"))


@pytest.mark.parametrize(("gigabytes", "expected"), [(120.0, False), (55.0, False), (12.0, True)])
def test_slm_recomputes_only_on_a_small_gpu(
    gigabytes: float, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With 1.3B parameters' weights and optimizer state already there; an H200 has about 120 GB left."""
    recipe = load_recipe("slm-1.3b")
    assert recipe.model is not None
    assert recipe.pretrain is not None
    assert recipe.pretrain.gradient_checkpointing == "auto"
    choices = on_a_gpu(monkeypatch, gigabytes)
    facts = (recipe.pretrain, choices, recipe.model, 2048)
    assert checkpoints(*facts) is expected
    rows = micro_batch_size(*facts, expected)
    assert rows * 2048 >= microbatch.ENOUGH_TOKENS


@pytest.mark.parametrize("asked", [True, False])
def test_what_is_asked_for_is_done(asked: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = TrainSettings(
        duration="1 steps", train_batch_size=4, learning_rate=1e-3, gradient_checkpointing=asked
    )
    assert checkpoints(settings, on_a_gpu(monkeypatch, 1000.0), SPECS["llama"], 96) is asked


def test_on_a_cpu_auto_recomputes_nothing() -> None:
    settings = TrainSettings(
        duration="1 steps", train_batch_size=4, learning_rate=1e-3, gradient_checkpointing="auto"
    )
    choices = choose(HardwareSettings(), detect_cpu())
    assert checkpoints(settings, choices, SPECS["llama"], 96) is False


def test_one_sequence_too_much_is_recomputed_before_it_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = tiny.engine("fp32", gradient_checkpointing="auto", micro_batch_size=2)
    whole = engine._accumulate

    def small(*arguments: Any) -> Any:
        if not engine.checkpointing:
            raise torch.OutOfMemoryError("too small")
        return whole(*arguments)

    monkeypatch.setattr(engine, "_accumulate", small)
    terms = engine.accumulate(NextToken(), tiny.batch(), 0, tiny.never)
    assert engine.checkpointing
    assert torch.isfinite(terms.loss_sum)


def test_pairs_and_flops_of_packed_documents_are_counted_by_hand() -> None:
    batch = tiny.batch()
    rows, length = batch.tokens.shape
    assert batch.pairs == rows * length * (length + 1) // 2
    positions = torch.arange(length).remainder(7).expand(rows, length)
    documents = (torch.arange(length) // 7).expand(rows, length)
    packed = replace(batch, positions=positions, documents=documents)
    same = documents.unsqueeze(-1) == documents.unsqueeze(-2)
    assert packed.pairs == int(same.tril().sum())


def test_both_utilisations_are_told_by_name() -> None:
    spec = SPECS["llama"]
    meter = Meter(flops_per_token(spec, LENGTH), 1e12, score_flops(spec))
    meter.step(ROWS * LENGTH, ROWS * LENGTH * LENGTH)  # no pair was needed: only the weights' products remain
    read = meter.read()
    weights = flops_per_token(spec, 0)
    assert read["train/mfu"] == pytest.approx(
        read["train/tokens_per_sec"] * flops_per_token(spec, LENGTH) / 1e12
    )
    assert read["train/mfu_causal_documents"] == pytest.approx(read["train/tokens_per_sec"] * weights / 1e12)


def test_a_model_for_measurements_is_drawn_like_a_run_s() -> None:
    from linnet.model import initialize
    from linnet.model.initialize import fresh

    plain = Transformer(SPECS["qwen3"])
    initialize(plain, 3)
    drawn = fresh(SPECS["qwen3"], 3, "cpu")
    for (name, mine), right in zip(drawn.named_parameters(), plain.parameters(), strict=True):
        assert torch.equal(mine, right), name
    assert count_parameters(SPECS["qwen3"]).total == sum(p.numel() for p in drawn.parameters())
