"""Turns of a conversation as the text a model was trained on: the Jinja template that a checkpoint carries.

A stock folder keeps it in `chat_template.jinja`, or as `chat_template` in `tokenizer_config.json`.
Templates are programs from strangers, so they run in Jinja's sandbox, with the names that
transformers gives them.

A template gives text, and text does not say who wrote it. Two things must not get lost on the way to
tokens: which words are the assistant's (only these are learned), and which special tokens are the
template's own (a user may write `<|im_start|>`; that must stay text). So `render_marked` leaves marks
in the text, noncharacters of Unicode that no text may contain, and chat_tokens.py reads them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Any, NoReturn

from jinja2 import TemplateError, nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from linnet.config import RequestError

Message = dict[str, str]  # {"role": "user", "content": "..."}; one with tools may hold more

BROKEN, OPEN, CLOSE = "\ufdd0", "\ufdd1", "\ufdd2"
"""Marks: between the characters of a special token's name that the template did not write; where what
the assistant says begins, and where it ends."""

_MARKS = re.compile(f"[{BROKEN}{OPEN}{CLOSE}]")

CHATML = """\
{%- for message in messages -%}
  {{- '<|im_start|>' + message['role'] + '\\n' -}}
  {%- if message['role'] == 'assistant' -%}
    {%- generation -%}{{- message['content'] + '<|im_end|>' -}}{%- endgeneration -%}
  {%- else -%}
    {{- message['content'] + '<|im_end|>' -}}
  {%- endif -%}
  {{- '\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
  {{- '<|im_start|>assistant\\n' -}}
{%- endif -%}
"""
"""ChatML as SmolLM, Qwen and many others write it, for a vocabulary with `<|im_start|>` and `<|im_end|>`."""

PLAIN = """\
{{- eos_token -}}
{%- for message in messages -%}
  {{- message['role'] | capitalize + ':\\n' -}}
  {%- if message['role'] == 'assistant' -%}
    {%- generation -%}{{- message['content'] + eos_token -}}{%- endgeneration -%}
  {%- else -%}
    {{- message['content'] + '\\n' -}}
  {%- endif -%}
  {{- '\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
  {{- 'Assistant:\\n' -}}
{%- endif -%}
"""
"""For a vocabulary without ChatML's tokens: roles in ordinary words, EOS as the end of a turn, and one EOS
that opens the text as it opens documents in pretraining. Nothing is added to the vocabulary, so no
embedding is resized and the model stays what every tool can load. Its price: who speaks is told by
words that a user can write too; only the end of a turn cannot be forged."""

NAMED = {"chatml": CHATML, "plain": PLAIN}


class RefusedByTemplate(RequestError):
    """The template cannot write these messages."""


class ChatTemplate:
    """A conversation's form.

    Args:
        source: the Jinja template.
        special: the names of special tokens that templates use (`bos_token`, `eos_token` …).
        where: the file it came from, for errors.
        today: the date that a template which writes one is told, by default the day of rendering.

    Raises:
        RequestError: when it is not a Jinja template.
    """

    def __init__(self, source: str, special: dict[str, str], where: str, today: date | None = None) -> None:
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols", _Generation]
        )
        environment.globals["raise_exception"] = _refuse
        environment.globals["strftime_now"] = self._strftime
        environment.filters["tojson"] = lambda value, **kw: json.dumps(value, ensure_ascii=False, **kw)
        self.source, self.where, self.today = source, where, today
        self.writes_date = False  # known once it has been rendered
        self._special = special
        try:
            self._template = environment.from_string(source)
            extensions = environment.parse(source).find_all(nodes.ExtensionAttribute)
            self.has_generation = any(node.name == "_marked" for node in extensions)
        except TemplateError as error:
            raise RequestError(f"the chat template is broken ({error})", where, "restore the file") from None

    @classmethod
    def load(cls, folder: Path) -> ChatTemplate | None:
        """The template of a model folder, or None when it has none."""
        config_file = folder / "tokenizer_config.json"
        config: dict[str, Any] = {}
        if config_file.exists():
            config = json.loads(config_file.read_text(encoding="utf-8"))
            if not isinstance(config, dict):
                raise RequestError("this is not a JSON object", str(config_file), "restore the file")
        found = source_in(folder, config)
        if found is None:
            return None
        names = ("bos_token", "eos_token", "pad_token", "unk_token")
        special = {name: _text(config[name]) for name in names if config.get(name)}
        return cls(found[0], special, str(found[1]))

    def render(self, messages: Sequence[Mapping[str, Any]], add_generation_prompt: bool = True) -> str:
        """The conversation as text, special tokens by their names.

        Raises:
            RefusedByTemplate: when the template refuses these messages.
        """
        return _MARKS.sub("", self._render([dict(message) for message in messages], add_generation_prompt))

    def render_marked(
        self,
        messages: Sequence[Mapping[str, Any]],
        add_generation_prompt: bool,
        special: re.Pattern[str],
    ) -> str:
        """The conversation as text with marks (BROKEN, OPEN, CLOSE).

        Args:
            special: finds the names of special tokens; those in the messages are broken up by marks.

        Raises:
            RefusedByTemplate: when the template refuses these messages.
        """
        return self._render([broken_up(message, special) for message in messages], add_generation_prompt)

    def _render(self, messages: list[Any], add_generation_prompt: bool) -> str:
        try:
            return self._template.render(
                messages=messages, tools=None, documents=None,
                add_generation_prompt=add_generation_prompt, **self._special,
            )  # fmt: skip
        except (TemplateError, TypeError) as error:  # a template adds text to what is none
            raise RefusedByTemplate(f"the chat template refuses this ({error})", self.where) from None

    def _strftime(self, form: str) -> str:
        self.writes_date = True
        return (self.today or datetime.now()).strftime(form)


def source_in(folder: Path, config: Mapping[str, Any]) -> tuple[str, Path] | None:
    """The template that a folder holds, and its file; `config` is what tokenizer_config.json says."""
    file = folder / "chat_template.jinja"
    if file.exists():
        return file.read_text(encoding="utf-8"), file
    found = config.get("chat_template")
    if isinstance(found, list):  # several by name, as some older folders have them
        found = {each.get("name"): each.get("template") for each in found}.get("default")
    return (found, folder / "tokenizer_config.json") if isinstance(found, str) else None


class _Generation(Extension):
    """`{% generation %} … {% endgeneration %}` around what the assistant says, as transformers has it."""

    tags = {"generation"}  # noqa: RUF012 - Jinja's own way

    def parse(self, parser: Parser) -> nodes.Node:
        """The block, put between OPEN and CLOSE."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_marked"), [], [], body).set_lineno(line)

    def _marked(self, caller: Any) -> str:
        return f"{OPEN}{caller()}{CLOSE}"


def broken_up(value: Any, special: re.Pattern[str]) -> Any:
    """`value` with every special token's name in its texts broken up by marks, and no marks but these."""
    if isinstance(value, str):
        return special.sub(lambda found: BROKEN.join(found[0]), _MARKS.sub("\ufffd", value))
    if isinstance(value, Mapping):
        return {key: broken_up(inner, special) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [broken_up(inner, special) for inner in value]
    return value


def _text(token: Any) -> str:
    return token["content"] if isinstance(token, dict) else str(token)


def _refuse(message: str) -> NoReturn:
    raise TemplateError(message)
