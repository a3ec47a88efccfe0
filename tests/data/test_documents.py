from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
import zstandard

from linnet.config import RequestError
from linnet.data.settings import Source, source_of
from linnet.data.sources import reading
from linnet.data.sources.documents import PIECE_CHARACTERS, files_of, texts

STORIES = ["One morning\nTom woke up.", "Second: naïve café — “quoted” 日本語 🙂", "Third, the last."]


def read(path: Path, **given: object) -> list[str]:
    return list(texts(Source(path=str(path), **given)))


def as_separated(documents: list[str]) -> bytes:
    return "\n<|endoftext|>\n".join(documents).encode()


def as_lines(documents: list[str]) -> bytes:
    return b"".join(json.dumps({"text": text}).encode() + b"\n" for text in documents)


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "": lambda data: data,
    ".gz": gzip.compress,
    ".zst": zstandard.ZstdCompressor().compress,
}


@pytest.mark.parametrize("packing", PACKERS)
@pytest.mark.parametrize(
    ("kind", "write"), [(".txt", as_separated), (".jsonl", as_lines), (".json", as_lines)]
)
def test_documents_come_whole_and_in_order(tmp_path: Path, kind: str, write: Callable, packing: str) -> None:
    path = tmp_path / f"a{kind}{packing}"
    path.write_bytes(PACKERS[packing](write(STORIES)))
    assert read(path) == STORIES


@pytest.mark.parametrize("packing", [".gz", ".zst"])
def test_packed_members_in_a_row_are_one_text(tmp_path: Path, packing: str) -> None:
    path = tmp_path / f"a.jsonl{packing}"
    path.write_bytes(
        PACKERS[packing](as_lines(STORIES[:1])) + PACKERS[packing](as_lines(STORIES[1:])) + b"\0" * 512
    )
    assert read(path) == STORIES


@pytest.mark.parametrize("block", [1, 2, 3, 7, 64])
def test_reading_does_not_depend_on_where_blocks_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    monkeypatch.setattr(reading, "_BLOCK", block)
    for kind, write in ((".txt", as_separated), (".jsonl", as_lines)):
        for packing, pack in PACKERS.items():
            path = tmp_path / f"a{kind}{packing}"
            path.write_bytes(pack(write(STORIES).replace(b"\n", b"\r\n")))
            assert read(path) == STORIES


def test_a_mark_of_byte_order_and_carriage_returns_are_not_text(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("\ufeffFirst\r\nline<|endoftext|>\r\nSecond\r\n<|endoftext|>\r\n".encode())
    assert read(path) == ["First\nline", "Second"]


@pytest.mark.parametrize(
    "text", ["a<|endoftext|>b<|endoftext|>", "<|endoftext|>a\n<|endoftext|><|endoftext|>\nb  "]
)
def test_separators_make_no_empty_documents(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.txt"
    path.write_text(text)
    assert read(path) == ["a", "b"]


def test_a_long_text_is_cut_at_blank_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paragraphs = [f"Paragraph {i}. " + "word " * 60 + "end." for i in range(900)]
    path = tmp_path / "book.txt"
    path.write_text("\n\n".join(paragraphs))
    pieces = read(path)
    assert [part for piece in pieces for part in piece.split("\n\n")] == paragraphs
    assert all(PIECE_CHARACTERS <= len(piece) < 1.1 * PIECE_CHARACTERS for piece in pieces[:-1])
    monkeypatch.setattr(reading, "_BLOCK", 777)
    assert read(path) == pieces


@pytest.mark.parametrize("mark", ["\n", " ", ""])
def test_a_long_text_without_blank_lines_is_cut_and_loses_nothing(tmp_path: Path, mark: str) -> None:
    path = tmp_path / "flat.txt"
    text = mark.join(f"word{i}" for i in range(60_000))
    path.write_text(text)
    pieces = read(path)
    assert len(pieces) > 5
    assert mark.join(pieces) == text


def test_a_short_text_is_one_document(tmp_path: Path) -> None:
    path = tmp_path / "a.md"
    path.write_text("# Title\n\nBody\n\nMore\n")
    assert read(path) == ["# Title\n\nBody\n\nMore"]


def test_a_json_array_is_read_too(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    for indent in (None, 2):
        path.write_text("\n" + json.dumps([{"text": text, "id": 1} for text in STORIES], indent=indent))
        assert read(path) == STORIES
    path.write_text('[{"text": "a"},\n{"text": }]')
    with pytest.raises(RequestError, match=r"a\.json:2: this is not a JSON array"):
        read(path)
    path.write_text('[{"text": "a"}, {"text": 3}]')
    with pytest.raises(RequestError, match=r"a\.json, item 1: the field 'text' is not text"):
        read(path)


def test_half_a_surrogate_pair_becomes_text_that_can_be_written(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "a \\ud83d b"}\n{"text": "\\ud83d\\ude42"}\n')
    assert read(path) == ["a \ufffd b", "🙂"]


def test_only_rows_without_text_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(
        '{"text": "a"}\n\n{"text": "  "}\n{"text": null}\n{"text": "<|endoftext|>"}\n{"text": "b"}'
    )
    assert read(path) == ["a", "b"]


def test_a_separator_ends_a_row_but_one_inside_it_is_text(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(as_lines(["one<|endoftext|>", "GPT-2 writes <|endoftext|> at ends"]))
    assert read(path) == ["one", "GPT-2 writes <|endoftext|> at ends"]


def test_parquet_columns(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    table = pyarrow.table({"story": [*STORIES, None, " "] * 1000, "id": list(range(5000))})
    pyarrow.parquet.write_table(table, path, row_group_size=700)
    seen: list[int] = []
    assert list(texts(Source(path=str(path), text_field="story"), seen=seen.append)) == STORIES * 1000
    assert sum(seen) == path.stat().st_size
    with pytest.raises(RequestError, match="no column 'text'; its columns are story, id; set text_field"):
        read(path)
    with pytest.raises(RequestError, match="the field 'id' is not text"):
        read(path, text_field="id")
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(RequestError, match="not a whole parquet file"):
        read(path, text_field="story")


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz", "a.jsonl.zst"])
def test_what_was_read_adds_up_to_the_file(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(PACKERS[path.suffix if path.suffix != ".txt" else ""](as_lines(STORIES * 5000)))
    seen: list[int] = []
    list(texts(Source(path=str(path)), seen=seen.append))
    assert sum(seen) == path.stat().st_size


def test_folders_and_globs_are_read_in_the_order_of_their_paths(tmp_path: Path) -> None:
    for name in ("b.txt", "a.jsonl", "sub/c.txt.gz", "notes.pdf"):
        path = tmp_path / "corpus" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(PACKERS[path.suffix if path.suffix == ".gz" else ""](name.encode()))
    names = [path.name for path in files_of(Source(path=str(tmp_path / "corpus")))]
    assert names == ["a.jsonl", "b.txt", "c.txt.gz"]
    assert [path.name for path in files_of(Source(path=str(tmp_path / "corpus" / "**" / "*.txt*")))] == [
        "b.txt", "c.txt.gz",
    ]  # fmt: skip
    odd = tmp_path / "odd [1].txt"
    odd.write_text("x")
    assert files_of(Source(path=str(odd))) == [odd]


def test_at_most_so_many_documents(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(as_lines(STORIES) + b"this is never reached")
    assert read(path, documents=2) == STORIES[:2]
    assert len(list(texts(Source(builtin="world", documents=5)))) == 5


def test_the_world_s_validation_is_other_text() -> None:
    world = Source(builtin="world", documents=50)
    assert not set(texts(world)) & set(texts(world, "validation"))


def cut(data: bytes) -> bytes:
    return data[: len(data) * 2 // 3]


LONG = [f"{i} {story}" for i in range(5000) for story in STORIES]
BAD: dict[str, tuple[str, bytes, str]] = {
    "broken line": ("a.jsonl", as_lines(STORIES) + b'{"text": "x\n', r"a\.jsonl:4: this line is not JSON"),
    "not an object": ("a.jsonl", b'{"text": "a"}\n3\n', r"a\.jsonl:2: this is not a JSON object"),
    "wrong field": ("a.jsonl", b'{"story": "a", "id": 1}', r"l:1: there is no field 'text'; its fields are story, id"),
    "not text": ("a.jsonl", b'{"text": 5}', r"a\.jsonl:1: the field 'text' is not text"),
    "an object over lines": ("a.json", b'{\n"text": "a"\n}', r"a\.json:1: .*not JSON .*one JSON object a line"),
    "too deep": ("a.jsonl", b'{"text":' + b"[" * 100_000, r"a\.jsonl:1: this line is not JSON"),
    "binary": ("a.txt", b"GIF89a\x00\x01" + os.urandom(99), r"a\.txt:1: this is a binary file"),
    "utf-16": ("a.txt", "One\nTwo".encode("utf-16"), r"a\.txt:1: this is "),
    "latin-1": ("a.txt", b"fine\nfine\ncaf\xe9 au lait", r"a\.txt:3: this is not UTF-8 \(byte 0xe9\)"),
    "cut in a character": ("a.txt", "fine\ncafé".encode()[:-1], r"a\.txt:2: this is not UTF-8"),
    "cut gz": ("a.jsonl.gz", cut(gzip.compress(as_lines(LONG))), r"gz: the packed .* damaged \(it ends too early"),
    "cut gz text": ("a.txt.gz", cut(gzip.compress(as_separated(LONG))), r"a\.txt\.gz: the packed file is damaged"),
    "flipped gz": ("a.txt.gz", gzip.compress(b"a" * 99)[:-5] + b"12345", r"a\.txt\.gz: the packed file is damaged"),
    "not gz": ("a.txt.gz", b"just text", r"a\.txt\.gz: the packed file is damaged"),
    "cut zst": ("a.jsonl.zst", cut(PACKERS[".zst"](as_lines(LONG))), r"zst: the packed .* damaged \(it ends too early"),
    "not zst": ("a.txt.zst", b"just text", r"a\.txt\.zst: the packed file is damaged"),
    "not parquet": ("a.parquet", b"just text", r"a\.parquet: this is not a whole parquet file"),
    "empty parquet": ("a.parquet", b"", r"a\.parquet: this is not a whole parquet file"),
    "unknown kind": ("a.docx", b"x", r"a\.docx: files with \.docx are not read; give txt"),
    "packed tokens": ("a.bin.gz", b"x", r"a\.bin\.gz: files with \.bin\.gz are not read"),
    "token file": ("a.bin", b"xx", r"a\.bin: token files hold no text"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_a_file_that_is_not_what_it_claims_is_told_in_one_line(tmp_path: Path, case: str) -> None:
    name, content, message = BAD[case]
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(RequestError, match=message) as caught:
        read(path)
    assert "\n" not in caught.value.line()


@pytest.mark.parametrize("word", ["nothing.txt", "nothing/*.txt", "empty"])
def test_no_file_is_told(tmp_path: Path, word: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(RequestError, match=f"{word[:5]}.*: (there is no such file|no file matches)"):
        read(tmp_path / word)


@pytest.mark.parametrize("word", ["builtin:moon", ""])
def test_a_source_that_is_none_is_told(word: str) -> None:
    with pytest.raises(RequestError):
        source_of(word)
