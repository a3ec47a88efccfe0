"""What attention is asked for while tokens are decoded, as an accelerator would see it."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch
from talkers import FAMILIES, ByteTokenizer, greedy, network

from linnet.infer import Generator, rows
from linnet.model import KVCache, cache
from linnet.model.attention import sdpa

ROWS, TOKENS = 3, 300


@torch.inference_mode()
def read(family: str, monkeypatch: pytest.MonkeyPatch) -> tuple[set[tuple[int, ...]], torch.Tensor]:
    """The shapes that attention was asked for, and the choices [TOKENS, ROWS], of tokens read one by one."""
    shapes = set()

    def seen(q: torch.Tensor, k: torch.Tensor, *rest: object) -> torch.Tensor:
        shapes.add((*q.shape, *k.shape))
        return sdpa(q, k, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(cache, "sdpa", seen)
    model = network(family, **{**FAMILIES[family], "max_position_embeddings": 512})
    kept = KVCache(model.spec, ROWS, TOKENS, "cpu", torch.float32)
    tokens = torch.randint(250, (TOKENS, ROWS), generator=torch.Generator().manual_seed(0))
    found = []
    for row in tokens:
        found.append(model.logits(model.decode(row, kept, [1] * ROWS)))
        kept.advance([1] * ROWS)
    return shapes, torch.stack(found)


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_300_tokens_ask_for_a_handful_of_shapes_and_stay_the_same(
    family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    exact, logits = read(family, monkeypatch)
    assert len(exact) == TOKENS
    monkeypatch.setitem(cache.REACH_MULTIPLE, "cpu", cache.ELSEWHERE_MULTIPLE)
    rounded, same = read(family, monkeypatch)
    assert len(rounded) <= 4, rounded
    torch.testing.assert_close(same, logits, atol=1e-3, rtol=1e-3)
    assert (same.argmax(-1) == logits.argmax(-1)).float().mean() > 0.99


def test_text_is_decoded_without_cudnn(monkeypatch: pytest.MonkeyPatch) -> None:
    used = []
    monkeypatch.setattr(rows, "decoding_kernels", lambda device: used.append(device) or nullcontext())
    Generator(network(), ByteTokenizer()).generate(["Once"], greedy(max_new_tokens=3))
    assert used
    assert set(used) == {"cpu"}


def test_cudnn_is_kept_out_of_decoding_and_comes_back() -> None:
    before = torch.backends.cuda.cudnn_sdp_enabled()
    with cache.decoding_kernels("cuda"):
        assert not torch.backends.cuda.cudnn_sdp_enabled()
        assert torch.backends.cuda.flash_sdp_enabled()
        assert torch.backends.cuda.mem_efficient_sdp_enabled()
        assert torch.backends.cuda.math_sdp_enabled()
    assert torch.backends.cuda.cudnn_sdp_enabled() == before


def test_on_a_cpu_decoding_looks_at_no_key_more_than_there_are() -> None:
    assert cache.REACH_MULTIPLE["cpu"] == 1
