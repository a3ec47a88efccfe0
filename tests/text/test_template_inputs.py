"""What a template is given: no text of a row becomes a special token, and forms that it cannot write are changed."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer as LibraryTokenizer

from linnet.config import RequestError
from linnet.text import Tokenizer, train_tokenizer
from linnet.text.chat_template import CHATML, ChatTemplate, RefusedByTemplate
from linnet.text.chat_tokens import ChatEncoder, template_for

TEXT = ["A fox lives in the old mill by the river. Who lives there?\nUser: Assistant: system user\n"] * 60
EVERYTHING = """\
{%- if tools %}{{- '<|im_start|>tools\\n' }}
{%- for tool in tools %}{{- tool | tojson }}{{- tool | tojson(ensure_ascii=True) }}{%- endfor %}{{- '<|im_end|>' }}
{%- endif %}
{%- for m in messages %}
{{- '<|im_start|>' + m.role + (m.name or '') + (m.channel or '') + '\\n' + (m.reasoning_content or '') + m.content }}
{%- for call in m.tool_calls or [] %}
{{- call | tojson }}{%- for key, value in call.function.arguments | items %}{{- key ~ value }}{%- endfor %}
{%- endfor %}{{- m.content | lower }}{{- '<|im_end|>' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant' }}{%- endif %}"""


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer(TEXT, 300)


def encoder(tokenizer: Tokenizer, source: str) -> ChatEncoder:
    return ChatEncoder(ChatTemplate(source, {}, "a template"), tokenizer)


def tool(name: str, **parameters: Any) -> dict[str, Any]:
    schema = {"type": "object", "properties": parameters}
    return {"type": "function", "function": {"name": name, "description": name, "parameters": schema}}


def called(arguments: Any) -> list[dict[str, Any]]:
    call = {"id": "call00000", "type": "function", "function": {"name": "f", "arguments": arguments}}
    return [{"role": "user", "content": "a"}, {"role": "assistant", "content": "", "tool_calls": [call]}]


@pytest.mark.parametrize("name", ["<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|IM_END|>"])
def test_no_text_of_a_conversation_or_a_tool_becomes_a_special_token(tokenizer: Tokenizer, name: str) -> None:
    chat = encoder(tokenizer, EVERYTHING)
    head, tail = name[:5], name[5:]
    attack = f"x{name}y"
    for text in (attack, name, head, tail, f"\\ufdd0 \\{name}"):
        other = tail if text == head else head if text == tail else text
        talk = [
            {"role": "system", "content": text, "name": other},
            {"role": "user", "content": text, "name": text, "channel": other},
            {"role": "assistant", "content": other, "reasoning_content": text, "tool_calls": [
                {"function": {"name": text, "arguments": {text: other, "list": [text, {text: text}]}}, text: text},
            ]},
            {"role": "tool", "content": text, "name": text, "tool_call_id": text},
        ]  # fmt: skip
        tools = [{**tool(text, **{text: {"description": text, "enum": [text]}}), text: text}]
        ids = chat.prompt(talk, tools)
        marks = {i: ids.count(i) for i in tokenizer.special_ids}
        start, end = tokenizer.id_of("<|im_start|>"), tokenizer.id_of("<|im_end|>")
        assert {i: n for i, n in marks.items() if n} == {start: len(talk) + 2, end: len(talk) + 1}
        assert tokenizer.decode(ids, skip_special=False) == chat.template.render(talk, True, tools)


def test_tools_are_given_as_transformers_gives_them(tokenizer: Tokenizer, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    tokenizer.with_chat(EVERYTHING).save(tmp_path)
    oracle = transformers.AutoTokenizer.from_pretrained(tmp_path)
    talk = [
        *called({"city": "Rome é", "days": [1, 2.5, None, True]}),
        {"role": "assistant", "content": "b", "reasoning": "so"},
    ]
    tools = [tool("weather", city={"type": "string", "enum": ["<b>", "é"]}, days={"type": "array"})]
    expected = oracle.apply_chat_template(talk, tools=tools, return_dict=True)["input_ids"]
    assert encoder(tokenizer, EVERYTHING).learn(talk, [False] * 3, tools).ids == expected


def test_a_template_sees_plain_data_only() -> None:
    seen = "{{ messages[0].when }} {{ messages[0].when.year }}{{ messages[0].sizes[0] }}"
    template = ChatTemplate(seen, {}, "x")
    message = {"role": "user", "content": "a", "when": datetime.date(2026, 11, 21), "sizes": (1,)}
    assert template.render([message]) == "<date> 1"


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("{{ arguments | tojson }}", '{"city": "Rome"}'),
        ("{{ arguments }}", '{"city": "Rome"}'),
        ("{{ '```' + arguments }}", '```{"city": "Rome"}'),
        ("{% for k, v in arguments | items %}{{ k ~ '=' ~ v }}{% endfor %}", "city=Rome"),
        ("{{ arguments if arguments is string else arguments | tojson }}", '{"city": "Rome"}'),
    ],
)
@pytest.mark.parametrize("given", [{"city": "Rome"}, '{"city": "Rome"}'])
def test_arguments_come_as_an_object_or_as_text_whichever_the_template_writes(
    source: str, expected: str, given: Any
) -> None:
    inner = f"{{% set arguments = call.function.arguments %}}{source}"
    whole = (
        f"{{% for m in messages %}}{{% for call in m.tool_calls or [] %}}{inner}{{% endfor %}}{{% endfor %}}"
    )
    assert ChatTemplate(whole, {}, "x").render(called(given)) == expected


def test_templates_that_read_parts_are_given_parts() -> None:
    parts = "{% for m in messages %}{% for part in m.content %}[{{ part.text }}]{% endfor %}{% endfor %}"
    assert ChatTemplate(parts, {}, "x").render(called({})[:1]) == "[a]"
    either = "{% for m in messages %}{{ m.content if m.content is string else 'parts' }}{% endfor %}"
    assert ChatTemplate(either, {}, "x").render(called({})[:1]) == "a"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("{{ m.content.index('zzz') }}", "ValueError: substring not found"),
        ("{{ 1 / (m.content | length - 1) }}", "ZeroDivisionError"),
        ("{{ {}['a'] + 'b' }}", "undefined|has no"),
        ("{{ '%d' | format(m.content) }}", "TypeError"),
        ("{{ m.content.encode('latin-1').decode('utf-8') }}", "Unicode"),
        ("{% for i in range(10 ** 9) %}{% endfor %}", "OverflowError: Range too big"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "RecursionError"),
        ("{{ m.content.__class__.__mro__ }}", "unsafe"),
        ("{{ raise_exception('no\n such role') }}", "no such role"),
    ],
)
def test_whatever_a_template_raises_is_its_refusal_on_one_line(body: str, reason: str) -> None:
    template = ChatTemplate("{% for m in messages %}" + body + "{% endfor %}", {}, "x.jinja")
    with pytest.raises(
        RefusedByTemplate, match=rf"x\.jinja: the chat template refuses this \(.*({reason})"
    ) as caught:
        template.render([{"role": "user", "content": "ä"}])
    assert "\n" not in caught.value.what


def test_a_template_that_only_writes_longer_texts_can_be_used(tokenizer: Tokenizer) -> None:
    """A plain question and answer of a letter each is not the last word on what it writes."""
    picky = CHATML.replace(
        "{%- for message", "{%- if messages[-1].content.index('is') %}{% endif %}{%- for message"
    )
    with_system = "{{- '' if messages[0].role == 'system' else raise_exception('who am I?') }}" + CHATML
    for source in (picky, with_system):
        assert encoder(tokenizer, source).stop_ids() == (0, tokenizer.id_of("<|im_end|>"))


def folder_with(tokenizer: Tokenizer, path: Path, template: Any) -> Path:
    tokenizer.save(path)
    config = json.loads((path / "tokenizer_config.json").read_text()) | {"chat_template": template}
    (path / "tokenizer_config.json").write_text(json.dumps(config))
    return path


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ([{"name": "rag", "template": "x"}], "its chat templates are named rag, and none default"),
        ([{"name": "default"}], "a list of something else"),
        (["{{ messages }}"], "a list of something else"),
        ([], "named nothing"),
        ({"tool_use": "x"}, "named tool_use"),
        (7, "chat_template is not text"),
        ([{"name": "default", "template": None}], "chat_template is not text"),
    ],
)
def test_a_bad_chat_template_in_the_configuration_is_one_line(
    tokenizer: Tokenizer, tmp_path: Path, given: Any, line: str
) -> None:
    folder = folder_with(tokenizer, tmp_path, given)
    for load in (Tokenizer.load, ChatTemplate.load):
        with pytest.raises(RequestError, match=rf"tokenizer_config\.json: .*{line}"):
            load(folder)


def test_templates_by_name_are_read_as_transformers_reads_them(tokenizer: Tokenizer, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    several = [{"name": "rag", "template": "no"}, {"name": "default", "template": CHATML}]
    folder = folder_with(tokenizer, tmp_path, several)
    talk = [{"role": "user", "content": "a"}]
    oracle = transformers.AutoTokenizer.from_pretrained(folder)
    loaded = ChatTemplate.load(folder)
    assert loaded is not None
    assert loaded.render(talk, False) == oracle.apply_chat_template(talk, tokenize=False)


def test_a_template_file_that_cannot_be_read_is_one_line(tokenizer: Tokenizer, tmp_path: Path) -> None:
    (tmp_path / "latin.jinja").write_bytes("é{{ messages }}".encode("latin-1"))
    (tmp_path / "empty.jinja").write_text(" \n")
    (tmp_path / "folder.jinja").mkdir()
    (tmp_path / "nested.jinja").write_text("{% if 1 %}" * 200 + "{% endif %}" * 200)
    for name, line in (("latin", "not UTF-8"), ("empty", "is empty"), ("folder", "cannot be read"),
                       ("nested", "is broken")):  # fmt: skip
        with pytest.raises(RequestError, match=rf"{name}\.jinja: .*{line}"):
            template_for(tokenizer, str(tmp_path / f"{name}.jinja"))
    for name in ("nowhere.jinja", "a\0b"):
        with pytest.raises(RequestError, match="there is no chat template"):
            template_for(tokenizer, name)
    tokenizer.save(tmp_path / "model")
    (tmp_path / "model" / "chat_template.jinja").write_bytes(b"\xff")
    with pytest.raises(RequestError, match="not UTF-8"):
        Tokenizer.load(tmp_path / "model")
    (tmp_path / "model" / "chat_template.jinja").unlink()
    (tmp_path / "model" / "tokenizer_config.json").write_text("[1")
    with pytest.raises(RequestError, match="not JSON"):
        ChatTemplate.load(tmp_path / "model")


def test_names_inside_longer_words_are_broken_up_and_nothing_is_lost() -> None:
    made = LibraryTokenizer.from_str(
        train_tokenizer(TEXT, 290, specials=("<|endoftext|>", "sop", "</s>")).to_json()
    )
    tokenizer = Tokenizer(made, "short", 0)
    chat = encoder(tokenizer, "{% for m in messages %}{{ m.content }}{% for c in m.tool_calls or [] %}"
                              "{{ c.function.arguments | tojson }}{% endfor %}{% endfor %}")  # fmt: skip
    talk = called({"unsopped": "so", "p": "</s"})
    talk[0]["content"] = "SOP sop so p </s> </ s>"
    ids = chat.prompt(talk)
    assert not {*ids} & {*tokenizer.special_ids}
    assert tokenizer.decode(ids) == 'SOP sop so p </s> </ s>{"unsopped": "so", "p": "</s"}'
