"""Dropout's masks belong to rows: the same in any micro-batch, compiled or not, and as random as they should be."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
import torch._dynamo
from torch import Tensor
from torch._dynamo.utils import counters

import tiny
from linnet.data.batches import Batch
from linnet.hardware import HardwareSettings, choose, detect_cpu
from linnet.model import LoraSettings, ModelSpec, Transformer, initialize, lora
from linnet.model.dropout import Dropout, kept, row_keys, seed_rows
from linnet.objectives import NextToken
from linnet.train.engines import LocalEngine


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with tiny.one_thread():
        yield


def keys(rows: int, seed: int = 0) -> Tensor:
    return row_keys(Dropout(0.5), seed, rows)[0]


def network(architecture: str = "llama", **changes: object) -> Transformer:
    kv = {"num_key_value_heads": None} if architecture == "gpt2" else {}
    rates = {"dropout": 0.1, "attention_dropout": 0.1, "architecture": architecture}
    model = Transformer(tiny.spec(**rates | kv | changes))
    initialize(model, 3)
    return model


def engine(model: Transformer, **changes: object) -> LocalEngine:
    hardware = {"device": "cpu", "precision": "fp32", "compile": changes.pop("compile", False)}
    choices = choose(HardwareSettings.model_validate(hardware), detect_cpu(), 24)
    return LocalEngine(model, tiny.settings(**changes), choices, 24, seed=5)


# --- masks -----------------------------------------------------------------------------------------


def test_a_rows_mask_is_the_same_whatever_is_beside_it() -> None:
    whole = kept(keys(8), torch.Size((8, 5, 16, 24)), 0.3)
    for start, stop in ((0, 1), (2, 5), (7, 8)):
        part = kept(keys(8)[start:stop], torch.Size((stop - start, 5, 16, 24)), 0.3)
        assert torch.equal(part, whole[start:stop])


@pytest.mark.parametrize("rate", [0.0625, 0.1, 0.5, 0.9])
def test_masks_keep_the_right_share_independently_of_neighbours(rate: float) -> None:
    """Correlations between rows, places and channels at several distances stay within five deviations."""
    some = kept(keys(64), torch.Size((64, 96, 128)), rate)
    count = some.numel()
    assert abs(float(some.double().mean()) - (1 - rate)) < 5 * (rate * (1 - rate) / count) ** 0.5
    centred = (some.double() - (1 - rate)) / (rate * (1 - rate)) ** 0.5
    for dim in range(3):
        for distance in (1, 2, 3, 4, 8, 16, 17, 32, 63):
            products = centred * centred.roll(distance, dim)
            assert abs(float(products.mean())) < 5 / count**0.5, (dim, distance)


def test_sites_steps_and_seeds_have_masks_of_their_own() -> None:
    model, shape = network(), torch.Size((4, 16, 32))
    found = [kept(own, shape, 0.5) for seed in (1, 2) for own in row_keys(model, seed, 4)]
    assert len(found) == 2 * (1 + 3 * model.spec.num_hidden_layers)
    for number, one in enumerate(found):
        for other in found[:number]:
            assert abs(float((one == other).double().mean()) - 0.5) < 0.06


def test_what_is_kept_makes_up_for_what_is_dropped() -> None:
    x, dropout = torch.ones(16, 64, 64, dtype=torch.bfloat16), Dropout(0.25)
    seed_rows(dropout, row_keys(dropout, 1, 16))
    y = dropout(x)
    assert y.dtype == torch.bfloat16
    assert set(y.unique().tolist()) == {0.0, float(torch.tensor(4 / 3, dtype=torch.bfloat16))}
    assert float(y.double().mean()) == pytest.approx(1, abs=0.01)
    assert torch.equal(dropout.eval()(x), x)


def test_rows_without_keys_are_refused_in_training() -> None:
    dropout = Dropout(0.5)
    with pytest.raises(RuntimeError, match="seed_rows"):
        dropout(torch.ones(2, 3))
    seed_rows(dropout, row_keys(dropout, 1, 1))
    with pytest.raises(RuntimeError, match="seed_rows"):
        dropout(torch.ones(2, 3))


# --- micro-batches ---------------------------------------------------------------------------------


def packed(batch: Batch) -> Batch:
    """Each row holds two documents."""
    documents = (torch.arange(24) >= 10).long().expand(8, 24).contiguous()
    positions = torch.where(documents == 1, torch.arange(24) - 10, torch.arange(24))
    return Batch(batch.tokens, batch.targets, positions, documents)


CASES: dict[str, dict[str, object]] = {
    "llama": {},
    "gpt2": {"architecture": "gpt2"},
    "packed": {"packed": True},
    "checkpointed": {"gradient_checkpointing": True},
    "lora": {"lora": LoraSettings(r=4, lora_dropout=0.2)},
    "dora on gpt2": {"architecture": "gpt2", "lora": LoraSettings(r=4, lora_dropout=0.2, use_dora=True)},
}


@pytest.mark.parametrize("name", CASES)
def test_the_micro_batch_changes_no_loss_and_no_gradient(name: str) -> None:
    case = dict(CASES[name])
    adapter, architecture = case.pop("lora", None), str(case.pop("architecture", "llama"))
    batch = packed(tiny.batch()) if case.pop("packed", False) else tiny.batch()
    found = {}
    for size in (8, 2, 1, 3):
        model = network(architecture)
        if isinstance(adapter, LoraSettings):
            lora.apply(model, adapter, seed=1)
            with torch.no_grad():
                for pair in lora.adapters(model).values():
                    pair.lora_B.normal_(0, 0.3, generator=torch.Generator().manual_seed(1))
        trained = engine(model, micro_batch_size=size, **case)
        loss = trained.accumulate(NextToken(), batch, 7, tiny.never).mean()
        found[size] = loss, tiny.gradients(model)
        without = trained.evaluate(NextToken(), [batch], tiny.never).mean()
        assert abs(loss - without) > 1e-4, "dropout must have been at work"
    for size in (2, 1, 3):
        assert found[size][0] == pytest.approx(found[8][0], rel=1e-6)
        for key, gradient in found[8][1].items():
            torch.testing.assert_close(found[size][1][key], gradient, rtol=1e-4, atol=1e-6, msg=key)


# --- compiled --------------------------------------------------------------------------------------


def _compiled(spec: ModelSpec, backend: str) -> list[Tensor]:
    """Hidden states of three steps, compiled and not."""
    hidden = []
    for compiling in (True, False):
        model = Transformer(spec).train()
        initialize(model, 3)
        for block in model.layers if compiling else ():
            block.compile(fullgraph=True, dynamic=False, backend=backend)
        for step in range(3):
            seed_rows(model, row_keys(model, step, 8)[:, 2:6])
            hidden.append(model(tiny.batch().tokens[2:6]))
    return hidden


def test_one_graph_serves_every_step_and_layer_with_the_same_masks() -> None:
    torch._dynamo.reset()
    counters.clear()
    hidden = _compiled(network().spec, "aot_eager")
    assert counters["stats"]["unique_graphs"] == 1
    for compiled, plain in zip(hidden[:3], hidden[3:], strict=True):
        torch.testing.assert_close(compiled, plain, atol=1e-5, rtol=1e-4)
    assert float((hidden[0] - hidden[1]).detach().abs().max()) > 0.1


@pytest.mark.slow
def test_the_compiler_computes_the_same_masks_to_the_last_bit() -> None:
    shape = torch.Size((4, 6, 40, 56))
    fast = torch.compile(lambda own: kept(own, shape, 0.1), fullgraph=True)
    assert torch.equal(fast(keys(4)), kept(keys(4), shape, 0.1))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_computes_the_same_masks() -> None:
    shape = torch.Size((4, 6, 40, 56))
    assert torch.equal(kept(keys(4).cuda(), shape, 0.1).cpu(), kept(keys(4), shape, 0.1))
