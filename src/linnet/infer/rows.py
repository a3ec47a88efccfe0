"""Sequences in flight: one row each, together in one cache until each is done.

Rows end at different times. A row that is finished leaves at once, so it costs nothing while others
go on, and one that waits takes its place: its prompt is read in the pass in which the others read the
token they got last. What prompts have in common, as the samples of one prompt have all of it, is read
once as long as a row that has it is in flight.
"""

from __future__ import annotations

from collections import deque
from typing import Literal

import torch
from torch import Tensor

from linnet.config import RunError
from linnet.infer.sampling import SamplingSettings, choose, filtered, log_probability, uniform
from linnet.infer.stopping import StopMatcher
from linnet.model import KVCache, Transformer
from linnet.model.cache import decoding_kernels
from linnet.text import StreamDecoder

FinishReason = Literal["eos", "stop", "length"]
PREFILL_TOKENS = 8192
"""Prompts read in one pass have at most this many tokens together (or are one), to bound its memory."""
SHARED_TOKENS = 8
"""A beginning that a row in flight has read is copied from it if it has at least so many tokens."""


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
        self._decoder, self._stops, self._has_stops = decoder, StopMatcher(stops), bool(stops)
        self._read, self._ended = 0, False

    def take(self, token: int) -> None:
        """Add the token that was chosen, and find out whether it is the last."""
        self.ids.append(token)
        if token in self._ends:
            self.finish_reason = "eos"
        elif len(self.ids) == self.limit:
            self.finish_reason = "length"
        if self._has_stops:
            self.read()

    def read(self) -> None:
        """Turn tokens into `pieces`. Without stop strings no token waits for its text, so this may be late."""
        while self._read < len(self.ids):
            token = self.ids[self._read]
            self._read += 1
            if token not in self._ends:
                self.pieces.append(self._stops.feed(self._decoder.feed(token)))
        if self.finish_reason and not self._ended:
            self._ended = True
            if not self._stops.stopped:
                self.pieces.append(self._stops.feed(self._decoder.finish()))
                self.pieces.append(self._stops.finish())
        if self._stops.stopped:
            self.finish_reason = "stop"


class RunningBatch:
    """Rows that are decoded together, one token each a step, at most `slots` at once.

    Rows start in the order given. All that happens follows from the rows and the number of slots, so a
    batch run again gives the same bits.
    """

    def __init__(
        self,
        model: Transformer,
        rows: list[Row],
        settings: SamplingSettings,
        vocab_size: int,
        logprobs: bool,
        slots: int | None = None,
    ) -> None:
        self.model, self.settings = model, settings
        self.rows: list[Row] = []
        self._waiting = deque(rows)
        self._slots = min(slots or len(rows), len(rows))
        self._vocab_size, self._logprobs = vocab_size, logprobs
        self._device = model.embed_tokens.weight.device
        capacity = max(len(row.prompt) + row.limit - 1 for row in rows)  # the last token is never read
        self._cache = KVCache(model.spec, self._slots, capacity, self._device, model.compute_dtype)
        self._cache.keep([])
        self._fed = torch.zeros(0, dtype=torch.long, device=self._device)  # [B], chosen and not yet read
        self._seen = None if settings.repetition_penalty == 1.0 else self._tokens_of_prompts([])

    @property
    def unfinished(self) -> bool:
        """Whether a row is in flight or waits."""
        return bool(self.rows or self._waiting)

    def step(self) -> None:
        """Choose a token for every row in flight and for those that join, and let finished rows go.

        Raises:
            RunError: when the model's output is not finite.
        """
        logits = self.model.logits(self._read())[:, : self._vocab_size]  # [B, V]
        tokens = self._choose(logits)
        if self._logprobs:
            values = log_probability(logits, tokens, self.settings.temperature).tolist()
            for row, value in zip(self.rows, values, strict=True):
                row.logprobs.append(value)
        self._hand_out(tokens)

    def _read(self) -> Tensor:
        """Hidden states [B, hidden] after the last tokens of the rows in flight and of those that join.

        In one pass the first read what was chosen for them last, the others their prompts.
        """
        counts, read = [1] * len(self.rows), list[int]()
        joining = self._joining()
        for row, (like, shared) in joining:
            self._cache.add(like, shared)
            counts.append(len(row.prompt) - shared)
            read += row.prompt[shared:]
        fed = torch.cat((self._fed, self._fed.new_tensor(read))) if read else self._fed  # [N]
        with decoding_kernels(self._device.type):
            hidden = self.model.decode(fed, self._cache, counts)
        self._cache.advance(counts)
        new = [row for row, _ in joining]
        self.rows += new
        if self._seen is not None and new:
            self._seen = torch.cat((self._seen, self._tokens_of_prompts(new)))
        return hidden

    def _joining(self) -> list[tuple[Row, tuple[int, int]]]:
        """Rows that take a free slot now, and which row in flight has read how much of their prompt already.

        A row whose prompt begins as that of one that joins now waits a step, to copy what that one reads.
        """
        joining: list[tuple[Row, tuple[int, int]]] = []
        postponed: list[Row] = []
        tokens = 0
        while self._waiting and len(self.rows) + len(joining) + len(postponed) < self._slots:
            prompt = self._waiting[0].prompt
            like, shared = _most_shared(prompt, self.rows)
            tokens += len(prompt) - shared
            if joining and tokens > PREFILL_TOKENS:
                break
            row = self._waiting.popleft()
            if _most_shared(prompt, [other for other, _ in joining])[1] >= shared + SHARED_TOKENS:
                postponed.append(row)
            else:
                joining.append((row, (like, shared)))
        self._waiting.extendleft(reversed(postponed))
        return joining

    def _tokens_of_prompts(self, rows: list[Row]) -> Tensor:
        seen = torch.zeros(len(rows), self.model.spec.vocab_size, dtype=torch.bool, device=self._device)
        for index, row in enumerate(rows):
            seen[index, row.prompt] = True
        return seen[:, : self._vocab_size]

    def _choose(self, logits: Tensor) -> Tensor:
        """The next token of each row, [B, V] → [B]."""
        settings = self.settings
        drawn = settings.temperature > 0
        uniforms = [uniform(settings.seed, row.sample, len(row.ids)) for row in self.rows] if drawn else []
        return choose(filtered(logits, self._seen, settings), settings, uniforms)

    def _hand_out(self, tokens: Tensor) -> None:
        for row, token in zip(self.rows, tokens.tolist(), strict=True):
            if token < 0:
                raise RunError(
                    "the model's output is not finite", mend="its weights diverged: use an earlier checkpoint"
                )
            row.take(token)
        if self._seen is not None:
            self._seen.scatter_(1, tokens.unsqueeze(1), True)
        places = self._cache.order([i for i, row in enumerate(self.rows) if row.finish_reason is None])
        if places != list(range(len(self.rows))):
            self.rows = [self.rows[place] for place in places]
            tokens = tokens[places]
            self._seen = None if self._seen is None else self._seen[places]
            self._cache.keep(places)
        self._fed = tokens


def _most_shared(prompt: list[int], rows: list[Row]) -> tuple[int, int]:
    """Which row's prompt begins most like this one, and for how many tokens; 0 if a copy is not worth it."""
    read = prompt[:-1]  # the last token is read in any case, for what follows it
    lengths = [_common(read, row.prompt) for row in rows]
    longest = max(lengths, default=0)
    return (lengths.index(longest), longest) if longest >= SHARED_TOKENS else (0, 0)


def _common(one: list[int], other: list[int]) -> int:
    """For how many tokens both begin alike."""
    if one[:SHARED_TOKENS] != other[:SHARED_TOKENS]:
        return 0
    if one == other[: len(one)]:
        return len(one)
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), len(other))
