"""Packed documents are separate documents, whichever kernel computes attention."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from families import FOUR, SPECS, network, tokens
from torch import Tensor

from linnet.config import RequestError
from linnet.model.attention import Lengths, Path, attention_path, varlen_mask
from linnet.model.dropout import row_keys, seed_rows

# Document numbers of each row; a row's first document may carry the number of the row before it, as when
# a document is cut at the end of a row: what lies in another row can never be attended to.
LAYOUTS = {
    "several": [[0, 0, 0, 1, 1, 1, 1, 2], [0, 0, 1, 1, 1, 1, 1, 1]],
    "crossing rows": [[0, 0, 0, 0, 0, 1, 1, 1], [1, 1, 1, 1, 2, 2, 2, 2], [2, 2, 3, 3, 3, 3, 3, 3]],
    "single tokens": [[0, 1, 2, 3, 4, 5, 6, 7], [0, 0, 0, 1, 2, 2, 2, 3]],
    "one document": [[4, 4, 4, 4, 4, 4, 4, 4]],
}
EVERYWHERE: tuple[Path, ...] = ("sdpa", "eager")  # the paths that run forward and backward on any device
HEADS = {"as many": (4, 4), "grouped": (4, 2), "one": (6, 1)}


def reference(q: Tensor, k: Tensor, v: Tensor, documents: Tensor) -> Tensor:
    """Softmax attention written out token by token in float64. [B, T, heads, head] → the same."""
    q, k, v = q.double(), k.double(), v.double()
    out = torch.zeros_like(q)
    rows, length, heads, head = q.shape
    group = heads // k.shape[2]
    for b in range(rows):
        for i in range(length):
            seen = [j for j in range(i + 1) if documents[b, j] == documents[b, i]]
            for h in range(heads):
                scores = (k[b, seen, h // group] @ q[b, i, h]) / head**0.5
                weights = scores.exp() / scores.exp().sum()
                out[b, i, h] = weights @ v[b, seen, h // group]
    return out


def inputs(
    shape: Sequence[int], heads: tuple[int, int], dtype: torch.dtype = torch.float32, head: int = 16
) -> list[Tensor]:
    generator = torch.Generator().manual_seed(5)
    counts = (heads[0], heads[1], heads[1])
    return [torch.randn(*shape, n, head, generator=generator).to(dtype) for n in counts]


def tokens_for(documents: Tensor) -> Tensor:
    return tokens(documents.shape[0], documents.shape[1])


def positions_of(documents: Tensor) -> Tensor:
    """Each token's place in its own document."""
    places = torch.zeros_like(documents)
    for i in range(1, documents.shape[1]):
        places[:, i] = torch.where(documents[:, i] == documents[:, i - 1], places[:, i - 1] + 1, 0)
    return places


@pytest.mark.parametrize("heads", HEADS)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("path", EVERYWHERE)
def test_is_softmax_within_each_document_forward_and_backward(path: Path, layout: str, heads: str) -> None:
    documents = torch.tensor(LAYOUTS[layout])
    q, k, v = (x.requires_grad_() for x in inputs(documents.shape, HEADS[heads], torch.float64))
    attend, mask_for = attention_path(path)
    ours = attend(q, k, v, mask_for(documents), 0.0)
    expected = reference(q, k, v, documents)
    torch.testing.assert_close(ours, expected, atol=1e-12, rtol=1e-10)
    weights = torch.randn(ours.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    got = torch.autograd.grad((ours * weights).sum(), (q, k, v))
    wanted = torch.autograd.grad((expected * weights).sum(), (q, k, v))
    for mine, right in zip(got, wanted, strict=True):
        torch.testing.assert_close(mine, right, atol=1e-12, rtol=1e-10)


@pytest.mark.parametrize("heads", HEADS)
@pytest.mark.parametrize("path", EVERYWHERE)
def test_without_documents_it_is_causal(path: Path, heads: str) -> None:
    q, k, v = inputs((2, 9), HEADS[heads])
    expected = reference(q, k, v, torch.zeros(2, 9, dtype=torch.long))
    torch.testing.assert_close(
        attention_path(path)[0](q, k, v, None, None).double(), expected, atol=1e-5, rtol=0
    )


@pytest.mark.slow
@pytest.mark.parametrize("heads", HEADS)
def test_flex_on_the_cpu_is_softmax_within_each_document_forward(heads: str) -> None:
    documents = torch.tensor(LAYOUTS["crossing rows"]).repeat_interleave(16, dim=1)  # blocks of 128
    q, k, v = inputs(documents.shape, HEADS[heads])
    attend, mask_for = attention_path("flex")
    with torch.no_grad():
        ours = attend(q, k, v, mask_for(documents), 0.0)
    torch.testing.assert_close(ours.double(), reference(q, k, v, documents), atol=1e-5, rtol=0)


def test_dropped_attention_weights_are_made_up_for_by_the_others() -> None:
    q, k, v = inputs((4, 64), HEADS["grouped"] if "grouped" in HEADS else next(iter(HEADS.values())))
    torch.manual_seed(0)
    attend = attention_path("eager")[0]
    kept, drop = attend(q, k, v, None, None), partial(F.dropout, p=0.3)
    mean = torch.stack([attend(q, k, v, None, drop) for _ in range(400)]).mean(0)
    assert not torch.equal(attend(q, k, v, None, drop), kept)
    assert (mean - kept).abs().mean() < 0.05 * kept.abs().mean()


needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("heads", HEADS)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("path", ["sdpa", "eager", "flex", "varlen"])
def test_every_path_on_the_gpu_is_softmax_within_each_document(path: str, layout: str, heads: str) -> None:
    documents = torch.tensor(LAYOUTS[layout]).repeat_interleave(16, dim=1)
    dtype = torch.bfloat16  # the variable-length kernel knows half precisions only
    q, k, v = (x.cuda().requires_grad_() for x in inputs(documents.shape, HEADS[heads], dtype, head=64))
    attend, mask_for = attention_path(path)  # type: ignore[index]
    ours = attend(q, k, v, mask_for(documents.cuda()), 0.0)
    wide = [x.detach().cpu().double().requires_grad_() for x in (q, k, v)]
    expected = reference(wide[0], wide[1], wide[2], documents)
    torch.testing.assert_close(ours.cpu().double(), expected, atol=3e-2, rtol=0)
    weights = torch.randn(ours.shape, generator=torch.Generator().manual_seed(2))
    got = torch.autograd.grad((ours * weights.to(ours)).sum(), (q, k, v))
    wanted = torch.autograd.grad((expected * weights.double()).sum(), wide)
    for mine, right in zip(got, wanted, strict=True):
        error = (mine.cpu().double() - right).norm() / right.norm()
        assert error < 2e-2, f"relative error {error:.4f}"


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("name", FOUR)
@pytest.mark.parametrize("path", ["flex", "varlen"])
def test_every_path_on_the_gpu_gives_the_models_logits_of_sdpa(path: str, name: str) -> None:
    spec = SPECS[name].model_copy(update={"hidden_size": 128, "head_dim": None, "intermediate_size": 128})
    model = network(spec).cuda()
    model.use_precision(torch.bfloat16)
    documents = torch.tensor(LAYOUTS["crossing rows"]).repeat_interleave(16, dim=1).cuda()
    arguments = (tokens_for(documents).cuda(), positions_of(documents), documents)
    with torch.no_grad():
        expected = model(*arguments)
        model.use_attention(path)  # type: ignore[arg-type]
        error = (model(*arguments) - expected).float().norm() / expected.float().norm()
    assert error < 3e-2


def test_varlen_ends_documents_at_the_end_of_every_row() -> None:
    lengths = varlen_mask(torch.tensor(LAYOUTS["crossing rows"]))
    assert isinstance(lengths, Lengths)
    assert lengths.cumulative.tolist() == [0, 5, 8, 12, 16, 18, 24]
    assert lengths.cumulative.dtype == torch.int32
    assert lengths.longest >= 6


@pytest.mark.parametrize("path", ["flex", "varlen"])
def test_attention_dropout_is_refused_where_the_kernel_has_none(path: str) -> None:
    q, k, v = inputs((1, 4), (2, 2))
    with pytest.raises(RequestError, match="attention_dropout"):
        attention_path(path)[0](q, k, v, None, F.dropout)  # type: ignore[index]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", FOUR)
@torch.no_grad()
def test_packed_documents_give_the_logits_of_documents_alone(name: str, layout: str) -> None:
    model = network(SPECS[name])
    documents = torch.tensor(LAYOUTS[layout])
    rows = tokens_for(documents)
    packed = model.logits(model(rows, positions_of(documents), documents))
    for row in range(documents.shape[0]):
        for number in documents[row].unique():
            here = documents[row] == number
            alone = model.logits(model(rows[row, here].unsqueeze(0)))[0]
            torch.testing.assert_close(packed[row, here], alone, atol=2e-5, rtol=0)


@pytest.mark.parametrize("name", FOUR)
@torch.no_grad()
def test_a_document_cannot_see_its_neighbour(name: str) -> None:
    model = network(SPECS[name])
    documents = torch.tensor(LAYOUTS["several"])
    rows, places = tokens_for(documents), positions_of(documents)
    before = model(rows, places, documents)
    changed = rows.clone()
    changed[0, 1] = (changed[0, 1] + 1) % SPECS[name].vocab_size
    after = model(changed, places, documents)
    assert torch.equal(after[0, 3:], before[0, 3:])
    assert not torch.allclose(after[0, 1:3], before[0, 1:3])
    assert torch.equal(after[0, :1], before[0, :1]), "a token sees what follows it"


@torch.no_grad()
def test_attention_dropout_acts_in_training_only() -> None:
    model = network(SPECS["llama-biases-tied"].model_copy(update={"attention_dropout": 0.5}))
    rows = tokens(1, 12)
    plain = model(rows)
    assert torch.equal(model(rows), plain)
    seed_rows(model.train(), row_keys(model, 0, 1))
    assert not torch.allclose(model(rows), plain)
