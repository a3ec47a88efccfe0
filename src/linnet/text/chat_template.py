"""Turns of a conversation as the text a model was trained on: the Jinja template that a checkpoint carries.

A stock folder keeps it in `chat_template.jinja`, or as `chat_template` in `tokenizer_config.json`.
Templates are programs from strangers, so they run in Jinja's sandbox, with the names that
transformers gives them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from jinja2 import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from linnet.config import RequestError

Message = dict[str, str]  # {"role": "user", "content": "..."}


class ChatTemplate:
    """A conversation's form.

    Args:
        source: the Jinja template.
        special: the names of special tokens that templates use (`bos_token`, `eos_token` …).
        where: the file it came from, for errors.

    Raises:
        RequestError: when it is not a Jinja template.
    """

    def __init__(self, source: str, special: dict[str, str], where: str) -> None:
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
        )
        environment.globals["raise_exception"] = _refuse
        environment.filters["tojson"] = lambda value, **kw: json.dumps(value, ensure_ascii=False, **kw)
        self._special, self._where = special, where
        try:
            self._template = environment.from_string(source)
        except TemplateError as error:
            raise RequestError(f"the chat template is broken ({error})", where, "restore the file") from None

    @classmethod
    def load(cls, folder: Path) -> ChatTemplate | None:
        """The template of a model folder, or None when it has none."""
        config_file, file = folder / "tokenizer_config.json", folder / "chat_template.jinja"
        config: dict[str, Any] = {}
        if config_file.exists():
            config = json.loads(config_file.read_text(encoding="utf-8"))
        if file.exists():
            source, where = file.read_text(encoding="utf-8"), file
        elif isinstance(config.get("chat_template"), str):
            source, where = config["chat_template"], config_file
        else:
            return None
        names = ("bos_token", "eos_token", "pad_token", "unk_token")
        special = {name: _text(config[name]) for name in names if config.get(name)}
        return cls(source, special, str(where))

    def render(self, messages: Sequence[Message], add_generation_prompt: bool = True) -> str:
        """The conversation as text, special tokens by their names.

        Raises:
            RequestError: when the template refuses these messages.
        """
        try:
            return self._template.render(
                messages=list(messages), add_generation_prompt=add_generation_prompt, **self._special
            )
        except TemplateError as error:
            raise RequestError(f"the chat template refuses this ({error})", self._where) from None


def _text(token: Any) -> str:
    return token["content"] if isinstance(token, dict) else str(token)


def _refuse(message: str) -> NoReturn:
    raise TemplateError(message)
