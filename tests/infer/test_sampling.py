"""The filters are transformers' filters; the draw follows the distribution and depends on nothing else."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from linnet.config import RequestError, from_overrides, validate
from linnet.infer.sampling import BLOCK, SamplingSettings, choose, draw, filtered, log_probability, uniform


def logits(rows: int = 6, vocab: int = 50, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, vocab, generator=torch.Generator().manual_seed(seed)) * 3


def seen_of(ids: torch.Tensor, vocab: int) -> torch.Tensor:
    return torch.zeros(len(ids), vocab, dtype=torch.bool).scatter(1, ids, True)


CASES: list[dict[str, Any]] = [
    {"repetition_penalty": 1.3},
    {"repetition_penalty": 0.8, "temperature": 0.0},
    {"temperature": 0.6},
    {"top_k": 1},
    {"top_k": 7},
    {"top_k": 500},
    {"top_p": 0.05},
    {"top_p": 0.9},
    {"min_p": 0.1},
    {"min_p": 1.0},
    {"temperature": 1.7, "top_k": 20, "top_p": 0.8, "min_p": 0.02, "repetition_penalty": 1.2},
    {"temperature": 0.3, "top_p": 0.99, "min_p": 0.3},
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_filters_are_those_of_transformers_in_its_order(case: dict[str, Any]) -> None:
    their = pytest.importorskip("transformers.generation.logits_process")
    ids = torch.randint(50, (6, 9), generator=torch.Generator().manual_seed(4))
    settings, scores = SamplingSettings(**case), logits()
    expected = scores
    chain = []
    if settings.repetition_penalty != 1:
        chain.append(their.RepetitionPenaltyLogitsProcessor(settings.repetition_penalty))
    if settings.temperature not in (0, 1):
        chain.append(their.TemperatureLogitsWarper(settings.temperature))
    if settings.top_k:
        chain.append(their.TopKLogitsWarper(settings.top_k))
    if settings.top_p < 1:
        chain.append(their.TopPLogitsWarper(settings.top_p))
    if settings.min_p:
        chain.append(their.MinPLogitsWarper(settings.min_p))
    assert chain
    for step in chain:
        expected = step(ids, expected)
    assert torch.equal(filtered(scores, seen_of(ids, 50), settings), expected)


def test_equal_scores_at_the_edge_of_top_k_all_stay() -> None:
    scores = torch.tensor([[2.0, 1.0, 1.0, 0.0]])
    kept = filtered(scores, None, SamplingSettings(top_k=2)).isfinite()
    assert kept.tolist() == [[True, True, True, False]]


def test_one_token_always_stays() -> None:
    even = torch.zeros(2, 10)
    for case in ({"top_p": 1e-9}, {"min_p": 1.0}, {"top_k": 1}):
        assert filtered(even, None, SamplingSettings(**case)).isfinite().any(dim=-1).all()


def test_draws_follow_the_distribution() -> None:
    scores = torch.tensor([[0.0, 1.0, -torch.inf, 2.0, -1.0]])
    count = 20_000
    drawn = draw(scores.expand(count, -1), [uniform(3, 0, position) for position in range(count)])
    shares = torch.bincount(drawn, minlength=5) / count
    wanted = scores.softmax(-1)[0]
    deviation = (wanted * (1 - wanted) / count).sqrt()
    assert ((shares - wanted).abs() <= 4.5 * deviation).all()
    assert shares[2] == 0


def test_the_ends_of_the_distribution_are_never_tokens_that_are_out() -> None:
    scores = torch.full((2, 6), -torch.inf)
    scores[:, 2:4] = 0.0
    assert draw(scores, [0.0, 1 - 2.0**-53]).tolist() == [2, 3]


@pytest.mark.parametrize("vocab", [1, 5, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK, 2500])
def test_a_draw_inverts_the_cumulative_distribution(vocab: int) -> None:
    scores = logits(200, vocab, seed=vocab)
    scores[:, vocab // 3 : 2 * vocab // 3 - 1] = -torch.inf  # whole blocks of some vocabularies
    uniforms = [uniform(8, vocab, row) for row in range(200)]
    shares = np.exp(scores.double().log_softmax(-1).numpy()).cumsum(axis=1)
    expected = [
        np.searchsorted(row, u * row[-1], side="right") for row, u in zip(shares, uniforms, strict=True)
    ]
    assert draw(scores, uniforms).tolist() == expected


def test_no_rounding_draws_what_is_out_or_past_the_end() -> None:
    scores = torch.full((3, 4 * BLOCK + 9), -torch.inf)
    inside = [BLOCK - 1, 2 * BLOCK, 3 * BLOCK + 5]  # an end, a beginning, and before blocks that are empty
    scores[:, inside] = logits(3, 3)
    for u in (0.0, 1 / 3, 2 / 3, 1 - 2.0**-53):
        assert set(draw(scores, [u] * 3).tolist()) <= set(inside)
    shares = scores[0].double().softmax(-1)[inside].cumsum(-1)
    for edge in shares[:2].tolist():
        near = [edge - 2.0**-52, edge, edge + 2.0**-52]
        assert set(draw(scores[:1].expand(3, -1), near).tolist()) <= set(inside)


def test_a_rare_token_of_a_large_vocabulary_can_be_drawn() -> None:
    scores = torch.zeros(1, 100_000)
    assert draw(scores, [(77_777 + 0.5) / 100_000]).tolist() == [77_777]


def test_random_numbers_are_uniform_and_belong_to_their_coordinates() -> None:
    values = torch.tensor([[uniform(s, r, p) for p in range(30)] for s in range(10) for r in range(30)])
    assert values.unique().numel() == values.numel()
    assert values.min() >= 0
    assert values.max() < 1
    assert values.mean().item() == pytest.approx(0.5, abs=0.015)
    assert values.var().item() == pytest.approx(1 / 12, abs=0.004)
    assert uniform(1, 2, 3) == uniform(1, 2, 3)


def test_greedy_takes_the_most_likely_and_marks_what_is_not_finite() -> None:
    scores = logits(4)
    scores[1, 3] = torch.nan
    scores[2, 0] = torch.inf
    for temperature in (0.0, 1.0):
        chosen = choose(scores, SamplingSettings(temperature=temperature), [0.5] * 4)
        assert (chosen[1:3] == -1).all()
        assert (chosen[[0, 3]] >= 0).all()
    assert choose(scores, SamplingSettings(temperature=0.0), [0.5] * 4)[0] == scores[0].argmax()


def test_log_probabilities_hold_the_temperature() -> None:
    scores, tokens = logits(3), torch.tensor([4, 9, 0])
    expected = torch.distributions.Categorical(logits=scores / 0.7).log_prob(tokens)
    torch.testing.assert_close(log_probability(scores, tokens, 0.7), expected)
    plain = torch.distributions.Categorical(logits=scores).log_prob(tokens)
    torch.testing.assert_close(log_probability(scores, tokens, 0.0), plain)


REFUSED = {
    "temperature=-0.1": "temperature",
    "temperature=0.001": "0.01 the least that samples",
    "top_p=0": "top_p",
    "top_p=1.1": "top_p",
    "top_k=-1": "top_k",
    "top_k=1.5": "top_k",
    "min_p=2": "min_p",
    "repetition_penalty=0": "repetition_penalty",
    "max_new_tokens=0": "max_new_tokens",
    "stop=[a, '']": "empty stop string",
    "stop=text": "stop",
    "seed=-1": "seed",
    "temperature=.nan": "temperature",
    "max_tokens=5": "write 'max_new_tokens'",
    "do_sample=true": "0 is greedy",
    "topp=0.5": "did you mean 'top_p'?",
}


@pytest.mark.parametrize("word", REFUSED)
def test_a_setting_out_of_range_is_one_line(word: str) -> None:
    with pytest.raises(RequestError) as caught:
        validate(SamplingSettings, from_overrides([word]))
    assert REFUSED[word] in caught.value.line()
    assert word in caught.value.line()
