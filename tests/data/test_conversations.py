"""Datasets are recognised by their columns, every row is accounted for, and equal questions fall on one side."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from linnet.config import RequestError
from linnet.data.conversations.kinds import (
    Conversation,
    Kind,
    Pair,
    Problem,
    Unusable,
    content_of,
    question_of,
)
from linnet.data.conversations.reading import collect, gather, gives, read
from linnet.data.conversations.splitting import duplicates, overlap, split
from linnet.data.settings import Source

SAID = [{"role": "user", "content": "Hi?"}, {"role": "assistant", "content": "Hello."}]
SHAREGPT = [{"from": "human", "value": "Hi?"}, {"from": "gpt", "value": "Hello."}]
GO = {"role": "assistant", "content": "Go."}
ASSISTANT = [{"role": "assistant", "content": "Hello."}]
HH = "\n\nHuman: Hi?\n\nAssistant: Yes?\n\nHuman: More.\n\nAssistant: "


def one(row: dict[str, Any], kind: Kind) -> Any:
    (item,) = read(row, kind)[1]
    return item


def turns(messages: Any) -> list[tuple[str, str]]:
    return [(turn["role"], turn["content"]) for turn in messages]


@pytest.mark.parametrize(
    ("row", "schema", "prompt"),
    [
        ({"messages": SAID}, "messages", "Hi?"),
        ({"conversations": SAID}, "conversations", "Hi?"),
        ({"conversations": SHAREGPT}, "conversations", "Hi?"),
        ({"instruction": "Hi?", "input": "", "output": "Hello."}, "instruction/output", "Hi?"),
        ({"instruction": "Do", "input": "This.", "output": "Hello.", "text": "x"}, "instruction/output", "Do\n\nThis."),
        ({"instruction": "Hi?", "context": "", "response": "Hello.", "category": "x"}, "instruction/output", "Hi?"),
        ({"prompt": "Hi?", "completion": "Hello."}, "prompt/completion", "Hi?"),
        ({"prompt": SAID[:1], "completion": ASSISTANT}, "prompt/completion", "Hi?"),
        ({"prompt": "Hi?", "completion": "Hello.", "label": True}, "prompt/completion", "Hi?"),
        ({"question": "Hi?", "answer": "Hello.", "label": 1, "document_title": "x"}, "question/answer", "Hi?"),
        ({"question": "Hi?", "answer": "Hello.", "label": "harmless"}, "question/answer", "Hi?"),
        ({"context": "A tale.", "question": "Hi?", "answer": "Hello."}, "question/answer", "A tale.\n\nHi?"),
        ({"question": "Hi?", "best_answer": "Hello.", "correct_answers": ["Hello."], "incorrect_answers": ["No."]},
         "question/answer", "Hi?"),
        ({"problem": "Hi?", "solution": "Hello.", "answer": "7"}, "question/answer", "Hi?"),
        ({"prompt": "Hi?", "chosen": "Hello.", "rejected": "Go."}, "chosen/rejected", "Hi?"),
        ({"messages": None, "prompt": "Hi?", "completion": "Hello."}, "prompt/completion", "Hi?"),
        ({"messages": SAID[:1], "question": "Hi?", "answer": "Hello."}, "question/answer", "Hi?"),
    ],
)  # fmt: skip
def test_conversations_are_recognised(row: dict[str, Any], schema: str, prompt: str) -> None:
    name, (item,) = read(row, "conversation")
    assert name == schema
    assert isinstance(item, Conversation)
    assert turns(item.messages) == [("user", prompt), ("assistant", "Hello.")]
    assert item.learned == (False, True)


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "Hi?", "chosen": "Hello.", "rejected": "Go."},
        {"question": "Hi?", "chosen": "Hello.", "rejected": "Go.", "system": ""},
        {"prompt": SAID[:1], "chosen": "Hello.", "rejected": "Go."},
        {"prompt": SAID[:1], "chosen": ASSISTANT, "rejected": [GO]},
        {"prompt": "Hi?", "chosen": SAID, "rejected": [SAID[0], GO], "messages": SAID},
        {"chosen": SAID, "rejected": [SAID[0], GO]},
        {"chosen": "\n\nHuman: Hi?\n\nAssistant: Hello.", "rejected": "\n\nHuman: Hi?\n\nAssistant: Go."},
        {"prompt": "\n\nHuman: Hi?\n\nAssistant:", "chosen": "Hello.", "rejected": "Go."},
        {"question": "Hi?", "correct_answers": ["Hello."], "incorrect_answers": ["Go."], "best_answer": "x"},
    ],
)  # fmt: skip
def test_pairs_are_recognised(row: dict[str, Any]) -> None:
    pair = one(row, "pair")
    assert isinstance(pair, Pair)
    assert turns(pair.prompt) == [("user", "Hi?")]
    assert (turns(pair.chosen), turns(pair.rejected)) == ([("assistant", "Hello.")], [("assistant", "Go.")])


def test_a_prompt_within_both_answers_is_what_they_share() -> None:
    pair = one({"chosen": HH + "So.\n\nBut: Human", "rejected": HH + "No."}, "pair")
    assert turns(pair.prompt) == [("user", "Hi?"), ("assistant", "Yes?"), ("user", "More.")]
    assert turns(pair.chosen) == [("assistant", "So.\n\nBut: Human")]
    with pytest.raises(Unusable, match="not the assistant's"):
        one({"chosen": HH + "So.", "rejected": HH.replace("More.", "Less.") + "So."}, "pair")


def test_wrong_answers_are_each_set_against_a_right_one() -> None:
    row = {
        "question": "Q",
        "correct": ["r1", "r2"],
        "incorrect": ["w1", "w2", "w3"],
        "answer": "r1",
        "category": "c",
    }
    name, pairs = read(row, "pair")
    sides = [(p.chosen[0]["content"], p.rejected[0]["content"]) for p in pairs if isinstance(p, Pair)]
    assert sides == [("r1", "w1"), ("r2", "w2"), ("r1", "w3")]
    assert name == "correct/incorrect"


@pytest.mark.parametrize(
    ("row", "answer"),
    [
        ({"prompt": "Hi?", "answer": "7"}, "7"),
        ({"prompt": SAID[:1], "solution": "so 7"}, "so 7"),
        ({"prompt": "Hi?", "ground_truth": 7, "answer": "long"}, "7"),
        ({"question": "Hi?", "answer": "so\n#### 7", "final": "7"}, "7"),
        ({"messages": SAID, "answer": "7"}, "7"),
        ({"prompt": "Hi?", "test_list": ["assert f()"]}, None),
        ({"prompt": "Hi?", "label": "harmful"}, None),
    ],
)
def test_problems_are_recognised_and_keep_their_columns(row: dict[str, Any], answer: str | None) -> None:
    problem = one(row, "problem")
    assert isinstance(problem, Problem)
    assert turns(problem.prompt) == [("user", "Hi?")]
    assert problem.answer == answer
    assert problem.columns == {k: v for k, v in row.items() if k not in ("prompt", "question", "messages")}


@pytest.mark.parametrize("answer", [2, "C", "x3"])
def test_choices_are_lettered(answer: Any) -> None:
    row = {"question": "Which?", "choices": ["x1", "x2", "x3"], "answer": answer}
    assert turns(one(row, "conversation").messages) == [
        ("user", "Which?\nA. x1\nB. x2\nC. x3"), ("assistant", "C. x3")
    ]  # fmt: skip
    assert one(row, "problem").answer == "C"


def test_only_what_the_row_says_is_learned() -> None:
    weighed = [
        {"from": "system", "value": "Be kind.", "weight": None},
        {"from": "human", "value": "a", "weight": 0.0},
        {"from": "gpt", "value": "b", "weight": 0.0},
        {"from": "human", "value": "c", "weight": 0.0},
        {"from": "gpt", "value": "d", "weight": 1.0},
        {"from": "human", "value": "bye", "weight": 0.0},
    ]
    item = one({"conversations": weighed}, "conversation")
    assert item.learned == (False, False, False, False, True)  # and what follows it is left off
    assert turns(item.messages)[0] == ("system", "Be kind.")
    history = {"prompt": [*SAID, {"role": "user", "content": "More"}], "completion": "Sure."}
    assert one(history, "conversation").learned == (False, False, False, True)


def test_system_columns_come_first() -> None:
    row = {"system_prompt": "Be kind.", "question": "Hi?", "response": "Hello."}
    assert turns(one(row, "conversation").messages)[0] == ("system", "Be kind.")
    assert turns(one({"system": "S", "question": "Q", "chosen": "a", "rejected": "b"}, "pair").prompt)[0] == (
        "system",
        "S",
    )
    assert [t["role"] for t in one({"messages": SAID, "system": "S"}, "conversation").messages] == [
        "system",
        "user",
        "assistant",
    ]


def test_rows_of_no_use_are_counted_by_their_reason() -> None:
    rows: list[dict[str, Any]] = [
        {"messages": SAID},
        {"messages": None},
        {"messages": []},
        {"messages": SAID[:1]},
        {"messages": [SAID[0], {"role": "assistant", "content": None}]},
        {"messages": [SAID[0], {"role": "assistant", "content": " \n"}]},
        {"messages": [SAID[0], {"role": "judge", "content": "x"}]},
        {"messages": [{"content": "x"}]},
        {"messages": "Hi?"},
        {"messages": [SAID[0], {"role": "assistant", "content": [{"type": "image"}]}]},
        {"messages": [{"role": "system", "content": ""}, *SAID]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "Hi?"}]}, SAID[1]]},
        {"question": "Q", "answer": "A", "label": 0},
        {"question": "Q", "answer": ""},
        {"prompt": 5.5, "completion": True},
        {},
    ]
    found = collect(rows, "conversation", "rows")
    assert found.rows == len(rows)
    assert len(found.items) == 3
    assert found.unusable == {
        "no schema fits its columns": 2, "no turns": 1, "no turn of the assistant": 1, "an empty turn": 2,
        "a turn of an unknown role ('judge')": 1, "a turn without a role": 1,
        "its turns are not a list of objects": 1, "a turn that is not only text": 1,
        "labelled as no answer (label 0)": 1, "answer is empty": 1, "completion is not text": 1,
    }  # fmt: skip
    assert found.rows == found.schemas.total() + found.unusable.total()
    assert "left out: no schema fits its columns 2" in str(found)
    pairs = collect(
        [{"prompt": "q", "chosen": "a", "rejected": "b"}, {"prompt": "q", "chosen": "a", "rejected": "a"},
         {"prompt": "q", "chosen": "a", "rejected": None}, {"chosen": "a", "rejected": "b"}], "pair", "rows",
    )  # fmt: skip
    assert len(pairs.items) == 1
    assert pairs.unusable.total() == 3


def test_a_dataset_that_fits_nothing_is_told_what_would() -> None:
    with pytest.raises(RequestError) as caught:
        collect([{"text": "a", "url": "b"}] * 3, "conversation", "web.jsonl")
    line = str(caught.value)
    assert line.startswith("web.jsonl: none of 3 rows gives conversations; its columns are text, url")
    assert "columns that would: messages, conversations, instruction/output, prompt/completion" in line
    with pytest.raises(
        RequestError, match=r"its columns are messages \(it gives conversations\).*chosen/rejected"
    ):
        collect([{"messages": SAID}], "pair", "chat.jsonl")
    with pytest.raises(RequestError, match="mostly: answer is empty"):
        collect([{"question": "a", "answer": " "}], "conversation", "x")
    with pytest.raises(RequestError, match="no rows"):
        collect([], "conversation", "x")


def test_files_of_any_kind_are_read_with_all_their_columns(tmp_path: Path) -> None:
    rows = [
        {"messages": SAID, "topic": "a", "score": 1},
        {"messages": SAID[::-1][:1] + SAID, "topic": "b", "score": 5},
    ]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "b.csv").write_text('question,answer\n"Who, then?",Me\n')
    found = gather(Source(path=str(tmp_path / "a.jsonl"), filter="score > 3"), "conversation")
    assert [item.columns for item in found.items] == [{"topic": "b", "score": 5}]
    assert found.items[0] == Conversation((SAID[1], *SAID), (True, False, True))
    assert gather(Source(path=str(tmp_path / "b.csv")), "conversation").schemas == {"question/answer": 1}
    assert gives(Source(path=str(tmp_path / "b.csv"))) == {
        "conversation": ["question/answer"],
        "problem": ["question/answer"],
    }
    with pytest.raises(RequestError, match="score"):
        gather(Source(path=str(tmp_path / "b.csv"), filter="score > 3"), "conversation")


def test_parquet_is_read_with_all_its_columns(tmp_path: Path) -> None:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    rows = [
        {
            "conversations": [{**said, "weight": None} for said in SHAREGPT],
            "prompt": None,
            "completion": None,
        },
        {"conversations": None, "prompt": "Hi?", "completion": "Hello."},
    ]
    parquet.write_table(arrow.Table.from_pylist(rows), tmp_path / "x.parquet")
    found = gather(Source(path=str(tmp_path / "x.parquet")), "conversation")
    assert found.schemas == {"conversations": 1, "prompt/completion": 1}
    assert duplicates(found.items) == 1


@pytest.mark.parametrize(
    ("world", "kind"),
    [
        ("instruction", "conversation"),
        ("request", "conversation"),
        ("preference", "pair"),
        ("problem", "problem"),
    ],
)
def test_the_built_in_world_gives_every_kind(world: Any, kind: Kind) -> None:
    source = Source(builtin="world", documents=200)
    train, held = (gather(source, kind, split=split, world=world) for split in ("train", "validation"))
    assert len(train.items) == len(held.items) == 200
    assert not train.unusable
    assert overlap(train.items, held.items)[0] == 0
    if world == "request":
        assert {item.columns["label"] for item in train.items} == {"harmful", "harmless"}
    if world == "problem":
        assert all(isinstance(item, Problem) and item.answer for item in train.items)


def conversations(count: int) -> list[Conversation]:
    return [
        one({"prompt": f"Question {n % 400}?", "completion": f"Answer {n}."}, "conversation")
        for n in range(count)
    ]


def test_a_question_is_held_out_with_all_its_answers_in_every_stage() -> None:
    items = conversations(2000)
    train, held = split(items, 0.1)
    assert 100 < len(held) < 300
    assert overlap(train, held) == (0, 0)
    asked = {question_of(item) for item in held}
    pairs = [one({"prompt": f"Question {n}?", "chosen": "a", "rejected": "b"}, "pair") for n in range(400)]
    assert {question_of(pair) for pair in split(pairs, 0.1)[1]} == asked
    assert split(items[::-1], 0.1)[1] == held[::-1]  # whatever the order
    assert not split(items, 0.0)[1]


def test_overlap_and_duplicates_are_by_content() -> None:
    items = conversations(500)
    assert duplicates(items) == 0
    assert duplicates([*items, *items[:7]]) == 7
    assert overlap(items[:300], items[250:420]) == (50, 70)  # 400 and 401 … ask what 0 and 1 … asked
    other = one({"prompt": "Question 0?", "completion": "Answer 0.", "source": "elsewhere"}, "conversation")
    assert content_of(other) == content_of(items[0])


@pytest.mark.realdata
@pytest.mark.parametrize("folder", ["sft", "preferences", "safety", "qa", "math"])
def test_real_datasets_are_recognised(folder: str) -> None:
    root = os.environ.get("LINNET_REAL_DATA")
    if not root:
        pytest.skip("LINNET_REAL_DATA is not set")
    expected: dict[str, Kind] = {"preferences": "pair", "math": "problem"}
    for path in sorted((Path(root) / folder).iterdir()):
        kinds = gives(Source(path=str(path)))
        kind = expected.get(folder, "conversation" if "conversation" in kinds else "problem")
        found = gather(Source(path=str(path)), kind)
        assert len(found.items) >= 0.98 * found.rows, str(found)
