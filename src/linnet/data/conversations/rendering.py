"""Conversations, pairs and problems through the chat template to tokens, with what is learned marked.

Nobody else makes examples, so what holds here holds in every stage: the prompt's tokens are exactly those that
a model reads when it is asked (text/chat_tokens.py), an answer is learned from its first token to its
end-of-turn token, and nothing else is. Padding has no part in this: it is laid in later and its targets are
never counted, whatever token it is, so an EOS that is also the padding token stays learned.

Too long is counted in places of a row: an example of n tokens takes n - 1.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from linnet.config import RequestError
from linnet.data.conversations.counts import UNASKED, Counts
from linnet.data.conversations.kinds import Conversation, Pair, Problem, Tools, Turn, Turns, Unusable
from linnet.data.conversations.settings import ChatSettings
from linnet.data.conversations.turns import learned_after, turn
from linnet.data.conversations.written import left_out
from linnet.data.examples import Example
from linnet.data.shards.store import token_dtype
from linnet.text import Tokenizer
from linnet.text.chat_template import ChatTemplate, RefusedByTemplate
from linnet.text.chat_tokens import ChatEncoder, ChatTokens
from linnet.text.prefixes import UnaskedAnswer

_TRIES = 8  # text that is cut by tokens and joined again may come out a token or two longer


@dataclass(frozen=True)
class Prompt:
    """A problem's prompt as a model reads it, and the problem."""

    ids: list[int]
    problem: Problem


class Renderer:
    """Makes examples. `counts` grows with every item.

    Args:
        tokenizer: the model's.
        template: see `template_for`.
        max_length: places of a row that an example may take; of a problem, tokens of its prompt.

    Raises:
        RequestError: when the template cannot be used: it refuses a plain question and answer, or learns
            a text's first token.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        template: ChatTemplate,
        max_length: int,
        settings: ChatSettings = ChatSettings(),  # noqa: B008 - it is frozen
    ) -> None:
        template.today = settings.date
        self.tokenizer, self.template = tokenizer, template
        self.max_length, self.settings = max_length, settings
        self.encoder = ChatEncoder(template, tokenizer)
        self.stop_ids = frozenset(self.encoder.stop_ids())
        if template.writes_date and settings.today is None:
            raise RequestError(
                "the chat template writes the date of the day, and a run must see the same text tomorrow",
                template.where, "set chat.today to a date, for example chat.today=2026-11-21",
            )  # fmt: skip
        self._dtype = token_dtype(tokenizer.vocab_size)
        self.counts = Counts()

    def conversations(self, items: Iterable[Conversation]) -> list[Example]:
        """Examples of conversations in order: one each, or with `turns: each` one an answer.

        Raises:
            RequestError: when some are too long and these are refused, or the template writes history otherwise.
        """
        return [example for item in items for example in self.conversation(item)]

    def conversation(self, item: Conversation) -> list[Example]:
        """The examples of one conversation; none when it is left out, and `counts` says why."""
        return [
            example
            for turns, learned in self._parts(item)
            if (example := self._one(turns, learned, item.tools))
        ]

    def pair(self, item: Pair) -> tuple[Example, Example] | None:
        """The chosen and the rejected answer after the same prompt tokens; None when they are left out.

        Raises:
            RequestError: too long and refused, or the template writes the prompt otherwise before an answer.
        """
        self.counts.items += 1
        prompt = self._opened(item.prompt)
        answers = (item.chosen, item.rejected)
        tools = item.tools
        fitted: list[ChatTokens] = []
        for answer in answers:
            tokens = self._tokens((*prompt, *answer), learned_after(prompt, answer), tools)
            if tokens is None:
                return None
            fitted.append(tokens)
        if max(len(tokens.ids) for tokens in fitted) - 1 > self.max_length:
            flags = [learned_after(prompt, answer) for answer in answers]
            shorter = self._shortened(prompt, answers, flags, tools)
            if shorter is None:
                return None
            prompt, fitted = shorter
        ids = self.encoder.prompt(prompt, tools)
        for tokens in fitted:
            if tokens.ids[: len(ids)] != ids or any(tokens.learned[: len(ids)]):
                raise RequestError(
                    "the chat template writes a prompt otherwise once its answer follows, so an answer "
                    "would lose its first tokens", self.template.where, "give another chat_template",
                )  # fmt: skip
        if not all(any(tokens.learned) for tokens in fitted):
            self.counts.empty += 1
            return None
        chosen, rejected = (self._example(tokens) for tokens in fitted)
        return chosen, rejected

    def pairs(self, items: Iterable[Pair]) -> list[Example]:
        """Examples of pairs, chosen and rejected in turn: what `BucketedBatches(group=2)` takes."""
        return [example for item in items for example in self.pair(item) or ()]

    def problem(self, item: Problem) -> Prompt | None:
        """A problem's prompt, or None when it is too long and left out."""
        self.counts.items += 1
        prompt = self._opened(item.prompt)
        ids = self._prompt(prompt, item.tools)
        if ids is None:
            return None
        self.counts.longest = max(self.counts.longest, len(ids))
        if len(ids) > self.max_length:
            shorter = self._shortened(prompt, ((),), [()], item.tools)
            if shorter is None:
                return None
            ids = shorter[1][0].ids
        self.counts.examples += 1
        self.counts.tokens += len(ids)
        return Prompt(ids, item)

    def problems(self, items: Iterable[Problem]) -> list[Prompt]:
        """The prompts of problems, in order."""
        return [prompt for item in items if (prompt := self.problem(item))]

    def _parts(self, item: Conversation) -> list[tuple[Turns, tuple[bool, ...]]]:
        """The turns to render, and which of them are learned, for each example of a conversation."""
        turns = self._opened(item.messages)
        learned = (False,) * (len(turns) - len(item.messages)) + item.learned
        if self.settings.turns == "all":
            return [(turns, learned)]
        ends = [place for place, flag in enumerate(learned) if flag]
        ends = ends if self.settings.turns == "each" else ends[-1:]
        return [(turns[: end + 1], (False,) * end + (True,)) for end in ends]

    def _one(self, turns: Turns, learned: Sequence[bool], tools: Tools) -> Example | None:
        self.counts.items += 1
        tokens = self._tokens(turns, learned, tools)
        if tokens is None:
            return None
        if len(tokens.ids) - 1 > self.max_length:
            last = max(place for place, turn in enumerate(turns) if turn["role"] != "assistant") + 1
            shorter = self._shortened(turns[:last], (turns[last:],), [learned], tools)
            if shorter is None:
                return None
            (tokens,) = shorter[1]
        if not any(tokens.learned):
            self.counts.empty += 1
            return None
        return self._example(tokens)

    def _opened(self, turns: Turns) -> Turns:
        if self.settings.system is None or turns[0]["role"] == "system":
            return turns
        return (turn("system", self.settings.system), *turns)

    def _tokens(self, turns: Turns, learned: Sequence[bool], tools: Tools) -> ChatTokens | None:
        """Tokens, or None when the template cannot write these turns, or asks for none of their answers."""
        if not self._complete(turns, learned, tools):
            return None
        tokens = self._allowed(turns, learned, tools)
        if tokens is None:
            return None
        if tokens.unasked and tokens.unasked == sum(learned):
            self.counts.refused[UNASKED] += 1
            return None
        if tokens.learned and tokens.learned[0]:
            raise RequestError(
                "the chat template begins with the assistant's words, and a first token cannot be learned",
                self.template.where, "let the template begin with bos_token or eos_token",
            )  # fmt: skip
        self.counts.longest = max(self.counts.longest, len(tokens.ids) - 1)
        return tokens

    def _complete(self, turns: Turns, learned: Sequence[bool], tools: Tools) -> bool:
        """Whether the template writes all that must not be left out; what else it leaves out is counted."""
        try:
            self.counts.unwritten.update(left_out(self.template, turns, learned, tools))
        except (Unusable, RefusedByTemplate) as error:
            self.counts.refused[getattr(error, "what", str(error))] += 1
            return False
        return True

    def _allowed(self, turns: Turns, learned: Sequence[bool], tools: Tools) -> ChatTokens | None:
        try:
            return self.encoder.learn(turns, learned, tools)
        except RefusedByTemplate as error:
            self.counts.refused[error.what] += 1
        except UnaskedAnswer:
            self.counts.refused[UNASKED] += 1
        return None

    def _prompt(self, turns: Turns, tools: Tools) -> list[int] | None:
        if not self._complete(turns, (), tools):
            return None
        try:
            return self.encoder.prompt(turns, tools)
        except RefusedByTemplate as error:
            self.counts.refused[error.what] += 1
            return None

    def _example(self, tokens: ChatTokens) -> Example:
        counts = self.counts
        counts.examples += 1
        counts.tokens += len(tokens.ids)
        counts.learned += sum(tokens.learned)
        counts.parted += tokens.parted
        counts.unasked += tokens.unasked
        counts.unlearned_eos += any(last not in self.stop_ids for last in self.encoder.ends(tokens))
        return Example(np.array(tokens.ids, dtype=self._dtype), np.array(tokens.learned, dtype=np.bool_))

    def _shortened(
        self, prompt: Turns, answers: Sequence[Turns], learned: Sequence[Sequence[bool]], tools: Tools
    ) -> tuple[Turns, list[ChatTokens]] | None:
        """What is left of a prompt so that all its answers fit, and their tokens; None when it is left out.

        Whole exchanges are cut from the left, a system turn and the last question kept; then the beginning
        of that question. Of a problem (its one answer is no turns) the prompt alone must fit.
        """
        self.counts.too_long += 1
        if self.settings.too_long == "refuse":
            raise RequestError(
                f"an example takes {self.counts.longest:,} tokens, and {self.max_length:,} are allowed", "data",
                "raise the sequence length, or set chat.too_long to drop or cut",
            )  # fmt: skip
        for shorter in self._shorter(prompt, answers, tools) if self.settings.too_long == "cut" else ():
            gone = len(prompt) - len(shorter)
            kept = int(prompt[0]["role"] == "system")
            found = []
            for answer, flags in zip(answers, learned, strict=True):
                if not answer:
                    found.append(ChatTokens(self.encoder.prompt(shorter, tools), [], []))
                    continue
                flags = (*flags[:kept], *flags[kept + gone :])
                if (tokens := self._allowed((*shorter, *answer), flags, tools)) is None:
                    return None
                found.append(tokens)
            if all(len(tokens.ids) - bool(tokens.learned) <= self.max_length for tokens in found):
                self.counts.cut += 1
                return shorter, found
        self.counts.dropped += 1
        return None

    def _shorter(self, prompt: Turns, answers: Sequence[Turns], tools: Tools) -> Iterable[Turns]:
        """Ever shorter prompts."""
        system, rest = (prompt[:1], prompt[1:]) if prompt[0]["role"] == "system" else ((), prompt)
        while True:
            later = [place for place, turn in enumerate(rest) if place and turn["role"] == "user"]
            if not later:
                break
            rest = rest[later[0] :]
            yield (*system, *rest)
        if not rest:
            return
        words = self.tokenizer.encode(str(rest[0]["content"]))
        for _ in range(_TRIES):
            over = max(self._length((*system, *rest), answer, tools) for answer in answers) - self.max_length
            if over >= len(words):
                return
            words = words[over:]
            text = self.tokenizer.decode(words).lstrip("\ufffd")  # the rest of a character that was cut
            first: Turn = {**rest[0], "content": text.lstrip()}
            if not first["content"]:
                return
            rest = (first, *rest[1:])
            yield (*system, *rest)

    def _length(self, prompt: Turns, answer: Turns, tools: Tools) -> int:
        if not answer:
            return len(self.encoder.prompt(prompt, tools))
        flags = learned_after(prompt, answer)
        return len(self.encoder.learn((*prompt, *answer), flags, tools).ids) - 1
