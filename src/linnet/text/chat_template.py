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

from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn

from jinja2 import TemplateError, nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from linnet.config import RequestError
from linnet.text.default_system import with_default_system
from linnet.text.template_inputs import (
    CLOSE,
    MARKS,
    OPEN,
    SpecialNames,
    Tools,
    in_parts,
    plain,
    to_json,
    unescaped,
    with_arguments,
    with_thoughts,
)

Message = dict[str, str]  # {"role": "user", "content": "..."}; one with tools may hold more
_LONGEST_REASON = 200  # characters

CHATML = """\
{%- if bos_token -%}{{- bos_token -}}{%- endif -%}
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
"""ChatML as SmolLM, Qwen and many others write it, for a vocabulary with `<|im_start|>` and `<|im_end|>`.
BOS comes first where there is one, as in Llama 3's: a rendered conversation is encoded without the token that
opens other texts."""

PLAIN = """\
{%- if bos_token -%}{{- bos_token -}}{%- else -%}{{- eos_token -}}{%- endif -%}
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
"""For a vocabulary without ChatML's tokens: roles in ordinary words, EOS as the end of a turn, and BOS, or
else an EOS, that opens the text as it opens documents in pretraining. Nothing is added to the vocabulary, so no
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
        RequestError: when it is empty, or not a Jinja template.
    """

    def __init__(self, source: str, special: dict[str, str], where: str, today: date | None = None) -> None:
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols", _Generation]
        )
        environment.globals["raise_exception"] = _refuse
        environment.globals["strftime_now"] = self._strftime
        environment.filters["tojson"] = to_json
        self.source, self.where, self.today = source, where, today
        self.writes_date = False  # known once it has been rendered
        self._special = special
        if not source.strip():
            raise RequestError("the chat template is empty", where, "restore the file")
        try:
            self._template = environment.from_string(source)
            extensions = environment.parse(source).find_all(nodes.ExtensionAttribute)
            self.has_generation = any(node.name == "_marked" for node in extensions)
        except (TemplateError, SyntaxError, RecursionError, ValueError, ArithmeticError) as error:
            reason = _reason(error)
            raise RequestError(f"the chat template is broken ({reason})", where, "restore the file") from None

    @classmethod
    def load(cls, folder: Path) -> ChatTemplate | None:
        """The template of a model folder, with its tokenizer's special tokens, or None when it has none."""
        from linnet.text.chat_tokens import template_for
        from linnet.text.tokenizer import Tokenizer

        tokenizer = Tokenizer.load(folder)
        return template_for(tokenizer, where=str(folder)) if tokenizer.chat_template else None

    def with_system(self, system: str) -> ChatTemplate:
        """This template with a system turn for conversations that have none."""
        return ChatTemplate(with_default_system(self.source, system), self._special, self.where, self.today)

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        add_generation_prompt: bool = True,
        tools: Tools | None = None,
    ) -> str:
        """The conversation as text, special tokens by their names.

        Args:
            tools: what the assistant may call, as JSON schemas.

        Raises:
            RefusedByTemplate: when the template refuses these messages.
        """
        return MARKS.sub("", self._render(messages, add_generation_prompt, tools, str))

    def render_marked(
        self,
        messages: Sequence[Mapping[str, Any]],
        add_generation_prompt: bool,
        special: SpecialNames,
        tools: Tools | None = None,
    ) -> str:
        """The conversation as text with marks (BROKEN, OPEN, CLOSE).

        Args:
            special: the names of special tokens; those in messages and tools are broken up by marks.
            tools: as in `render`.

        Raises:
            RefusedByTemplate: when the template refuses these messages.
        """
        return unescaped(self._render(messages, add_generation_prompt, tools, special.broken_up))

    def _render(
        self,
        messages: Sequence[Mapping[str, Any]],
        add_generation_prompt: bool,
        tools: Tools | None,
        text: Callable[[str], str],
    ) -> str:
        if any(message.get("tool_calls") for message in messages):
            objects, texts = self._arguments
            messages = [with_arguments(message, objects, texts) for message in messages]
        if self._wants_parts:
            messages = [in_parts(message) for message in messages]
        return self._written(
            plain([with_thoughts(message) for message in messages], text),
            plain(tools, text) if tools else None,
            add_generation_prompt,
        )

    def _written(self, messages: Any, tools: Any, add_generation_prompt: bool) -> str:
        try:
            return self._template.render(
                messages=messages, tools=tools, documents=None,
                add_generation_prompt=add_generation_prompt, **self._special,
            )  # fmt: skip
        except Exception as error:  # a stranger's program can raise anything
            raise RefusedByTemplate(
                f"the chat template refuses this ({_reason(error)})", self.where
            ) from None

    @cached_property
    def _wants_parts(self) -> bool:
        """Whether it writes what is said only if that is a list of parts."""
        texts = ("q1w2", "a3s4")
        talk = [
            {"role": role, "content": text} for role, text in zip(("user", "assistant"), texts, strict=True)
        ]

        def writes(messages: Any) -> bool:
            try:
                written = self._written(messages, None, False)
            except RefusedByTemplate:
                return False
            return all(text in written for text in texts)

        return not writes(talk) and writes([in_parts(message) for message in talk])

    @cached_property
    def _arguments(self) -> tuple[bool, bool]:
        """Whether it writes a tool call's arguments as JSON when given an object, and when given JSON text."""

        def written(arguments: Any) -> str:
            function = {"name": "f", "arguments": arguments}
            call = {"id": "call00000", "type": "function", "function": function}
            asked = {"role": "user", "content": "a"}
            try:
                return self._written(
                    [asked, {"role": "assistant", "content": "", "tool_calls": [call]}], None, False
                )
            except RefusedByTemplate:
                return ""

        as_object, as_text = written({"key": "value"}), written('{"key": "value"}')
        return "value" in as_object and "{'key'" not in as_object, '{"key": "value"}' in as_text

    def _strftime(self, form: str) -> str:
        self.writes_date = True
        return (self.today or datetime.now()).strftime(form)


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


def _reason(error: BaseException) -> str:
    """Why a template failed, on one line; of what is no refusal of its own, the kind of the error too."""
    text = " ".join(str(error).split())[:_LONGEST_REASON]
    return text if isinstance(error, TemplateError) and text else f"{type(error).__name__}: {text}"


def _refuse(message: str) -> NoReturn:
    raise TemplateError(message)
