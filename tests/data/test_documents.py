from __future__ import annotations

import csv
import gzip
import io
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
import zstandard
from formats import as_lines, as_parquet

from linnet.config import RequestError
from linnet.data.settings import Cleaning, Source, source_of
from linnet.data.sources import reading
from linnet.data.sources.documents import PIECE_CHARACTERS, Document, Tally, documents, files_of, texts

STORIES = ["One morning\nTom woke up.", "Second: naïve café — “quoted” 日本語 🙂", "Third, the last."]


def read(path: Path, **given: object) -> list[str]:
    return list(texts(Source(path=str(path), **given)))


def as_separated(documents: list[str]) -> bytes:
    return "\n<|endoftext|>\n".join(documents).encode()


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
    path.write_bytes("\ufeffFirst\r\nline\r\n<|endoftext|>\r\nSecond\r\n<|endoftext|>\r\n".encode())
    assert read(path) == ["First\nline", "Second"]


@pytest.mark.parametrize(
    "text",
    [
        "a\n<|endoftext|>\nb\n<|endoftext|>",
        "<|endoftext|>\na\n<|endoftext|>\n<|endoftext|>\n \t<|endoftext|>  \nb  ",
    ],
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
    with pytest.raises(RequestError, match="no column 'text'; its columns are 'story', 'id'; set text_field"):
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
    names = [file.name for file in files_of(Source(path=str(tmp_path / "corpus")))]
    assert names == ["a.jsonl", "b.txt", "sub/c.txt.gz"]
    assert [file.name for file in files_of(Source(path=str(tmp_path / "corpus" / "**" / "*.txt*")))] == [
        "b.txt", "sub/c.txt.gz",
    ]  # fmt: skip
    odd = tmp_path / "odd [1].txt"
    odd.write_text("x")
    assert [file.path for file in files_of(Source(path=str(odd)))] == [str(odd)]


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
    "wrong field": ("a.jsonl", b'{"story": "a", "id": 1}', r"there is no field 'text'; its fields are 'story', 'id'"),
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


def as_table(documents: list[str], names: tuple[str, str] = ("id", "text")) -> bytes:
    page = io.StringIO()
    table = csv.writer(page)
    table.writerow(names)
    table.writerows(enumerate(documents))
    return page.getvalue().encode()


def as_archive(members: dict[str, bytes]) -> bytes:
    page = io.BytesIO()
    with tarfile.open(fileobj=page, mode="w") as archive:
        for name, data in members.items():
            header = tarfile.TarInfo(name)
            header.size = len(data)
            archive.addfile(header, io.BytesIO(data))
    return page.getvalue()


@pytest.mark.parametrize("packing", PACKERS)
def test_a_table_is_read_by_its_first_line(tmp_path: Path, packing: str) -> None:
    path = tmp_path / f"a.csv{packing}"
    stories = [*STORIES, 'a "quoted", word\nand a line', "z" * 200_000]
    path.write_bytes(PACKERS[packing](as_table(stories)))
    assert read(path) == stories
    with pytest.raises(RequestError, match=r"there is no field 'story'; its fields are 'id', 'text'"):
        read(path, text_field="story")


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz", "a.tar.zst", "a.tgz"])
def test_members_of_an_archive_are_read_in_order_each_by_its_suffix(tmp_path: Path, name: str) -> None:
    inside = {
        "z/b.jsonl": as_lines(STORIES[:2]),
        "a.txt": STORIES[2].encode(),
        "picture.png": b"\x89PNG\0",
        "._a.txt": b"\0\1",
        "c.parquet": as_parquet(["four", "five"], group=2),
        "d.txt.gz": gzip.compress(b"six"),
        "e.csv": as_table(["seven"]),
    }
    path = tmp_path / name
    pack = PACKERS[{".tar": "", ".gz": ".gz", ".tgz": ".gz", ".zst": ".zst"}[path.suffix]]
    path.write_bytes(pack(as_archive(inside)))
    expected = [*STORIES, "four", "five", "six", "seven"]
    found = list(documents(Source(path=str(path))))
    assert [document.text for document in found] == expected
    assert [document.row for document in found] == list(range(7))
    path.write_bytes(pack(as_archive({"ok.txt": b"fine", "deep/bad.jsonl": b'{"text": 1}'})))
    with pytest.raises(RequestError, match=rf"{name}, deep/bad\.jsonl:1: the field 'text' is not text"):
        read(path)


@pytest.mark.parametrize("share", [0.15, 0.4, 0.5, 0.7])
def test_an_archive_that_is_cut_or_overwritten_is_told(tmp_path: Path, share: float) -> None:
    data = as_archive({f"{i}.txt": f"story {i} ".encode() * 100 for i in range(20)})
    path = tmp_path / "a.tar"
    place = int(len(data) * share)
    for broken in (
        data[:place],
        data[: place // 512 * 512],
        data[:place] + b"\xff" * 4096 + data[place + 4096 :],
    ):
        path.write_bytes(broken)
        with pytest.raises(RequestError, match=r"a\.tar.*: this is not (a whole tar archive|UTF-8)"):
            read(path)


def many(tmp_path: Path) -> Source:
    """A folder with a file of every kind, some rows of which are no documents."""
    folder = tmp_path / "many"
    folder.mkdir()
    texts = [f"{i}: {story}" for i in range(40) for story in STORIES]
    (folder / "a.txt").write_bytes(as_separated(texts))
    (folder / "b.jsonl.gz").write_bytes(gzip.compress(b"\n" + as_lines([*texts[:20], "", *texts[20:]])))
    (folder / "c.json").write_text(json.dumps([{"text": text} for text in [*texts, None]]))
    (folder / "d.csv").write_bytes(as_table([*texts[:9], " ", *texts[9:]]))
    (folder / "e.parquet").write_bytes(as_parquet([*texts, None, *texts], group=7))
    (folder / "f.tar.zst").write_bytes(
        PACKERS[".zst"](as_archive({"a.txt": as_separated(texts), "b.jsonl": as_lines(texts)}))
    )
    (folder / "g.md").write_text("\n\n".join("word " * 900 + str(i) for i in range(40)))
    return Source(path=str(folder))


def test_reading_goes_on_at_any_place(tmp_path: Path) -> None:
    source = many(tmp_path)
    whole = list(documents(source))
    assert {document.file for document in whole} == set(range(7))
    places = [(document.file, document.row) for document in whole]
    assert places == sorted(set(places))
    for index in range(0, len(whole), 17):
        at = whole[index]
        assert list(documents(source, file=at.file, row=at.row)) == whole[index:]
        assert list(documents(source, file=at.file, row=at.row + 1)) == whole[index + 1 :]
    assert list(documents(source, file=6, row=10**6)) == []
    world = Source(builtin="world", documents=9)
    assert list(documents(world, row=4, limit=5)) == list(documents(world))[4:]


def test_bytes_before_the_place_count_as_seen(tmp_path: Path) -> None:
    source = many(tmp_path)
    total = sum(file.size or 0 for file in files_of(source))
    for file, row in ((0, 0), (3, 5), (4, 100), (4, 10**6), (6, 2)):
        seen: list[int] = []
        list(documents(source, file=file, row=row, seen=seen.append))
        assert sum(seen) == total


def test_the_number_of_documents_holds_from_the_beginning_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(as_lines([str(i) for i in range(10)]))
    source = Source(path=str(path), documents=4)
    assert [document.text for document in documents(source)] == ["0", "1", "2", "3"]
    assert [document.text for document in documents(source, row=2)] == [str(i) for i in range(2, 10)]
    assert [document.text for document in documents(source, row=2, limit=2)] == ["2", "3"]
    assert list(documents(source, limit=0)) == []


def test_row_groups_before_the_place_are_not_read(tmp_path: Path) -> None:
    """What stands in them is overwritten, and nobody notices."""
    path = tmp_path / "a.parquet"
    path.write_bytes(as_parquet([f"row {i} " + os.urandom(300).hex() for i in range(100)], group=10))
    expected = list(documents(Source(path=str(path)), row=57))
    groups = pyarrow.parquet.ParquetFile(path).metadata
    end = groups.row_group(5).column(0)
    data = bytearray(path.read_bytes())
    data[4 : end.dictionary_page_offset or end.data_page_offset] = bytes(
        (end.dictionary_page_offset or end.data_page_offset) - 4
    )
    path.write_bytes(data)
    assert list(documents(Source(path=str(path)), row=57)) == expected
    with pytest.raises(RequestError, match="not a whole parquet file"):
        list(documents(Source(path=str(path))))


def test_only_the_columns_that_are_needed_are_read(tmp_path: Path) -> None:
    noise = [os.urandom(2000).hex() for _ in range(50)]
    data = bytearray(
        as_parquet([f"row {i}" for i in range(50)], group=50, other=noise, score=list(range(50)))
    )
    table = pyarrow.parquet.ParquetFile(io.BytesIO(bytes(data))).metadata.row_group(0).column(1)
    start = table.dictionary_page_offset or table.data_page_offset
    data[start : start + 40_000] = bytes(40_000)
    path = tmp_path / "a.parquet"
    path.write_bytes(data)
    assert len(read(path, filter="score >= 30")) == 20
    with pytest.raises(RequestError, match="not a whole parquet file"):
        read(path, text_field="other")


def test_a_template_puts_a_document_together(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    rows = [{"title": "One", "body": "Text", "year": 1999, "stars": 4.25, "content-type": "x"},
            {"title": "Two", "body": None, "year": 1, "stars": 1.0, "content-type": "y"},
            {"title": "{body}", "body": "Last", "year": 3, "stars": 2.0, "content-type": "z"}]  # fmt: skip
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    template = "{title} ({year}, {stars:.1f}, {content-type})\n\n{body} {{as it is}}"
    assert read(path, text_template=template) == [
        "One (1999, 4.2, x)\n\nText {as it is}", "{body} (3, 2.0, z)\n\nLast {as it is}",
    ]  # fmt: skip
    with pytest.raises(
        RequestError, match=r"a\.jsonl:1: there is no field 'name'; its fields are 'title', 'body'"
    ):
        read(path, text_template="{name}")
    with pytest.raises(RequestError, match=r"a\.jsonl:1: text_template cannot be filled in"):
        read(path, text_template="{title:.2f}")
    path.write_text('{"title": ["a"]}')
    with pytest.raises(RequestError, match=r"a\.jsonl:1: the field 'title' is not text"):
        read(path, text_template="{title}")


@pytest.mark.parametrize("kind", [".jsonl", ".parquet"])
def test_rows_are_filtered_and_cleaned_and_counted(tmp_path: Path, kind: str) -> None:
    texts = [
        "short",
        "a long enough text",
        None,
        "",
        "cafe\u0301 au lait, long",
        "x" * 500,
        "of low score, long",
    ]
    scores = [5, 5, 5, 5, 5, 5, 1]
    path = tmp_path / f"a{kind}"
    rows = [{"text": text, "score": score} for text, score in zip(texts, scores, strict=True)]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    path.write_bytes(as_parquet(texts, group=2, score=scores) if kind == ".parquet" else lines.encode())
    tally = Tally()
    source = Source(path=str(path), filter="score >= 2 and text != 'nothing'")
    cleaning = Cleaning(normalize="nfc", min_characters=10, max_characters=100)
    found = list(documents(source, cleaning=cleaning, tally=tally))
    assert found == [Document("a long enough text", 0, 1), Document("café au lait, long", 0, 4)]
    assert tally == Tally(rows=7, without_text=2, filtered=1, too_short=1, too_long=1)
    assert tally.kept == 2
    with pytest.raises(RequestError, match="'stars'"):
        list(documents(Source(path=str(path), filter="stars >= 2")))


def test_rows_are_counted_once_when_reading_breaks_off_and_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    good = as_lines(["one", "", "two", "", ""])
    tally = Tally()
    path.write_bytes(good + b"{broken\n")
    given = []
    with pytest.raises(RequestError):
        given += documents(Source(path=str(path)), tally=tally)
    assert tally == Tally(rows=3, without_text=1)
    path.write_bytes(good + as_lines(["three", ""]))
    assert [d.text for d in documents(Source(path=str(path)), row=3, tally=tally)] == ["three"]
    assert tally == Tally(rows=7, without_text=4)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b'id,text\n1,"open\n', r"a\.csv:\d: this is not CSV"),
        ("a.csv", b"id,text\n1,a\n2,b,c\n", r"a\.csv:3: this row has 3 fields and the first line names 2"),
        ("a.tar", b"", r"a\.tar: this is not a whole tar archive"),
        ("a.tar", b"just text" * 100, r"a\.tar: this is not a whole tar archive"),
        (
            "a.tar.gz",
            gzip.compress(as_archive({"a.txt": b"x"}))[:40],
            r"a\.tar\.gz: the packed file is damaged",
        ),
        ("a.tar", as_archive({"a.tar": as_archive({})}), r"a\.tar, a\.tar: \.tar files inside an archive"),
        ("a.parquet", as_parquet([b"\xff\xfe"], group=2), r"a\.parquet, row 0: the field 'text' is not text"),
    ],
)
def test_further_kinds_of_damage_are_told_in_one_line(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(RequestError, match=message) as caught:
        read(path)
    assert "\n" not in caught.value.line()


def as_lined_array(documents: list[str]) -> bytes:
    return json.dumps([{"text": text} for text in documents], indent=0).encode()


@pytest.mark.parametrize(
    ("name", "write", "pieces", "unit"),
    [
        ("a.jsonl", as_lines, 1, "line"),
        ("a.jsonl.zst", as_lines, 1, "line"),
        ("a.json", as_lined_array, 64, "JSON array"),
        ("a.txt", as_separated, 1, "document"),
    ],
)
def test_a_line_that_would_fill_the_memory_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, write: Callable, pieces: int, unit: str
) -> None:
    monkeypatch.setattr(reading, "LONGEST_LINE", 3 << 20)
    path = tmp_path / name
    pack = PACKERS[".zst" if name.endswith(".zst") else ""]
    for word, fits in (("x ", True), ("word ", False)):
        path.write_bytes(pack(write(["first", *[word * ((1 << 20) // pieces)] * pieces])))
        if fits:
            assert len(read(path)) == 1 + pieces
            continue
        with pytest.raises(RequestError, match=rf"this {unit} is longer than 3 MB; .*"):
            read(path)


MEMORY = """
import resource, sys
from linnet.data.settings import Source
from linnet.data.sources.documents import texts
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
sizes = [len(text) for text in texts(Source(path=sys.argv[1]))]
unit = 1 if sys.platform == "darwin" else 1024
print(sizes[1], (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * unit)
"""


@pytest.mark.slow
@pytest.mark.parametrize("packing", ["", ".zst"])
def test_a_line_of_200_megabytes_takes_at_most_three_times_its_size(tmp_path: Path, packing: str) -> None:
    size = 200_000_000
    path = tmp_path / f"a.jsonl{packing}"
    line = b'{"text": "' + b"some words and a line\\n" * (size // 23) + b'."}\n'
    path.write_bytes(PACKERS[packing](as_lines(["first"]) + line + as_lines(["last"])))
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, str(path)], capture_output=True, text=True, check=True
    )
    length, taken = map(int, done.stdout.split())
    assert length > 0.9 * size
    assert taken < 3 * size
