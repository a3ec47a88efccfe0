"""From logits to a token: settings, filters and the draw, as pure functions.

The filters and their order are those of transformers' logits processors, so that settings found
elsewhere mean the same here. The draw is not: torch's generators give a batch one stream of numbers,
so what a row says would depend on who shares its batch. Here each draw's random number is computed
from (seed, sample, position), which nothing else can disturb: not the batch, not the order of
prompts, not the state of a training run around it.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping
from typing import ClassVar

import torch
from pydantic import Field, PositiveInt, field_validator
from torch import Tensor

from linnet.config import Section

BLOCK = 256
"""Neighbouring tokens that are added up together before one is drawn."""


class SamplingSettings(Section):
    """How text is drawn from a model.

    `temperature` 0 takes the most likely token, and then `top_k`, `top_p` and `min_p` have nothing to
    decide. `top_k` 0, `top_p` 1, `min_p` 0 and `repetition_penalty` 1 are off.
    """

    max_new_tokens: PositiveInt = 200
    temperature: float = Field(default=1.0, ge=0, le=100)
    top_k: int = Field(default=0, ge=0)
    top_p: float = Field(default=1.0, gt=0, le=1)
    min_p: float = Field(default=0.0, ge=0, le=1)
    repetition_penalty: float = Field(default=1.0, gt=0, le=100)
    stop: list[str] = Field(default_factory=list)
    seed: int = Field(default=0, ge=0, lt=2**63)

    habits: ClassVar[Mapping[str, str]] = {
        "max_tokens": "write 'max_new_tokens'",
        "max_length": "write 'max_new_tokens' (the prompt is not counted)",
        "n_predict": "write 'max_new_tokens'",
        "temp": "write 'temperature'",
        "do_sample": "write 'temperature': 0 is greedy, anything above samples",
        "repeat_penalty": "write 'repetition_penalty'",
        "stop_strings": "write 'stop'",
    }

    @field_validator("temperature")
    @classmethod
    def _temperature_divides(cls, value: float) -> float:
        if 0 < value < 0.01:
            raise ValueError(f"{value} is too small to divide by; 0 is greedy, 0.01 the least that samples")
        return value

    @field_validator("stop")
    @classmethod
    def _stop_says_something(cls, value: list[str]) -> list[str]:
        if "" in value:
            raise ValueError("an empty stop string would stop before the first token; leave it out")
        return value


def penalise_repetition(scores: Tensor, seen: Tensor, penalty: float) -> Tensor:
    """Divide positive scores of seen tokens by `penalty`, multiply negative ones (Keskar et al. 2019, CTRL).

    scores: [B, V]; seen: boolean [B, V], true for tokens of the prompt and of what was written so far.
    """
    return torch.where(seen, torch.where(scores < 0, scores * penalty, scores / penalty), scores)


def keep_top_k(scores: Tensor, count: int) -> Tensor:
    """Leave the `count` highest scores of each row (more where the last are equal): [B, V] → [B, V]."""
    least = scores.topk(min(count, scores.shape[-1])).values[..., -1:]
    return scores.masked_fill(scores < least, -torch.inf)


def keep_top_p(scores: Tensor, mass: float) -> Tensor:
    """Leave the fewest tokens whose probabilities reach `mass` (Holtzman et al. 2020): [B, V] → [B, V]."""
    ascending, order = scores.sort(descending=False)
    dropped = ascending.softmax(dim=-1).cumsum(dim=-1) <= 1 - mass
    dropped[..., -1] = False  # the most likely always stays
    return scores.masked_fill(dropped.scatter(-1, order, dropped), -torch.inf)


def keep_min_p(scores: Tensor, share: float) -> Tensor:
    """Leave tokens at least `share` times as likely as the most likely one (Nguyen et al. 2024)."""
    probabilities = scores.softmax(dim=-1)
    dropped = probabilities < share * probabilities.amax(dim=-1, keepdim=True)
    # At a share of 1 rounding must not drop the most likely one itself.
    dropped.scatter_(-1, probabilities.argmax(dim=-1, keepdim=True), False)
    return scores.masked_fill(dropped, -torch.inf)


def filtered(logits: Tensor, seen: Tensor | None, settings: SamplingSettings) -> Tensor:
    """Scores to choose from, in FP32, -inf where a token is out: [B, V] → [B, V]."""
    scores = logits.float()
    if settings.repetition_penalty != 1.0 and seen is not None:
        scores = penalise_repetition(scores, seen, settings.repetition_penalty)
    if settings.temperature == 0:
        return scores
    if settings.temperature != 1:
        scores = scores / settings.temperature
    if settings.top_k:
        scores = keep_top_k(scores, settings.top_k)
    if settings.top_p < 1:
        scores = keep_top_p(scores, settings.top_p)
    if settings.min_p > 0:
        scores = keep_min_p(scores, settings.min_p)
    return scores


def uniform(seed: int, sample: int, position: int) -> float:
    """The random number in [0, 1) that belongs to one draw: a hash of its three coordinates, 53 bits."""
    digest = hashlib.blake2b(struct.pack("<QQQ", seed, sample, position), digest_size=8).digest()
    return (int.from_bytes(digest, "little") >> 11) * 2.0**-53


def draw(scores: Tensor, uniforms: list[float]) -> Tensor:
    """Draw one token a row by inverting the cumulative distribution: [B, V] → [B].

    Sums are in float64, because in float32 those over a large vocabulary lose the rare tokens. To add up
    and search only a part of it in float64, a block of tokens is drawn first, and then a token of that
    block. Devices without float64 (MPS) hand the row to the CPU for this.
    """
    weights = (scores.cpu() if scores.device.type == "mps" else scores).softmax(dim=-1)
    targets = torch.tensor(uniforms, dtype=torch.float64, device=weights.device).unsqueeze(1)
    blocks = [
        block.sum(dim=-1, dtype=torch.float64) for block in _in_blocks(weights)
    ]  # 1 or 2 of [B, blocks]
    ends = torch.cat(blocks, dim=1).cumsum(dim=-1)  # of each block, [B, blocks]
    block, passed = _place(ends, targets * ends[:, -1:])
    columns = block * BLOCK + torch.arange(BLOCK, device=block.device)
    inside = weights.gather(1, columns.clamp(max=weights.shape[1] - 1)).double()
    inside = inside.masked_fill_(columns >= weights.shape[1], 0).cumsum(dim=-1)
    place, _ = _place(inside, targets * ends[:, -1:] - passed)
    return (block * BLOCK + place).squeeze(1).to(scores.device)


def _in_blocks(weights: Tensor) -> list[Tensor]:
    """[B, V] cut into [B, blocks, BLOCK] and what is left, [B, 1, rest]."""
    whole = weights.shape[1] // BLOCK * BLOCK
    parts = weights[:, :whole].unflatten(1, (-1, BLOCK)), weights[:, whole:].unsqueeze(1)
    return [part for part in parts if part.numel()]


def _place(ends: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Where each row's target falls among cumulative sums [B, N], and the sum before that place, each [B, 1].

    Never past the end, whatever was rounded, and never a place that adds nothing to the sum.
    """
    below = torch.nextafter(ends[:, -1:], torch.zeros_like(targets))
    # right=True steps over places of probability 0; NaN, which is past the end, is for others to tell.
    place = torch.searchsorted(ends, targets.minimum(below), right=True).clamp_(max=ends.shape[1] - 1)
    before = torch.where(place > 0, ends.gather(1, (place - 1).clamp_(min=0)), 0.0)
    return place, before


def choose(scores: Tensor, settings: SamplingSettings, uniforms: list[float]) -> Tensor:
    """The next token of each row, -1 where the scores are not finite: [B, V] → [B]."""
    tokens = scores.argmax(dim=-1) if settings.temperature == 0 else draw(scores, uniforms)
    return torch.where(scores.amax(dim=-1).isfinite(), tokens, -1)


def log_probability(logits: Tensor, tokens: Tensor, temperature: float) -> Tensor:
    """Natural log-probability of each row's token at `temperature` (1 for greedy), before any filter.

    logits [B, V], tokens [B] → [B]. This is what a policy gradient needs: the model's own distribution
    at the temperature it was sampled at, which a training pass can compute again from the weights.
    """
    scores = logits.float() if temperature in (0, 1) else logits.float() / temperature
    return scores.log_softmax(dim=-1).gather(-1, tokens.clamp(min=0).unsqueeze(-1)).squeeze(-1)
