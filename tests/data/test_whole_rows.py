"""Nothing of a row vanishes in silence: it is used, it is named as not learned, or the row is left out and counted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from linnet.config import RequestError
from linnet.data.conversations.kinds import Kind, Problem, Unusable, content_of
from linnet.data.conversations.preflight import Preflight, look_over
from linnet.data.conversations.reading import Gathered, collect, gather, read
from linnet.data.conversations.rendering import Renderer
from linnet.data.conversations.settings import ChatSettings, PreflightSettings
from linnet.data.settings import Source
from linnet.text import Tokenizer
from linnet.text.chat_template import CHATML, ChatTemplate

TOOLED = """\
{%- if tools %}{{- '<|im_start|>system\\n' }}
{%- for tool in tools %}{{- (tool | tojson) + '\\n' }}{%- endfor %}{{- '<|im_end|>\\n' }}{%- endif %}
{%- for m in messages %}{{- '<|im_start|>' + m.role + '\\n' }}
{%- if m.role == 'assistant' %}{%- generation %}
{%- if m.reasoning_content %}{{- '<think>' + m.reasoning_content + '</think>' }}{%- endif %}{{- m.content }}
{%- for call in m.tool_calls or [] %}{{- '<call>' + (call.function | tojson) + '</call>' }}{%- endfor %}
{{- '<|im_end|>' }}{%- endgeneration %}
{%- else %}{{- m.content + '<|im_end|>' }}{%- endif %}{{- '\\n' }}{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"""
LAST_THOUGHTS = TOOLED.replace("{%- if m.reasoning_content %}", "{%- if m.reasoning_content and loop.last %}")
WEATHER = {"type": "function", "function": {"name": "weather", "parameters": {"city": {"type": "string"}}}}
CALL = {"type": "function", "function": {"name": "weather", "arguments": {"city": "Rome"}}}
ASKED = {"role": "user", "content": "Weather in Rome?"}
SAID = {"role": "assistant", "content": "Sunny."}
CALLED: list[dict[str, Any]] = [
    ASKED, {"role": "assistant", "content": None, "tool_calls": [CALL]},
    {"role": "tool", "name": "weather", "content": "sun"}, SAID,
]  # fmt: skip


def one(row: dict[str, Any], kind: Kind = "conversation") -> Any:
    (item,) = read(row, kind)[1]
    return item


def said(item: Any) -> list[tuple[str, str]]:
    return [(turn["role"], turn["content"]) for turn in item.messages]


def renderer(tokenizer: Tokenizer, source: str = TOOLED, **settings: Any) -> Renderer:
    return Renderer(tokenizer, ChatTemplate(source, {}, "a template"), 2000, ChatSettings(**settings))


def flown(found: Gathered, made: Renderer) -> Preflight:
    render: Any = made.pairs if found.kind == "pair" else made.conversations
    return look_over([found], made, found.items, render(found.items))


@pytest.fixture(scope="module")
def oracle(tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Any:
    transformers = pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("tooled")
    tokenizer.with_chat(TOOLED).save(folder)
    return transformers.AutoTokenizer.from_pretrained(folder)


# --- tools -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["list", "text", "texts", "functions"])
def test_tools_beside_messages_are_learned_as_transformers_writes_them(
    tokenizer: Tokenizer, oracle: Any, form: str
) -> None:
    tools = {"list": [WEATHER], "text": json.dumps([WEATHER]), "texts": [json.dumps(WEATHER)],
             "functions": [WEATHER["function"]]}[form]  # fmt: skip
    row = {"messages": CALLED, ("functions" if form == "functions" else "tools"): tools}
    item = one(row)
    assert item.tools == (WEATHER,)
    (example,) = renderer(tokenizer).conversation(item)
    talk = [{**turn, "content": turn["content"] or ""} for turn in CALLED]
    expected = oracle.apply_chat_template(
        talk, tools=[WEATHER], return_dict=True, return_assistant_tokens_mask=True
    )
    assert example.tokens.tolist() == expected["input_ids"]
    assert example.learned.tolist() == [bool(flag) for flag in expected["assistant_masks"]]


def test_tools_beside_prompts_pairs_and_problems_reach_the_template(
    tokenizer: Tokenizer, oracle: Any
) -> None:
    made = renderer(tokenizer)
    prompt = oracle.apply_chat_template(
        [ASKED], tools=[WEATHER], add_generation_prompt=True, return_dict=True
    )["input_ids"]
    tools = {"tools": json.dumps([WEATHER])}
    completion = made.conversation(one({"prompt": ASKED["content"], "completion": "Sunny.", **tools}))[0]
    pair = made.pair(one({"prompt": [ASKED], "chosen": [CALLED[1]], "rejected": "No.", **tools}, "pair"))
    problem = made.problem(one({"question": ASKED["content"], "answer": "sun", **tools}, "problem"))
    assert pair is not None
    assert problem is not None
    assert problem.ids == prompt
    for example in (completion, *pair):
        assert example.tokens[: len(prompt)].tolist() == prompt
        assert int(example.learned.argmax()) == len(prompt)
    assert not made.counts.refused + made.counts.unwritten


def test_tools_that_a_template_does_not_write_are_counted_and_said(tokenizer: Tokenizer) -> None:
    rows = [{"messages": [ASKED, SAID], "tools": [WEATHER]}] * 3 + [{"messages": [ASKED, SAID]}]
    made = renderer(tokenizer, CHATML)
    found = flown(collect(rows, "conversation", "x"), made)
    assert made.counts.examples == 4
    assert made.counts.unwritten == {"tools": 3}
    assert "the chat template does not write, of so many examples: tools 3" in found.text(tokenizer, False)
    assert found.facts()["counts"]["unwritten"] == {"tools": 3}


def test_equal_words_with_other_tools_are_no_duplicates() -> None:
    both = [one({"messages": [ASKED, SAID], "tools": tools}) for tools in ([WEATHER], None)]
    assert content_of(both[0]) != content_of(both[1])


@pytest.mark.parametrize("tools", ["a hammer", ["a hammer"], [3], "[{", "{}x"])
def test_tools_that_are_none_make_a_row_unusable(tools: Any) -> None:
    with pytest.raises(Unusable, match="tools are not a list of objects"):
        one({"messages": [ASKED, SAID], "tools": tools})


def test_nulls_that_align_the_structs_of_a_table_are_not_learned(tmp_path: Path) -> None:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    calls = [
        {"name": "weather", "arguments": {"city": "Rome"}},
        {"name": "clock", "arguments": {"zone": "CET"}},
    ]
    rows: list[dict[str, Any]] = [
        {"messages": [ASKED, {"role": "assistant", "content": None, "tool_calls": [{"function": call}]}],
         "tools": [{"function": {"name": call["name"], "parameters": dict.fromkeys(call["arguments"], "string")}}]}
        for call in calls
    ]  # fmt: skip
    parquet.write_table(arrow.Table.from_pylist(rows), tmp_path / "x.parquet")
    (tmp_path / "x.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    table, lines = (
        gather(Source(path=str(tmp_path / name)), "conversation").items for name in ("x.parquet", "x.jsonl")
    )
    assert [item.tools for item in table] == [item.tools for item in lines]
    assert [item.messages for item in table] == [item.messages for item in lines]  # type: ignore[union-attr]
    null = {**CALL, "function": {"name": "weather", "arguments": {"city": None}}}  # and this one was meant
    row = {"messages": [ASKED, {**SAID, "tool_calls": [null]}]}
    (tmp_path / "x.jsonl").write_text(json.dumps(row) + "\n")
    (item,) = gather(Source(path=str(tmp_path / "x.jsonl")), "conversation").items
    assert item.messages[1]["tool_calls"] == [null]  # type: ignore[union-attr]


# --- messages ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["reasoning_content", "thinking", "reasoning"])
def test_thoughts_are_learned_where_the_template_writes_them_and_refused_where_not(
    tokenizer: Tokenizer, key: str
) -> None:
    rows = [{"messages": [ASKED, {**SAID, key: "Rome is dry."}]}, {"messages": [ASKED, {**SAID, key: None}]}]
    items: Any = collect(rows, "conversation", "x").items
    (with_thoughts, _) = (made := renderer(tokenizer)).conversations(items)
    learned = tokenizer.decode(with_thoughts.tokens[with_thoughts.learned].tolist())
    assert learned.startswith("<think>Rome is dry.</think>Sunny.")
    plain = renderer(tokenizer, CHATML)
    assert len(plain.conversations(items)) == 1
    (reason,) = plain.counts.refused
    assert reason == "it has thoughts (reasoning_content), which the chat template does not write"
    assert not made.counts.refused
    found = flown(collect(rows * 9, "conversation", "x"), renderer(tokenizer, CHATML))
    assert found.shares["unusable"] == 0.5
    assert f"not learned: {reason} 9" in found.text(tokenizer, False)
    with pytest.raises(RequestError, match="thoughts"):
        found.check(PreflightSettings(max_duplicates=1))


def test_thoughts_of_earlier_answers_are_learned_or_counted(tokenizer: Tokenizer) -> None:
    talk = [ASKED, {**SAID, "thinking": "One."}, ASKED, {**SAID, "thinking": "Two."}]
    every = renderer(tokenizer, LAST_THOUGHTS)
    assert not every.conversation(one({"messages": talk}))
    assert "turns=each" in next(iter(every.counts.refused))
    each = renderer(tokenizer, LAST_THOUGHTS, turns="each")
    texts = [
        tokenizer.decode(e.tokens[e.learned].tolist()) for e in each.conversation(one({"messages": talk}))
    ]
    assert texts == ["<think>One.</think>Sunny.", "<think>Two.</think>Sunny."]
    assert each.counts.unwritten == {"thoughts of earlier turns": 1}
    pair = {"prompt": [ASKED], "chosen": [{**SAID, "thinking": "a"}], "rejected": [SAID]}
    assert renderer(tokenizer, CHATML).pair(one(pair, "pair")) is None


def test_tool_calls_that_are_not_written_are_refused_though_the_template_names_them(
    tokenizer: Tokenizer,
) -> None:
    only_named = "{# tool_calls #}" + CHATML
    made = renderer(tokenizer, only_named)
    assert not made.conversation(one({"messages": CALLED}))
    assert "tool calls" in next(iter(made.counts.refused))


def test_what_else_a_message_says_is_counted_or_given_to_the_template(tokenizer: Tokenizer) -> None:
    talk = [
        {**ASKED, "name": "Ann", "mood": "glad", "timestamp": 12, "note": ""},
        {**SAID, "weight": 1, "id": None},
    ]
    made = renderer(tokenizer, CHATML)
    assert len(made.conversation(one({"messages": talk}))) == 1
    assert made.counts.unwritten == {"name": 1, "mood": 1, "timestamp": 1}
    named = renderer(
        tokenizer, CHATML.replace("message['role'] + '\\n'", "message['role'] + (message.name or '') + '\\n'")
    )
    (example,) = named.conversation(one({"messages": talk}))
    assert "<|im_start|>userAnn\n" in tokenizer.decode(example.tokens.tolist(), skip_special=False)
    assert named.counts.unwritten == {"mood": 1, "timestamp": 1}


@pytest.mark.parametrize("flag", [{"weight": 0}, {"weight": 0.0}, {"train": False}, {"training": False},
                                  {"weight": "0"}, {"loss": False}])  # fmt: skip
def test_a_turn_that_is_not_to_be_learned_is_not(flag: dict[str, Any]) -> None:
    assert one({"messages": [ASKED, {**SAID, **flag}, ASKED, SAID]}).learned == (False, False, False, True)
    with pytest.raises(Unusable, match="no turn of the assistant"):
        one({"messages": [ASKED, {**SAID, **flag}]})


@pytest.mark.parametrize(
    ("turn", "reason"),
    [
        ({"weight": 0.5}, r"of weight 0\.5"),
        ({"images": ["a.png"]}, "with images"),
        (
            {"content": [{"type": "text", "text": "a"}, {"type": "image", "text": None, "image": "x"}]},
            "not only text",
        ),
        ({"content": [{"type": "image_url", "text": "a", "image_url": {"url": "x"}}]}, "not only text"),
        ({"content": [{"type": "text", "text": "a", "image": b"x"}]}, "not only text"),
        ({"content": {"text": "a"}}, "not only text"),
        ({"content": [3]}, "not only text"),
        ({"tool_calls": "f(x)"}, "tool calls that are not objects"),
        ({"thinking": ["a"]}, "thoughts that are not text"),
    ],
)
def test_turns_that_cannot_be_learned_whole_are_unusable(turn: dict[str, Any], reason: str) -> None:
    with pytest.raises(Unusable, match=reason):
        one({"messages": [ASKED, {**SAID, **turn}]})


def test_parts_that_are_text_are_joined() -> None:
    parts = [{"type": "text", "text": "Sun", "image": None}, "ny", {"text": "."}]
    assert said(one({"messages": [ASKED, {**SAID, "content": parts}]}))[1] == ("assistant", "Sunny.")


@pytest.mark.parametrize(
    ("turns", "roles"),
    [
        ([{"from": "HUMAN", "value": "a"}, {"from": "Bing", "value": "b"}], "user assistant"),
        ([{"from": "system", "value": "s"}, {"from": "human", "value": "a"}, {"from": "chatgpt", "value": "b"}],
         "system user assistant"),
        ([{"role": "User", "content": "a"}, {"role": "ASSISTANT", "content": "b"}], "user assistant"),
        ([{"from": "human", "value": "a"}, {"from": "function_call", "value": json.dumps(CALL["function"])},
          {"from": "observation", "value": "sun"}, {"from": "gpt", "value": "b"}], "user assistant tool assistant"),
        ([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"},
          {"role": "assistant", "content": "c"}], "user assistant assistant"),
        ([{"role": "user", "content": "a"}, {"role": "system", "content": "s"},
          {"role": "assistant", "content": "c"}], "user system assistant"),
        ([ASKED, SAID, ASKED], "user assistant"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("as_text", [False, True])
def test_conversations_of_many_forms(turns: list[dict[str, Any]], roles: str, as_text: bool) -> None:
    for column in ("messages", "conversations"):
        item = one({column: json.dumps(turns) if as_text else turns})
        assert [turn["role"] for turn in item.messages] == roles.split()


def test_calls_of_many_forms_are_tool_calls() -> None:
    function = CALL["function"]
    for turn in (
        {"role": "assistant", "content": None, "function_call": function},
        {"role": "assistant", "content": None, "tool_calls": json.dumps([CALL])},
        {"from": "function_call", "value": json.dumps(function)},
    ):
        assert one({"messages": [ASKED, turn, SAID]}).messages[1]["tool_calls"] == [CALL]
    with pytest.raises(Unusable, match="not objects"):
        one({"messages": [ASKED, {"from": "function_call", "value": "weather(Rome)"}, SAID]})


@pytest.mark.parametrize(
    ("value", "reason"),
    [("[]", "no turns"), ("[{", "not a list of objects"), ("{}", "not a list"), ([], "no turns"), ("[1]", "not a list"),
     ([{"role": "narrator", "content": "x"}], "unknown role .'narrator'"), ([ASKED], "no turn of the assistant")],
)  # fmt: skip
def test_conversations_that_are_none_are_unusable(value: Any, reason: str) -> None:
    with pytest.raises(Unusable, match=reason):
        one({"messages": value})


# --- columns -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["pairs", "text", "turns"])
def test_a_history_is_what_was_said_before(form: str) -> None:
    history: Any = [["a", "b"], ["c", "d"]]
    if form == "text":
        history = json.dumps(history)
    if form == "turns":
        history = [
            {"role": role, "content": text}
            for role, text in zip(("user", "assistant") * 2, "abcd", strict=True)
        ]
    item = one({"instruction": "Go", "input": "on", "output": "e", "history": history, "system": "s"})
    assert [text for _, text in said(item)] == ["s", "a", "b", "c", "d", "Go\n\non", "e"]
    assert item.learned == (False, False, True, False, True, False, True)
    for kind, row in (("pair", {"instruction": "x", "chosen": "y", "rejected": "z"}),
                      ("problem", {"question": "x", "answer": "y"})):  # fmt: skip
        prompt = one({**row, "history": history}, kind).prompt  # type: ignore[arg-type]
        assert [turn["content"] for turn in prompt] == ["a", "b", "c", "d", "x"]
    assert len(one({"prompt": "x", "completion": "y", "history": []}).messages) == 2
    for wrong in ("a, b", [["a"]], [["a", None]], [["a", ""]], 3):
        with pytest.raises(Unusable, match="history"):
            one({"prompt": "x", "completion": "y", "history": wrong})


@pytest.mark.parametrize(
    ("row", "prompt"),
    [
        ({"instruction": "I", "input": "", "context": "C", "response": "R"}, "I\n\nC"),
        ({"instruction": "I", "input": "N", "context": "C", "response": "R"}, "I\n\nN\n\nC"),
        ({"instruction": "I", "input": 7, "output": "R"}, "I\n\n7"),
        ({"instruction": "I", "input": ["a", "b"], "output": "R"}, "I\n\na\n\nb"),
        ({"prompt": "P", "context": "C", "completion": "R"}, "C\n\nP"),
        ({"prompt": "P", "input": "P", "completion": "R"}, "P"),
        ({"prompt": [{"role": "user", "content": "P"}], "context": "C", "completion": "R"}, "C\n\nP"),
        ({"question": "Q", "context": "", "passage": "C", "answer": "R"}, "C\n\nQ"),
        ({"question": "Q", "context": ["a", "b"], "answer": "R"}, "a\n\nb\n\nQ"),
    ],
)
def test_what_a_question_is_about_is_said_with_it(row: dict[str, Any], prompt: str) -> None:
    assert said(one(row)) == [("user", prompt), ("assistant", "R")]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"instruction": "I", "input": {"a": 1}, "output": "R"}, "input is not text"),
        ({"instruction": "I", "output": {"a": 1}}, "output is not text"),
        ({"question": "Q", "context": {"text": "C"}, "answer": "R"}, "context is not text"),
        ({"question": "Q", "answer": "R", "system": {"a": 1}}, "system is not text"),
        ({"question": "Q", "answer": "R", "image": {"bytes": b"x"}}, "it has image"),
        ({"messages": [ASKED, SAID], "images": ["a.png"]}, "it has images"),
    ],
)
def test_objects_where_text_should_be_make_a_row_unusable(row: dict[str, Any], reason: str) -> None:
    with pytest.raises(Unusable, match=reason):
        one(row)
    assert collect([row, {"prompt": "a", "completion": "b"}], "conversation", "x").unusable.total() == 1


def test_an_input_belongs_to_a_pairs_prompt_too() -> None:
    pair = one({"instruction": "I", "input": "N", "chosen": "y", "rejected": "z"}, "pair")
    assert pair.prompt[0]["content"] == "I\n\nN"


def test_columns_that_are_not_learned_are_named() -> None:
    rows = [
        {"instruction": "a", "output": "b", "id": 3, "topic": "c", "empty": "", "system": "s", "history": []},
        {"messages": [{"role": "system", "content": "own"}, ASKED, SAID], "system_prompt": "s", "label": "x"},
    ]
    found = collect(rows, "conversation", "x")
    assert str(found).endswith("; columns that are not learned: id, topic, system_prompt")
    assert not collect([{"question": "a", "answer": "b", "tests": "c"}], "problem", "x").unread
    other = collect([{"prompt": "a", "completion": "b", "functions": ["sin", "cos"]}], "conversation", "x")
    assert other.unread == {"functions": 1}
    world = gather(Source(builtin="world", documents=3), "conversation")
    assert "not learned" not in str(world)


# --- labels ------------------------------------------------------------------------------------------------


def labelled(labels: list[Any], **row: Any) -> Gathered:
    row = row or {"question": "q", "answer": "a"}
    return collect([{**row, "label": label} for label in labels], "conversation", "x")


def test_a_label_of_0_says_no_answer_only_beside_labels_of_0_and_1() -> None:
    for labels in (
        [0, 1, 1],
        ["0", "1", "1"],
        [0.0, 1.0, 1.0],
        [False, True, True],
        ["False", "true", "True"],
    ):
        found = labelled(labels)
        assert (len(found.items), found.unusable.total(), found.schemas.total()) == (2, 1, 2)
        assert "labelled as no answer" in next(iter(found.unusable))
    for labels in ([0, 1, 2], ["0", "1", "5"], [0, 1, -1], ["false", "true", "half-true"]):
        assert len(labelled(labels).items) == 3
    for row in (
        {"instruction": "i", "output": "o"},
        {"prompt": "p", "response": "r"},
        {"problem": "p", "solution": "s"},
    ):
        assert len(labelled([0, 1, 1], **row).items) == 3
        assert len(labelled([False, True, True], **row).items) == 2
    problems = collect([{"question": "q", "answer": "a", "label": n} for n in (0, 1, 2)], "problem", "x")
    assert len(problems.items) == 3


def test_scores_and_ratings_leave_no_row_out() -> None:
    rows = [{"question": "q", "answer": "a", "score": n, "rating": n} for n in range(3)]
    found = collect(rows, "conversation", "x")
    assert len(found.items) == 3
    assert "score, rating" in str(found)


# --- nothing left ------------------------------------------------------------------------------------------


def test_when_no_example_is_left_the_line_says_why(tokenizer: Tokenizer) -> None:
    items: Any = collect([{"prompt": "a " * 50, "completion": "b"}], "conversation", "x")
    limits = PreflightSettings(max_too_long=1, max_unusable=1, max_empty_masks=1)
    held_out = look_over([items], renderer(tokenizer), [], [], items.items)
    with pytest.raises(
        RequestError, match=r"all questions are held out \(1 items\).*lower validation_fraction"
    ):
        held_out.check(limits)
    short = Renderer(tokenizer, ChatTemplate(CHATML, {}, "x"), 20)
    with pytest.raises(
        RequestError, match=r"no example is left of 1 \(too long 1\).*raise the sequence length"
    ):
        flown(items, short).check(limits)
    refusing = "{{ raise_exception('no') if messages[0].content | length > 9 else '' }}" + CHATML
    with pytest.raises(RequestError, match=r"refused by the chat template 1\); give another chat_template"):
        flown(items, renderer(tokenizer, refusing)).check(limits)
    opened = CHATML.replace("'<|im_start|>assistant\\n'", "'<|im_start|>assistant\\n<think>'")
    with pytest.raises(RequestError, match=r"^a template: the chat template's prompt is not how it writes"):
        flown(items, renderer(tokenizer, opened)).check(PreflightSettings())


def test_answers_that_are_never_asked_for_are_counted(tokenizer: Tokenizer) -> None:
    opened = CHATML.replace("'<|im_start|>assistant\\n'", "'<|im_start|>assistant\\n<think>'")
    made = renderer(tokenizer, opened)
    talk = [ASKED, SAID, ASKED, {**SAID, "content": "<think>so</think>Sunny."}]
    found = flown(collect([{"messages": talk}], "conversation", "x"), made)
    assert made.counts.unasked == 1
    assert "1 answers are not learned" in found.text(tokenizer, False)
    found.check(PreflightSettings())


@pytest.mark.parametrize("flag", [{"weight": 0}, {"weight": "0"}, {"train": False}])
def test_a_row_may_say_that_it_is_not_learned(flag: dict[str, Any]) -> None:
    kept = {"messages": [ASKED, SAID], "weight": 1}
    found = collect([kept, {"messages": [ASKED, SAID], **flag}], "conversation", "a")
    assert len(found.items) == 1
    assert sum(found.unusable.values()) == 1
    assert "a row of " in next(iter(found.unusable))


@pytest.mark.parametrize("none", ["null", "None", "[]", "", None, []])
def test_tools_that_are_none_are_no_tools(none: Any) -> None:
    found = collect([{"messages": [ASKED, SAID], "tools": none}], "conversation", "a")
    assert found.items[0].tools == ()
    assert not found.unread


@pytest.mark.parametrize("right", ["Rome", '["Rome", null]', ["Rome", "", None]])
def test_one_right_answer_is_an_answer_and_not_its_letters(right: Any) -> None:
    row = {"question": "The capital?", "correct_answers": right, "incorrect_answers": ["Paris", "Oslo"]}
    pairs = read(row, "pair")[1]
    assert [pair.chosen[0]["content"] for pair in pairs] == ["Rome", "Rome"]


@pytest.mark.parametrize("right", [5.5, True, {"a": "b"}])
def test_right_answers_that_are_no_list_end_in_no_traceback(right: Any) -> None:
    good = {"question": "Two?", "correct_answers": ["2"], "incorrect_answers": ["3"]}
    found = collect([good, {**good, "correct_answers": right}], "pair", "a")
    assert len(found.items) + sum(found.unusable.values()) == 2


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"choices": "red or blue", "answer": 0}, "choices are not a list"),
        ({"choices": ["red", "blue"], "answer": "green"}, "the answer is none of the choices"),
        ({"choices": ["red", "blue"], "ground_truth": "red"}, "it has choices"),
    ],
)
def test_a_problem_is_never_asked_without_its_choices(row: dict[str, Any], reason: str) -> None:
    with pytest.raises(Unusable, match=reason):
        read({"question": "Which?", **row}, "problem")


def test_choices_in_json_text_are_read() -> None:
    (problem,) = read({"question": "Which?", "choices": '["red", "blue"]', "answer": 1}, "problem")[1]
    assert isinstance(problem, Problem)
    assert problem.answer == "B"


@pytest.mark.parametrize("name", ["question", "answer", "context", "system"])
@pytest.mark.parametrize("value", [float("inf"), float("-inf")])
def test_an_infinite_number_is_no_text(name: str, value: float) -> None:
    with pytest.raises(Unusable, match=f"{name} is not a finite number"):
        read({"question": "q", "answer": "a", name: value}, "conversation")
