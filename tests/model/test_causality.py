"""Changing a token changes nothing before it: on every attention path, packed and not, and in whole models."""

from __future__ import annotations

from typing import get_args

import pytest
import torch
import varlen_kernels
from families import FOUR, SPECS, network, tokens
from torch import Tensor
from torch._dynamo.testing import CompileCounter

from linnet.data.batches import Batch, document_layout
from linnet.hardware import HardwareSettings, choose, detect_cpu
from linnet.model import Transformer
from linnet.model.attention import Path, attention_path, cumulative_lengths, whole_mask
from linnet.train.engines import prepare as preparing

PATHS: tuple[Path, ...] = get_args(Path)
LENGTH = 24
LAYOUTS = {
    "packed": [[0] * 5 + [1] * 12 + [2] * 7, [0] * 23 + [1]],
    "one document": [[0] * LENGTH] * 2,
    "single tokens": [list(range(LENGTH)), [0] * 12 + list(range(12))],
}


@pytest.fixture(autouse=True)
def without_gpu_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every path on the CPU: varlen by kernels written out, flex by its own uncompiled form."""
    from torch.nn.attention import flex_attention

    varlen_kernels.register()
    monkeypatch.setattr("linnet.model.attention._compiled_flex", lambda: flex_attention.flex_attention)
    torch._dynamo.reset()


def changed(values: Tensor, place: int) -> Tensor:
    other = values.clone()
    other[:, place] = torch.randn_like(other[:, place]) if other.is_floating_point() else 1 + other[:, place]
    return other


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize("layout", [None, *LAYOUTS])
@pytest.mark.parametrize("path", PATHS)
def test_no_path_looks_ahead(path: Path, layout: str | None) -> None:
    attend, mask_for = attention_path(path)
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, LENGTH, heads, 16) for heads in (4, 2, 2))
    masks = [mask_for(torch.tensor(LAYOUTS[layout]), None)] if layout else []
    masks = masks or [None, whole_mask(path, 2, LENGTH, q.device)]
    for mask in masks:
        before = attend(q, k, v, mask, 0.0)
        for place in (1, 9, LENGTH - 1):
            after = attend(changed(q, place), changed(k, place), changed(v, place), mask, 0.0)
            torch.testing.assert_close(after[:, :place], before[:, :place], atol=0, rtol=0)
            assert not torch.allclose(after[:, place], before[:, place])


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize("layout", [None, "packed", "one document"])
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("name", FOUR)
@torch.no_grad()
def test_no_model_looks_ahead_and_all_paths_agree(name: str, path: Path, layout: str | None) -> None:
    model = network(SPECS[name])
    rows = tokens(2, LENGTH)
    documents = torch.tensor(LAYOUTS[layout]) if layout else None
    expected = model(rows, None, documents)
    model.use_attention(path)
    before = model(rows, None, documents)
    torch.testing.assert_close(before, expected, atol=2e-5, rtol=1e-4)
    for place in (1, 9, LENGTH - 1):
        other = rows.clone()
        other[:, place] = (other[:, place] + 1) % SPECS[name].vocab_size
        after = model(other, None, documents)
        assert torch.equal(after[:, :place], before[:, :place]), f"position {place} was seen from before it"
        assert not torch.allclose(after[:, place], before[:, place])


@pytest.mark.parametrize("name", FOUR)
def test_the_gradients_of_varlen_are_those_of_sdpa(name: str) -> None:
    rows, documents = tokens(2, LENGTH), torch.tensor(LAYOUTS["packed"])
    found = []
    for path in ("sdpa", "varlen"):
        model = network(SPECS[name])
        model.use_attention(path)  # type: ignore[arg-type]
        model(rows, None, documents).square().sum().backward()
        found.append([p.grad for p in model.parameters() if p.grad is not None])
    for mine, right in zip(*found, strict=True):
        torch.testing.assert_close(mine, right, atol=1e-3, rtol=1e-3)


def training_model(path: Path, counter: CompileCounter, monkeypatch: pytest.MonkeyPatch) -> Transformer:
    """A model as the engine prepares it, compiled by something that only counts."""
    whole = torch.nn.Module.compile
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self, **how: whole(self, backend=counter, **how))
    choices = choose(HardwareSettings(compile=False, precision="fp32"), detect_cpu())
    pick = type(choices.compile)
    object.__setattr__(choices, "compile", pick(True, "for this test"))
    object.__setattr__(choices, "attention", pick(path, "for this test"))
    monkeypatch.setattr(preparing, "keep_freed_memory", lambda: None)
    return preparing.prepare(network(SPECS["llama-grouped-untied"]).train(), choices, False)


@torch._dynamo.config.patch(recompile_limit=8)
@pytest.mark.parametrize("path", ["varlen", "flex", "sdpa"])
def test_batches_of_any_number_of_documents_share_one_graph(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counter = CompileCounter()
    model = training_model(path, counter, monkeypatch)
    for count in (1, 2, 3, 7, 20):
        ids = tokens(2, 32).numpy() % 90 + 1
        ids[:, : 32 : -(-32 // count)] = 0
        documents, positions = (torch.from_numpy(x) for x in document_layout(ids, 0))
        batch = Batch(torch.from_numpy(ids), torch.from_numpy(ids), positions, documents)
        part = batch.rows(0, 2).to(torch.device("cpu"))
        with torch.set_grad_enabled(path != "flex"):
            model(*part.inputs)
    assert counter.frame_count == 1


def test_a_batch_brings_its_cumulative_lengths(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each part of a batch its own, and on the device nothing counts them again."""
    documents = torch.tensor([[0, 0, 1, 1], [1, 1, 1, 2], [0, 1, 2, 3]])
    batch = Batch(documents, documents, documents, documents)
    there = batch.to(torch.device("cpu"))
    assert there.lengths is not None
    assert there.lengths.tolist() == [0, 2, 4, 7, 8, 9, 10, 11, 12]
    part = batch.rows(1, 3).to(torch.device("cpu"))
    assert part.lengths is not None
    assert part.lengths.tolist() == cumulative_lengths(documents[1:]).tolist() == [0, 3, 4, 5, 6, 7, 8]
    assert there.rows(1, 3).to(torch.device("cpu")).lengths is not None

    monkeypatch.setattr("linnet.model.attention.cumulative_lengths", None)
    model = network(SPECS["llama-grouped-untied"])
    model.use_attention("varlen")
    model(*part.inputs)
