"""What a life's scoreboard is made of, as a recipe says it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field, PositiveInt

from linnet.config import Section


class ScoreboardSettings(Section):
    """What is measured after every stage, on items that no stage learns from.

    `items` is the most that a suite takes of its held-out items, the same ones every time. `prompts` are
    answered by every stage, so that a person sees what each changed. `judge` is a model (a checkpoint or a
    stock folder) that judges refusals by yes or no; by default they are judged by rule.
    """

    items: PositiveInt = 200
    prompts: list[str] = Field(default=["Who are you?", "What is seven plus five?", "Tell me a short story."])
    max_new_tokens: PositiveInt = 128
    judge: str | None = None

    habits: ClassVar[Mapping[str, str]] = {"limit": "write 'items'", "num_samples": "write 'items'"}
