"""Sequences in flight: one row each, together in one cache until each is done.

A row that is finished leaves the batch, so it costs nothing while others go on.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from linnet.config import RunError
from linnet.infer.sampling import SamplingSettings, choose, filtered, log_probability, uniform
from linnet.infer.stopping import StopMatcher
from linnet.model import KVCache, Transformer
from linnet.text import StreamDecoder

FinishReason = Literal["eos", "stop", "length"]


class Row:
    """One prompt and what follows it.

    Args:
        prompt: ids the model reads first, at least one.
        sample: which random numbers are this row's own.
        limit: how many tokens may follow.
        ends: tokens that end the text: EOS, and a chat model's end of a turn.
        decoder: has read the prompt, so that the text continues the prompt's (a word's leading
            space, a character begun there).
    """

    def __init__(
        self,
        prompt: list[int],
        sample: int,
        limit: int,
        ends: frozenset[int],
        decoder: StreamDecoder,
        stops: list[str],
    ) -> None:
        self.prompt, self.sample, self.limit, self._ends = prompt, sample, limit, ends
        self.ids: list[int] = []
        self.logprobs: list[float] = []
        self.pieces: list[str] = []
        self.finish_reason: FinishReason | None = None
        self._decoder, self._stops = decoder, StopMatcher(stops)

    def take(self, token: int) -> None:
        """Add the token that was chosen, and find out whether it is the last."""
        self.ids.append(token)
        if token in self._ends:
            self.finish_reason = "eos"
        else:
            self.pieces.append(self._stops.feed(self._decoder.feed(token)))
            if len(self.ids) == self.limit:
                self.finish_reason = "length"
        if self.finish_reason and not self._stops.stopped:
            self.pieces.append(self._stops.feed(self._decoder.finish()))
            self.pieces.append(self._stops.finish())
        if self._stops.stopped:
            self.finish_reason = "stop"


class RunningBatch:
    """Rows that are decoded together, one token each a step."""

    def __init__(
        self, model: Transformer, rows: list[Row], settings: SamplingSettings, vocab_size: int, logprobs: bool
    ) -> None:
        self.model, self.rows, self.settings = model, rows, settings
        self._vocab_size, self._logprobs = vocab_size, logprobs
        self._device = model.embed_tokens.weight.device
        longest = max(len(row.prompt) for row in rows)
        padded = [row.prompt + [0] * (longest - len(row.prompt)) for row in rows]
        self._fed = torch.tensor(padded, device=self._device)  # [B, T]
        self._counts = [len(row.prompt) for row in rows]
        self._seen = self._tokens_of_prompts() if settings.repetition_penalty != 1.0 else None
        capacity = max(len(row.prompt) + row.limit - 1 for row in rows)  # the last token is never read
        self._cache = KVCache(model.spec, len(rows), capacity, self._device, model.compute_dtype)

    def _tokens_of_prompts(self) -> Tensor:
        seen = torch.zeros(len(self.rows), self.model.spec.vocab_size, dtype=torch.bool, device=self._device)
        for index, row in enumerate(self.rows):
            seen[index, row.prompt] = True
        return seen[:, : self._vocab_size]

    def step(self) -> None:
        """Read what was fed last, choose a token for every row, and let finished rows go.

        Raises:
            RunError: when the model's output is not finite.
        """
        hidden = self.model.decode(self._fed, self._cache)  # [B, T, hidden]
        self._cache.advance(self._counts)
        last = torch.tensor(self._counts, device=self._device) - 1
        hidden = hidden[torch.arange(len(self.rows), device=self._device), last]
        logits = self.model.logits(hidden)[:, : self._vocab_size]  # [B, V]
        settings = self.settings
        uniforms = [uniform(settings.seed, row.sample, len(row.ids)) for row in self.rows]
        tokens = choose(filtered(logits, self._seen, settings), settings, uniforms)  # [B]
        if self._logprobs:
            for row, value in zip(
                self.rows, log_probability(logits, tokens, settings.temperature).tolist(), strict=True
            ):
                row.logprobs.append(value)
        self._hand_out(tokens)

    def _hand_out(self, tokens: Tensor) -> None:
        for row, token in zip(self.rows, tokens.tolist(), strict=True):
            if token < 0:
                raise RunError(
                    "the model's output is not finite", mend="its weights diverged: use an earlier checkpoint"
                )
            row.take(token)
        alive = [index for index, row in enumerate(self.rows) if row.finish_reason is None]
        if self._seen is not None:
            self._seen.scatter_(1, tokens.unsqueeze(1), True)
        if len(alive) < len(self.rows):
            self.rows = [self.rows[index] for index in alive]
            if not alive:
                return
            tokens = tokens[alive]
            self._seen = None if self._seen is None else self._seen[alive]
            self._cache.keep(alive)
        self._fed, self._counts = tokens.unsqueeze(1), [1] * len(alive)
