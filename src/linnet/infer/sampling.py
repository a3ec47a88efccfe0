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

    In float64, because a float32 sum over a large vocabulary loses the rare tokens. Devices without
    float64 (MPS) hand the row to the CPU for this.
    """
    wide = (scores.cpu() if scores.device.type == "mps" else scores).double()
    cumulative = wide.softmax(dim=-1).cumsum(dim=-1)
    targets = torch.tensor(uniforms, dtype=torch.float64, device=wide.device).unsqueeze(1)
    # right=True steps over tokens of probability 0, which add nothing to the sum.
    places = torch.searchsorted(cumulative, targets * cumulative[:, -1:], right=True)
    return places.squeeze(1).to(scores.device)


def choose(scores: Tensor, settings: SamplingSettings, uniforms: list[float]) -> Tensor:
    """The next token of each row, -1 where the scores are not finite: [B, V] → [B]."""
    tokens = scores.argmax(dim=-1) if settings.temperature == 0 else draw(scores, uniforms)
    return torch.where(scores.amax(dim=-1).isfinite(), tokens, -1)


def log_probability(logits: Tensor, tokens: Tensor, temperature: float) -> Tensor:
    """Natural log-probability of each row's token at `temperature` (1 for greedy), before any filter.

    logits [B, V], tokens [B] → [B]. This is what a policy gradient needs: the model's own distribution
    at the temperature it was sampled at, which a training pass can compute again from the weights.
    """
    scores = logits.float() / (temperature or 1.0)
    return scores.log_softmax(dim=-1).gather(-1, tokens.clamp(min=0).unsqueeze(-1)).squeeze(-1)
