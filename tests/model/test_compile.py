"""Blocks compiled from outside compute the same, and one compilation serves every layer."""

from __future__ import annotations

import pytest
import torch
import torch._dynamo
import torch.nn.functional as F
from families import FOUR, SPECS, network, tokens
from torch._dynamo.utils import counters

from linnet.model import KVCache

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", FOUR)
def test_compiled_blocks_give_the_same_loss_and_gradients_from_one_compilation(name: str) -> None:
    spec = SPECS[name].model_copy(update={"num_hidden_layers": 6})
    plain, compiled = network(spec), network(spec)
    torch._dynamo.reset()
    counters.clear()
    for block in compiled.layers:
        block.compile(fullgraph=True)
    rows = tokens(2, 24)
    losses = []
    for model in (plain, compiled):
        hidden = model.train()(rows[:, :-1])
        loss = F.cross_entropy(model.logits(hidden).flatten(0, 1), rows[:, 1:].flatten())
        loss.backward()
        losses.append(loss.item())
    assert losses[1] == pytest.approx(losses[0], abs=1e-5)
    for (key, mine), right in zip(compiled.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, right.grad, atol=1e-5, rtol=1e-4, msg=key)
    kinds = len({spec.uses_rope(layer) for layer in range(spec.num_hidden_layers)})
    assert counters["stats"]["unique_graphs"] == kinds, "a layer with and one without rotation at most"


def test_compiled_blocks_serve_packed_documents() -> None:
    plain, compiled = network(SPECS["llama-grouped-untied"]), network(SPECS["llama-grouped-untied"])
    torch._dynamo.reset()
    counters.clear()
    for block in compiled.layers:
        block.compile(fullgraph=True)
    documents = torch.tensor([[0] * 5 + [1] * 7, [0] * 11 + [1]])
    rows = tokens(2, 12)
    torch.testing.assert_close(
        compiled(rows, None, documents), plain(rows, None, documents), atol=1e-5, rtol=1e-4
    )
    assert counters["stats"]["unique_graphs"] == 1


@torch.no_grad()
def test_a_model_compiled_for_training_decodes_without_compiling() -> None:
    model = network(SPECS["gpt2-tied"])
    torch._dynamo.reset()
    counters.clear()
    for block in model.layers:
        block.compile(fullgraph=True)
    cache = KVCache(model.spec, 1, 8, "cpu", torch.float32)
    model.decode(tokens(1, 8), cache)
    assert counters["stats"]["unique_graphs"] == 0
