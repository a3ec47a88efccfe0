"""Reading by the cache, in pieces, in uneven rows, is reading at once."""

from __future__ import annotations

import pytest
import torch
from families import FOUR, SPECS, network, tokens

from linnet.model import KVCache


@pytest.mark.parametrize("pieces", [[1] * 12, [12], [5, 4, 3], [1, 10, 1]])
@pytest.mark.parametrize("name", FOUR)
@torch.no_grad()
def test_reading_in_pieces_gives_the_full_forward(name: str, pieces: list[int]) -> None:
    model = network(SPECS[name])
    rows = tokens(2, 12)
    cache = KVCache(model.spec, 2, 12, "cpu", torch.float32)
    read = []
    for piece in rows.split(pieces, dim=1):
        read.append(model.decode(piece, cache))
        cache.advance([piece.shape[1]] * 2)
    torch.testing.assert_close(torch.cat(read, dim=1), model(rows), atol=2e-5, rtol=0)


@pytest.mark.parametrize("name", FOUR)
@torch.no_grad()
def test_uneven_prompts_padded_on_the_right_continue_as_if_alone(name: str) -> None:
    model = network(SPECS[name])
    lengths, following = [3, 9, 1], 4
    rows = tokens(3, 9 + following)
    cache = KVCache(model.spec, 3, 9 + following, "cpu", torch.float32)
    padded = rows[:, :9].clone()
    for row, length in enumerate(lengths):
        padded[row, length:] = 0
    model.decode(padded, cache)
    cache.advance(lengths)
    for step in range(following):
        fed = torch.stack([rows[row, length + step] for row, length in enumerate(lengths)]).unsqueeze(1)
        hidden = model.decode(fed, cache)
        cache.advance([1, 1, 1])
        for row, length in enumerate(lengths):
            alone = model(rows[row : row + 1, : length + step + 1])[0, -1]
            torch.testing.assert_close(hidden[row, 0], alone, atol=2e-5, rtol=0)
    assert cache.lengths.tolist() == [length + following for length in lengths]
    assert cache.longest == 9 + following


@torch.no_grad()
def test_kept_rows_go_on_in_the_order_asked_and_the_rest_are_gone() -> None:
    model = network(SPECS["llama-grouped-untied"])
    rows = tokens(3, 8)
    cache = KVCache(model.spec, 3, 8, "cpu", torch.float32)
    padded = rows[:, :6].clone()
    model.decode(padded, cache)
    cache.advance([6, 2, 4])
    cache.keep([2, 1])
    assert cache.keys.shape[1] == cache.values.shape[1] == 2
    assert (cache.lengths.tolist(), cache.longest) == ([4, 2], 4)
    hidden = model.decode(torch.stack((rows[2, 4:5], rows[1, 2:3])), cache)
    torch.testing.assert_close(hidden[0, 0], model(rows[2:3, :5])[0, -1], atol=2e-5, rtol=0)
    torch.testing.assert_close(hidden[1, 0], model(rows[1:2, :3])[0, -1], atol=2e-5, rtol=0)


@torch.no_grad()
def test_only_what_was_read_is_attended_to() -> None:
    """Capacity costs memory, not time: keys beyond the longest row are not handed to the kernel."""
    model = network(SPECS["gpt2-tied"])
    cache = KVCache(model.spec, 2, 200, "cpu", torch.float32)
    assert cache.capacity == 200
    model.decode(tokens(2, 7), cache)
    keys, values = cache.extend(0, torch.zeros(2, 7, 4, 12), torch.zeros(2, 7, 4, 12))
    assert keys.shape == values.shape == (2, 7, 4, 12)
