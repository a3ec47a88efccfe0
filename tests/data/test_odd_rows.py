"""Rows that are not what a simple reader expects: NaN, long integers, doubled names, and Arrow's own types."""

from __future__ import annotations

import datetime
import decimal
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from linnet.config import RequestError
from linnet.data.conversations.kinds import Conversation
from linnet.data.conversations.reading import Gathered, gather, rows
from linnet.data.settings import Source, source_of
from linnet.data.sources.documents import Tally, documents, texts

NAN = float("nan")


def source(path: Path, **given: Any) -> Source:
    return Source(path=str(path), **given)


def read(path: Path, **given: Any) -> list[str]:
    return list(texts(source(path, **given)))


def as_jsonl(path: Path, some: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in some))


def as_parquet(path: Path, some: list[dict[str, Any]]) -> None:
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(some), path)


WRITERS = {
    "a.jsonl": as_jsonl,
    "a.json": lambda path, some: path.write_text(json.dumps(some)),
    "a.parquet": as_parquet,
}


@pytest.mark.parametrize("name", WRITERS)
def test_nan_is_null_wherever_a_row_holds_it(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    scores = [NAN, 1.5, None]
    WRITERS[name](
        path,
        [
            {"text": f"text {i}", "score": score, "inner": {"score": score}, "all": [score, 2.0]}
            for i, score in enumerate(scores)
        ],
    )
    tally = Tally()
    found = documents(source(path, text_template="{score}: {text}"), tally=tally)
    assert [document.text for document in found] == ["1.5: text 1"]
    assert tally.without_text == 2
    assert (
        read(path, filter="score == None") == read(path, filter="inner.score is None") == ["text 0", "text 2"]
    )
    assert read(path, filter="all[0] is None") == ["text 0", "text 2"]
    assert read(path, filter="score != 0") == ["text 0", "text 1", "text 2"]
    held = list(rows(source(path)))
    assert [row["score"] for row in held] == [row["inner"]["score"] for row in held] == [None, 1.5, None]


@pytest.mark.parametrize("name", WRITERS)
def test_nan_is_no_answer(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    some = [{"question": f"What is {i}?", "answer": answer} for i, answer in enumerate([NAN, 3.0, None])]
    WRITERS[name](path, some)
    found = gather(source(path), "conversation")
    assert [item.messages[-1]["content"] for item in found.items if isinstance(item, Conversation)] == ["3.0"]
    assert found.unusable.total() == 2
    labelled = [{"question": "Is it?", "answer": "Yes.", "label": label} for label in (NAN, 1.0)]
    WRITERS[name](path, labelled)
    assert len(gather(source(path), "conversation").items) == 2


LONG = "7" * 5_000


@pytest.mark.parametrize(
    "write",
    [
        '{{"text": "{t}", "n": {n}}}\n{{"text": "b", "n": 1}}\n',
        '[{{"text": "{t}", "n": {n}}}, {{"text": "b", "n": 1}}]',
    ],
)
def test_an_integer_of_thousands_of_digits_is_read_as_its_digits(tmp_path: Path, write: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(write.format(t="a", n=LONG))
    assert read(path) == ["a", "b"]
    assert read(path, text_template="{n}") == [LONG, "1"]
    assert read(path, filter="n != None") == ["a", "b"]
    with pytest.raises(RequestError, match="cannot be worked out"):
        read(path, filter="n > 3")
    path.write_text(write.format(t="a", n="-1e999999"))
    assert read(path, filter="n < 0") == ["a"]


def messages(answer: str, **more: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": "Well?"}, {"role": "assistant", "content": answer, **more}]


def json_array(values: list[Any]) -> pyarrow.Array:
    texts = pyarrow.array([None if value is None else json.dumps(value) for value in values])
    return pyarrow.ExtensionArray.from_storage(pyarrow.json_(pyarrow.string()), texts)


def test_json_columns_of_parquet_are_read_as_the_same_rows_of_jsonl_are(tmp_path: Path) -> None:
    some = [messages("One."), messages("Two.", weight=1), messages("Three.", weight=0)]
    metas = [{"lang": "en", "score": NAN}, {"lang": "de", "score": [1]}, {"lang": "en", "score": "x"}]
    as_jsonl(
        tmp_path / "a.jsonl",
        [
            {"text": str(i), "messages": m, "meta": meta, "inner": {"meta": meta}}
            for i, (m, meta) in enumerate(zip(some, metas, strict=True))
        ],
    )
    turns = pyarrow.ListArray.from_arrays(
        pyarrow.array([0, 2, 4, 6]), json_array([t for m in some for t in m])
    )
    inner = pyarrow.StructArray.from_arrays([json_array(metas)], names=["meta"])
    table = pyarrow.table(
        {"text": ["0", "1", "2"], "messages": turns, "meta": json_array(metas), "inner": inner}
    )
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    assert list(rows(source(tmp_path / "a.parquet"))) == list(rows(source(tmp_path / "a.jsonl")))
    for path in (tmp_path / "a.jsonl", tmp_path / "a.parquet"):
        assert (
            read(path, filter="meta.lang == 'en'")
            == read(path, filter="inner.meta.lang == 'en'")
            == ["0", "2"]
        )
    gathered = [
        gather(source(path), "conversation") for path in (tmp_path / "a.jsonl", tmp_path / "a.parquet")
    ]
    assert gathered[0].items == gathered[1].items
    assert len(gathered[0].items) == 2


def test_a_value_of_a_json_column_that_is_none_is_told(tmp_path: Path) -> None:
    broken = pyarrow.ExtensionArray.from_storage(
        pyarrow.json_(pyarrow.string()), pyarrow.array(['{"a": ', "1"])
    )
    pyarrow.parquet.write_table(pyarrow.table({"text": ["a", "b"], "meta": broken}), tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet") == ["a", "b"]  # what is not needed is not read
    with pytest.raises(
        RequestError, match=r"a\.parquet, column 'meta': a value of this JSON column is not JSON"
    ):
        list(rows(source(tmp_path / "a.parquet")))


def test_types_of_arrow_become_what_json_would_have(tmp_path: Path) -> None:
    noon = datetime.datetime(2024, 5, 1, 12, tzinfo=datetime.UTC)
    columns = {
        "nanoseconds": pyarrow.array([1, 2**62], pyarrow.timestamp("ns")),
        "zoned": pyarrow.array([noon, None], pyarrow.timestamp("us", tz="UTC")),
        "far": pyarrow.array([10**8, 0], pyarrow.date32()),
        "times": pyarrow.array([[1], None], pyarrow.list_(pyarrow.time32("s"))),
        "price": pyarrow.array([decimal.Decimal("1.50"), None]),
        "whole": pyarrow.array([decimal.Decimal("150"), None], pyarrow.decimal128(12, 0)),
        "kind": pyarrow.array(["x", "y"]).dictionary_encode(),
        "large": pyarrow.array(["x", "y"], pyarrow.large_string()),
        "pair": pyarrow.array([[1.0, NAN], None], pyarrow.list_(pyarrow.float32(), 2)),
        "half": pyarrow.array([1.5, NAN], pyarrow.float32()).cast(pyarrow.float16()),
        "map": pyarrow.array(
            [[("a", 1.5), ("b", NAN)], None], pyarrow.map_(pyarrow.string(), pyarrow.float64())
        ),
        "nothing": pyarrow.nulls(2),
        "image": pyarrow.array([{"bytes": b"\xff", "path": "a.png"}, None]),
        "binary": pyarrow.array([b"\xff\x00", None]),
        "id": pyarrow.ExtensionArray.from_storage(
            pyarrow.uuid(), pyarrow.array([b"0" * 16, None], pyarrow.binary(16))
        ),
    }
    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"text": ["a", "b"], **columns}), path)
    first, second = rows(source(path))
    assert first["nanoseconds"] == "1970-01-01 00:00:00.000000001"
    assert first["zoned"].startswith("2024-05-01 12:00:00")
    assert (first["times"], second["times"]) == (["00:00:01.000"], None)
    assert (first["price"], first["whole"], second["price"]) == (1.5, 150, None)
    assert (first["kind"], first["large"]) == ("x", "x")
    assert (first["pair"], first["half"], second["half"]) == ([1.0, None], 1.5, None)
    assert first["map"] == {"a": 1.5, "b": None}
    assert first["image"] == {"bytes": b"\xff", "path": "a.png"}
    assert second["nothing"] is None
    assert read(path, filter="nanoseconds < '2000'") == ["a"]
    assert read(path, filter="map.a > 1 and price * 2 == 3") == ["a"]
    for name in columns.keys() - {"nanoseconds", "zoned", "far", "kind", "large", "nothing"}:
        with pytest.raises(RequestError, match="is not text"):
            read(path, text_field=name)


def doubled_struct() -> pyarrow.Array:
    return pyarrow.StructArray.from_arrays([pyarrow.array([1]), pyarrow.array([2])], names=["a", "a"])


def twice_named(path: Path) -> None:
    names = [pyarrow.array(["a"]), pyarrow.array(["b"])]
    pyarrow.parquet.write_table(pyarrow.Table.from_arrays(names, names=["text", "text"]), path)


Write = Callable[[Path], Any]


def content(text: str) -> Write:
    return lambda path: path.write_text(text)


DOUBLED: dict[str, tuple[str, Write, str]] = {
    "csv": ("a.csv", content("text,id,text\na,1,b\n"), r"a\.csv:1: two .* 'text'"),
    "jsonl": ("a.jsonl", content('{"text": "c"}\n{"text": "a", "text": "b"}'), r"a\.jsonl:2: two .* 'text'"),
    "inside": ("a.jsonl", content('{"text": "a", "y": {"x": 1, "x": 2}}'), r"a\.jsonl:1: two .* 'x'"),
    "array": ("a.json", content('[{"text": "a", "text": "b"}]'), r"a\.json: two .* 'text'"),
    "parquet": ("a.parquet", twice_named, r"a\.parquet: two .* 'text'"),
}


@pytest.mark.parametrize("case", DOUBLED)
def test_two_fields_of_one_name_are_refused(tmp_path: Path, case: str) -> None:
    name, write, message = DOUBLED[case]
    write(tmp_path / name)
    for look in (read, lambda path: list(rows(source(path)))):
        with pytest.raises(RequestError, match=message) as caught:
            look(tmp_path / name)
        assert "\n" not in caught.value.line()


def test_a_struct_with_two_fields_of_one_name_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"text": ["a"], "in": doubled_struct()}), path)
    with pytest.raises(RequestError, match="column 'in'"):
        list(rows(source(path)))


@pytest.mark.parametrize("line", ["<|endoftext|>", " \t<|endoftext|>  "])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_only_a_line_of_its_own_parts_documents(
    tmp_path: Path, line: str, end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    quoting = (
        "GPT-2 ends a text with <|endoftext|> and so do we.\nIts name is <|endoftext|>\n<|endoftext|> it is."
    )
    path = tmp_path / "a.txt"
    text = "\n".join([line, quoting, line, "Second", line, line, "Third", line])
    path.write_bytes(text.replace("\n", end).encode())
    for block in (1, 5, 1 << 16):
        monkeypatch.setattr("linnet.data.sources.reading._BLOCK", block)
        assert read(path) == [quoting, "Second", "Third"]
    path.write_bytes(f"{quoting}\nand on".replace("\n", end).encode())
    assert read(path) == [f"{quoting}\nand on"]  # nothing parts it


def test_a_quoted_separator_leaves_a_long_text_cut_at_blank_lines(tmp_path: Path) -> None:
    paragraphs = [f"Paragraph {i} on <|endoftext|> as GPT-2 has it. " + "word " * 60 for i in range(300)]
    path = tmp_path / "a.txt"
    path.write_text("\n\n".join(paragraphs))
    pieces = read(path)
    assert 3 < len(pieces) < 10
    assert "\n\n".join(pieces).split() == " ".join(paragraphs).split()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("id;text\n1;One, two\n", r"a\.csv:1: its fields seem to be separated by ';'; .*sep=';'"),
        ('"id";"text"\n1;"One, two"\n', r"a\.csv:1: its fields seem to be separated by ';'"),
        ("id\ttext\n1\tOne\n", r"a\.csv:1: its fields seem to be separated by tabs"),
        ("id, text\n1, One\n", r"a\.csv:2: there is no field 'text'; its fields are 'id', ' text'"),
        ('id,text\n1, "One"\n', r"a\.csv:2: spaces stand between its commas and its quotes; .*skipinitial"),
        ('id, text\n1, "One, two"\n', r"a\.csv:2: spaces stand between its commas and its quotes"),
        ('"id", "text"\n1,One\n', r"a\.csv:1: spaces stand between its commas and its quotes"),
    ],
)  # fmt: skip
def test_a_table_of_another_form_is_told(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(content)
    with pytest.raises(RequestError, match=message):
        read(path)


def test_tables_with_nameless_columns_or_blank_first_lines_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("\n\ntext,,\nOne,,\nTwo,,x\n")
    assert read(path) == ["One", "Two"]


def test_nan_alone_in_a_table_is_null_and_quotes_inside_a_text_stay(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('text\nOne\nnan\nNaN\nnan bread\n"Say ""Two"", ""3"""\n" ""4"", ""5"""\nBananas\n')
    tally = Tally()
    found = [document.text for document in documents(source(path), tally=tally)]
    assert found == ["One", "nan bread", 'Say "Two", "3"', '"4", "5"', "Bananas"]
    assert tally.without_text == 2


def test_utf_16_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes('{"text": "a"}'.encode("utf-16"))
    with pytest.raises(RequestError, match=r"a\.jsonl:1: this is UTF-16, not UTF-8; convert"):
        read(path)


def test_odd_characters_of_a_row_are_text(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('\ufeff{"text": "a\\u0000b"}\r\n{"text": "c \\ud800 d"}\r\n')
    assert read(path) == ["a\0b", "c \ufffd d"]
    path.write_text('{"text": "a"}\n' + "[" * 100_000 + "\n")
    with pytest.raises(RequestError, match=r"a\.jsonl:2: this line is not JSON \(nested too deep\)"):
        read(path)


def test_a_dataset_saved_to_disk_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "disk"
    (folder / "train").mkdir(parents=True)
    for name in ("state.json", "dataset_info.json", "data-00000-of-00001.arrow"):
        (folder / "train" / name).write_text("{\n}")
    for word in (folder, folder / "train"):
        with pytest.raises(RequestError, match=r"saved by save_to_disk; export it to parquet"):
            read(word)
    with pytest.raises(RequestError, match=r"files with \.arrow are not read; export it to parquet"):
        read(folder / "train" / "data-00000-of-00001.arrow")
    assert source_of(str(folder)).title == str(folder)


def test_gathered_rows_of_both_forms_say_the_same(tmp_path: Path) -> None:
    some = [{"question": f"{i}?", "answer": float(i), "label": 1.0 if i else NAN} for i in range(4)]
    found: list[Gathered] = []
    for name, write in WRITERS.items():
        write(tmp_path / name, some)
        found.append(gather(source(tmp_path / name), "conversation"))
    assert len({tuple(map(repr, one.items)) for one in found}) == 1
