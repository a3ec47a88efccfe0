"""What the assistant says, found in a template that does not mark it: what follows the prompt that asks for it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from linnet.config import RequestError
from linnet.text.template_inputs import CLOSE, OPEN, SpecialNames, shared_beginning


class UnstableTemplate(RequestError):
    """The template writes a turn otherwise once later ones follow, so what was said cannot be told apart."""


class UnaskedAnswer(UnstableTemplate):
    """The prompt for a last turn is not how the template writes it, so it is never asked for."""


@dataclass(frozen=True)
class Prefixes:
    """Puts marks where learned turns begin and end.

    where: the template's file. names: finds special tokens' names in marked text. special: breaks them up.
    """

    where: str
    names: re.Pattern[str]
    special: SpecialNames

    def learned(
        self,
        whole: str,
        messages: Sequence[Mapping[str, Any]],
        turns: Sequence[int],
        parts: Sequence[tuple[str, str]],
    ) -> str:
        """The marked text of a conversation, with OPEN and CLOSE about every learned turn.

        Args:
            whole: the conversation as the template writes it.
            messages: its turns.
            turns: the numbers of the learned ones.
            parts: of each of these the text of its prompt, and that of the conversation up to its end.

        Raises:
            UnstableTemplate: when a turn is not where it was when it was said.
        """
        found, at = [], 0
        for turn, (before, upto) in zip(turns, parts, strict=True):
            after = self._until(upto, whole, before, str(messages[turn]["content"]))
            if after is None:
                raise self._unstable(turn + 1, len(messages))
            begin, end = len(before), self._end(after, len(before))
            found += [whole[at:begin], OPEN, whole[begin:end], CLOSE]
            at = end
        return "".join([*found, whole[at:]])

    def _unstable(self, turn: int, turns: int) -> UnstableTemplate:
        if turn == turns:
            return UnaskedAnswer(
                "the chat template's prompt is not how it writes an answer", self.where,
                "give another chat_template, or give each answer its thoughts where the prompt opens them",
            )  # fmt: skip
        return UnstableTemplate(
            f"the chat template writes turn {turn} of {turns} otherwise when it is asked for than when it is history",
            self.where, "learn each turn by itself (turns: each), or give the template {% generation %} blocks",
        )  # fmt: skip

    def _until(self, after: str, whole: str, before: str, said: str) -> str | None:
        """The beginning of `whole` up to the end of a turn; None where it reads otherwise.

        Some templates end a conversation with a token of its own (Phi-3), which is not there once a turn
        follows: then the two agree up to the end of the turn, its words and its last special token included.
        """
        if not whole.startswith(after):
            shared = shared_beginning(after, whole)
            ends = [name.end() for name in self.names.finditer(shared, len(before))]
            after = shared[: ends[-1]] if ends else ""
            if self.special.broken_up(said).strip() not in after[len(before) :]:
                return None
        return after if after.startswith(before) else None

    def _end(self, after: str, begin: int) -> int:
        """Where the turn that begins at `begin` ends: with its last special token, if only space follows that."""
        ends = [name.end() for name in self.names.finditer(after, begin)]
        return ends[-1] if ends and not after[ends[-1] :].strip() else len(after)
