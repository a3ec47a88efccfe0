"""How conversations become examples, and what they must be like before a stage begins."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field, field_validator

from linnet.config import Section

TurnsLearned = Literal["all", "last", "each"]
TooLongTurns = Literal["drop", "cut", "refuse"]


class ChatSettings(Section):
    """The form in which a model is spoken to, and which words of a conversation it learns.

    `chat_template`: auto (the model's own, else ChatML where the vocabulary has its tokens, else plain), chatml,
    plain, or a Jinja file. `system` is said first in conversations that have no system turn. `turns`:
    all answers of a conversation are learned, only its last, or each by itself (one example an answer, as
    it is asked for when talking; for templates that write history otherwise). `too_long`: drop
    conversations that exceed the sequence, cut them (oldest exchanges first, then the beginning of the
    prompt; never an answer), or refuse the data. `today` is the date (2026-11-21) for templates that write
    one: a run that goes on tomorrow must see the same text.
    """

    chat_template: str = "auto"
    system: str | None = None
    turns: TurnsLearned = "all"
    too_long: TooLongTurns = "drop"
    today: str | None = None

    habits: ClassVar[Mapping[str, str]] = {
        "chat_template_path": "write 'chat_template' (it takes a path)",
        "template": "write 'chat_template'",
        "system_prompt": "write 'system'",
        "assistant_only_loss": "only the assistant's turns are ever learned; 'turns' says which of them",
        "completion_only_loss": "only the assistant's turns are ever learned; 'turns' says which of them",
        "train_on_inputs": "only the assistant's turns are ever learned; 'turns' says which of them",
        "mask_history": "write 'turns: last'",
        "truncation_mode": "write 'too_long': drop, cut or refuse",
    }

    @field_validator("today")
    @classmethod
    def _is_date(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                datetime.date.fromisoformat(value)
            except ValueError:
                raise ValueError(f"{value!r} is no date; write it as 2026-11-21") from None
        return value

    @property
    def date(self) -> datetime.date | None:
        """`today` as a date."""
        return None if self.today is None else datetime.date.fromisoformat(self.today)


class PreflightSettings(Section):
    """What the data may be like at most, as shares; beyond it a stage does not begin.

    Of rows: `max_unusable` (null, empty, of no known form). Of examples: `max_empty_masks` (nothing to
    learn), `max_unlearned_eos` (an answer whose end is not learned, after which a model never
    stops), `max_too_long` (dropped or cut). Of conversations: `max_duplicates` (exact). Of validation:
    `max_validation_overlap` (found in training word for word).
    """

    max_unusable: float = Field(default=0.2, ge=0, le=1)
    max_empty_masks: float = Field(default=0.0, ge=0, le=1)
    max_unlearned_eos: float = Field(default=0.0, ge=0, le=1)
    max_too_long: float = Field(default=0.2, ge=0, le=1)
    max_duplicates: float = Field(default=0.5, ge=0, le=1)
    max_validation_overlap: float = Field(default=0.0, ge=0, le=1)
