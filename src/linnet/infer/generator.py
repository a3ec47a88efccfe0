"""Text from a model: prompts in, completions out, whole or as they come.

A text prompt is read as the beginning of a document, after the token that the tokenizer puts there. In models
that Linnet makes it is EOS, which separates documents in training and plays the part that BOS plays elsewhere.

Generating leaves no trace: the model's training mode, its precision and the state of torch's
random generators are afterwards what they were, so a training loop may ask for samples at any step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import torch

from linnet.config import RequestError
from linnet.infer.rows import FinishReason, Row, RunningBatch
from linnet.infer.sampling import SamplingSettings
from linnet.model import Transformer
from linnet.text import StreamDecoder

Check = Callable[[], None]
"""Called between tokens; what it raises ends the work."""


def go_on() -> None:
    """The check of those whom nobody interrupts."""


class Tokens(Protocol):
    """What generating asks of a tokenizer."""

    @property
    def eos_id(self) -> int: ...

    @property
    def stop_ids(self) -> Sequence[int]: ...

    @property
    def vocab_size(self) -> int: ...

    def encode(self, text: str, /) -> list[int]: ...

    def encode_prompt(self, text: str, /) -> list[int]: ...

    def stream_decoder(self, prompt: Sequence[int], /) -> StreamDecoder: ...


@dataclass(frozen=True)
class Completion:
    """What followed a prompt.

    `ids` are all tokens drawn, an EOS that ended them included; `text` ends before EOS and before a
    stop string. `logprobs`, where asked for, are one for each of `ids` (see `log_probability`).
    """

    prompt_ids: list[int]
    ids: list[int]
    text: str
    finish_reason: FinishReason
    logprobs: list[float] | None = None


class Generator:
    """Draws text from a model.

    Args:
        model: is moved to `device` when one is given.
        tokenizer: the one the model was trained with.
        dtype: what to compute in; by default the model's own precision at the time.

    Raises:
        RequestError: when the tokenizer's EOS is no token of the model.
    """

    def __init__(
        self,
        model: Transformer,
        tokenizer: Tokens,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        self.model = model if device is None else model.to(device)
        self.tokenizer, self._dtype = tokenizer, dtype
        # A vocabulary padded for speed has rows that are no token.
        self._vocab_size = min(model.spec.vocab_size, tokenizer.vocab_size)
        if not 0 <= tokenizer.eos_id < self._vocab_size:
            raise RequestError(
                f"the tokenizer's EOS is {tokenizer.eos_id} and the model has {self._vocab_size} tokens",
                mend="use the tokenizer that the model was trained with",
            )

    def with_tokenizer(self, tokenizer: Tokens) -> Generator:
        """The same model with another tokenizer, such as one with more tokens that end an answer."""
        return Generator(self.model, tokenizer, dtype=self._dtype)

    def generate(
        self,
        prompts: Sequence[str | list[int]],
        settings: SamplingSettings,
        *,
        start_document: bool = True,
        samples: Sequence[int] | None = None,
        logprobs: bool = False,
        slots: int | None = None,
        check: Check = go_on,
    ) -> list[Completion]:
        """Continue every prompt, many at once.

        The prompt, the seed and the number of the sample decide what follows; company, order and slots
        change no more than the last bits of the logits. The same call gives the same bits again.

        Args:
            prompts: texts, or ids that are read as they are. A prompt of no tokens is one EOS.
            start_document: read a text as the beginning of a document, after the tokenizer's `start_id`.
            samples: the number of each prompt's draw, below 2**63, by default 0, 1, 2 …
            logprobs: return the log-probability of every token drawn.
            slots: how many are continued at once, by default all. Each slot holds keys and values for the
                longest prompt and continuation; a prompt that waits takes the slot of one that has ended.
                Samples of one prompt, side by side, read it once.
            check: see Check.

        Raises:
            RequestError: when a prompt leaves no room in the model's context or is not its tokens, or for
                a number of slots or of a sample that cannot be.
            RunError: when the model's output is not finite.
        """
        if slots is not None and slots < 1:
            raise RequestError(f"{slots} slots continue nothing", "slots", "give 1 or more")
        rows = self._rows(prompts, settings, start_document, samples)
        if rows:
            with self._quietly():
                batch = RunningBatch(self.model, rows, settings, self._vocab_size, logprobs, slots)
                while batch.unfinished:
                    check()
                    batch.step()
        return [_completion(row, logprobs) for row in rows]

    def stream(
        self, prompt: str | list[int], settings: SamplingSettings, *, start_document: bool = True
    ) -> Iterator[str]:
        """Continue one prompt, piece by piece: whole characters, and nothing of a stop string.

        Joined, the pieces are the text that `generate` gives.

        Raises:
            RequestError, RunError: as `generate`; a wrong request at once, not at the first piece.
        """
        (row,) = self._rows([prompt], settings, start_document, None)
        return self._pieces(row, settings)

    def _pieces(self, row: Row, settings: SamplingSettings) -> Iterator[str]:
        with self._quietly():
            batch = RunningBatch(self.model, [row], settings, self._vocab_size, False)
        shown = 0
        while batch.unfinished:
            with self._quietly():  # not across a yield: inference mode would reach into the caller
                batch.step()
            row.read()
            piece = "".join(row.pieces[shown:])
            shown = len(row.pieces)
            if piece:
                yield piece

    def _rows(
        self,
        prompts: Sequence[str | list[int]],
        settings: SamplingSettings,
        start_document: bool,
        samples: Sequence[int] | None,
    ) -> list[Row]:
        numbers = range(len(prompts)) if samples is None else samples
        if any(not 0 <= number < 2**63 for number in numbers):
            raise RequestError("a sample's number is from 0 to 2**63 - 1", "samples")
        rows = []
        for index, (prompt, number) in enumerate(zip(prompts, numbers, strict=True)):
            ids = self._ids(prompt, start_document, f"prompt {index + 1}")
            limit = min(settings.max_new_tokens, self.model.spec.max_position_embeddings - len(ids))
            ends, decoder = frozenset(self.tokenizer.stop_ids), self.tokenizer.stream_decoder(ids)
            rows.append(Row(ids, number, limit, ends, decoder, settings.stop))
        return rows

    def _ids(self, prompt: str | list[int], start_document: bool, where: str) -> list[int]:
        eos, context = self.tokenizer.eos_id, self.model.spec.max_position_embeddings
        if isinstance(prompt, str):
            encode = self.tokenizer.encode_prompt if start_document else self.tokenizer.encode
            ids = encode(prompt)
        else:
            ids = list(prompt)
        ids = ids or [eos]
        if len(ids) >= context:
            raise RequestError(
                f"{len(ids)} tokens leave no room in the model's context of {context}",
                where,
                f"shorten it to {context - 1} tokens or less",
            )
        if not 0 <= min(ids) <= max(ids) < self.model.spec.vocab_size:
            raise RequestError(
                f"it has tokens outside the model's 0..{self.model.spec.vocab_size - 1}",
                where,
                "use the tokenizer that the model was trained with",
            )
        return ids

    @contextmanager
    def _quietly(self) -> Iterator[None]:
        """Inference for a while, and everything as before after it."""
        modes = [(module, module.training) for module in self.model.modules()]
        precision = self.model.compute_dtype, self.model.residual_dtype
        try:
            self.model.eval()
            if self._dtype is not None:
                self.model.use_precision(self._dtype)
            with torch.inference_mode():
                yield
        finally:
            self.model.use_precision(*precision)
            for module, mode in modes:
                module.training = mode


def _completion(row: Row, logprobs: bool) -> Completion:
    row.read()
    assert row.finish_reason is not None
    text = "".join(row.pieces)
    return Completion(row.prompt, row.ids, text, row.finish_reason, row.logprobs if logprobs else None)
