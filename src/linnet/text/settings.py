"""Which vocabulary a recipe's text is read with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, Field, PositiveInt, model_validator

from linnet.config import Section

TRAINED = "trained"


class TokenizerSettings(Section):
    """A tokenizer by name (gpt2, llama2, mistral), by path, by hub name, or one trained on the run's own text.

    `name: trained` learns a byte-level BPE of `vocab_size` tokens from at most `train_megabytes` of
    the first stage's training text.
    """

    name: str
    vocab_size: PositiveInt | None = None
    train_megabytes: float = Field(default=64.0, gt=0)
    revision: str | None = None

    habits: ClassVar[Mapping[str, str]] = {
        "path": "write 'name' (it takes a path too)",
        "tokenizer_name": "write 'name'",
        "tokenizer_name_or_path": "write 'name'",
        "type": "write 'name'",
    }

    @model_validator(mode="after")
    def _size_where_it_counts(self) -> TokenizerSettings:
        if self.name == TRAINED and self.vocab_size is None:
            raise ValueError("a trained tokenizer needs vocab_size; write for example vocab_size: 4096")
        if self.name != TRAINED and self.vocab_size is not None:
            raise ValueError(
                f"vocab_size is for a trained tokenizer; {self.name!r} has its own; leave it out"
            )
        return self


def _as_settings(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


TokenizerField = Annotated[TokenizerSettings, BeforeValidator(_as_settings)]
