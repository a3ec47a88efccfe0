"""Documents out of files, Hugging Face datasets and the built-in world, one after another.

Reading is lazy and in a fixed order (files sorted by path), so a build that was
interrupted can skip what it has already taken in. A file that is not what it claims to be
stops the build with its line; nothing is guessed, and nothing is dropped but documents
without text.
"""

from __future__ import annotations

import functools
import glob
import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from linnet.config import RequestError, RunError
from linnet.data.settings import Source
from linnet.data.sources.reading import PACKED, Seen, lines, text_blocks, unseen

SEPARATOR = "<|endoftext|>"
PIECE_CHARACTERS = 16_384
_LONGEST_PIECE = 4 * PIECE_CHARACTERS
DEFAULT_WORLD = 20_000  # documents of the built-in world when the recipe does not say
_SEPARATOR_WITHIN = 1 << 24  # characters; a file without a separator in these has none
_BLANK_LINE = re.compile(r"\n[^\S\n]*\n")
_TEXT = (".txt", ".md", ".text")
_JSON = (".jsonl", ".ndjson", ".json")
_SUFFIXES = (*_TEXT, *_JSON, ".parquet", ".bin")
_COMMIT = re.compile(r"[0-9a-f]{40}")


def files_of(source: Source) -> list[Path]:
    """The files a path source names, sorted.

    Raises:
        RequestError: when nothing is there, or nothing of a kind that can be read.
    """
    word = source.path or ""
    path = Path(word).expanduser()
    if path.is_dir():
        found = [item for item in path.rglob("*") if kind_of(item) in _SUFFIXES]
    elif not path.exists() and glob.has_magic(word):
        found = [Path(name) for name in glob.glob(str(path), recursive=True)]
    else:
        found = [path]
    found = sorted(item for item in found if not item.is_dir())
    known = "txt, md, jsonl, json, parquet (text also as .gz or .zst) or bin"
    if not found:
        raise RequestError("no file matches", word, f"check the path; it may name files of {known}")
    for item in found:
        if not item.exists():
            raise RequestError("there is no such file", str(item), "check the path")
        kind = kind_of(item)
        if kind not in _SUFFIXES or (kind in (".parquet", ".bin") and item.suffix in PACKED):
            name = "".join(item.suffixes[-2:]) or "no suffix"
            raise RequestError(f"files with {name} are not read", str(item), f"give {known}")
    return found


def kind_of(path: Path) -> str:
    """The suffix that says what a file is, packing aside: `.jsonl` of `a.jsonl.gz`."""
    bare = path.with_suffix("") if path.suffix in PACKED else path
    return bare.suffix.lower()


def texts(source: Source, split: str = "train", seen: Seen = unseen) -> Iterator[str]:
    """The documents of a source, whole, in order; at most `source.documents` of them.

    Args:
        split: of the built-in world, which holds its own validation documents; files and datasets
            have none, so it does not concern them.
        seen: is told of every further byte of files.
    """
    if source.builtin:
        from linnet.data import world

        stream: Iterator[str] = (document["text"] for document in world.documents(split))
    else:
        stream = _dataset(source) if source.dataset else _files(source, seen)
    return itertools.islice(stream, limit_of(source))


def limit_of(source: Source) -> int | None:
    """The most documents that are taken of a source."""
    return source.documents or (DEFAULT_WORLD if source.builtin else None)


def _files(source: Source, seen: Seen) -> Iterator[str]:
    for path in files_of(source):
        kind = kind_of(path)
        if kind in _TEXT:
            yield from _plain(path, seen)
        elif kind in _JSON:
            yield from _json(path, source.text_field, seen)
        elif kind == ".parquet":
            yield from _parquet(path, source.text_field, seen)
        else:
            raise RequestError(
                "token files hold no text", str(path), "give .bin files alone, and a named tokenizer"
            )


def _plain(path: Path, seen: Seen) -> Iterator[str]:
    """Documents of a text file: parted by SEPARATOR, or else pieces of one long text.

    A file without separators is cut at blank lines into pieces of about PIECE_CHARACTERS, so
    that a part of it can be held out for validation.
    """
    blocks = text_blocks(path, seen)
    head = ""
    for block in blocks:
        head += block
        if len(head) >= _SEPARATOR_WITHIN:
            break
    separated, buffer = SEPARATOR in head, ""
    for block in itertools.chain([head], blocks):
        searched, start = max(0, len(buffer) - len(SEPARATOR)), 0
        buffer += block
        if separated and buffer.find(SEPARATOR, searched) >= 0:
            *documents, buffer = buffer.split(SEPARATOR)
            yield from filter(None, map(str.strip, documents))
        while not separated and len(buffer) - start > _LONGEST_PIECE:
            end = _piece_end(buffer, start)
            yield from filter(None, [buffer[start:end].strip()])
            start = end
        buffer = buffer[start:]
    while buffer:
        end = len(buffer) if separated else _piece_end(buffer, 0)
        yield from filter(None, [buffer[:end].strip()])
        buffer = buffer[end:]


def _piece_end(text: str, start: int) -> int:
    """Where a piece that begins at `start` ends: after a blank line, or a line or word if that comes too late."""
    least, most = start + PIECE_CHARACTERS, start + _LONGEST_PIECE
    if blank := _BLANK_LINE.search(text, least, most):
        return blank.end()
    if len(text) <= most:
        return len(text)
    ends = (text.rfind(mark, least, most) + 1 for mark in "\n ")
    return next(filter(None, ends), most)


def _json(path: Path, field: str, seen: Seen) -> Iterator[str]:
    """Documents of a file with one JSON object a line, or of one JSON array."""
    numbered = enumerate(lines(path, seen), 1)
    for number, line in numbered:
        if not line.strip():
            continue
        if line.lstrip().startswith("["):
            yield from _array(
                path, field, "\n" * (number - 1) + "\n".join([line, *(rest for _, rest in numbered)])
            )
            return
        where = f"{path}:{number}"
        try:
            row = json.loads(line)
        except (json.JSONDecodeError, RecursionError) as error:
            reason = getattr(error, "msg", "too deep")
            raise RequestError(
                f"this line is not JSON ({reason})", where, "give one JSON object a line"
            ) from None
        yield from _field(row, field, where)


def _array(path: Path, field: str, text: str) -> Iterator[str]:
    try:
        rows = json.loads(text)
    except json.JSONDecodeError as error:
        raise RequestError(f"this is not a JSON array ({error.msg})", f"{path}:{error.lineno}",
                           "give one JSON object a line, or one array of objects") from None  # fmt: skip
    for index, row in enumerate(rows):
        yield from _field(row, field, f"{path}, item {index}")


def _field(row: Any, field: str, where: str) -> Iterator[str]:
    """The document that a row holds, if it holds any text.

    A separator at either end is how some files mark a document's end, not a part of its text.
    """
    if not isinstance(row, dict):
        raise RequestError("this is not a JSON object", where, 'write {"text": "..."}')
    if field not in row:
        names = ", ".join(row) or "none"
        raise RequestError(f"there is no field {field!r}", where, f"its fields are {names}; set text_field")
    text = row[field]
    if text is None:
        return
    if not isinstance(text, str):
        raise RequestError(f"the field {field!r} is not text", where, "set text_field to a field that is")
    if not text.isascii():  # JSON can spell half a surrogate pair, which UTF-8 and tokenizers cannot
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    text = text.strip().removeprefix(SEPARATOR).removesuffix(SEPARATOR).strip()
    if text:
        yield text


def _parquet(path: Path, field: str, seen: Seen) -> Iterator[str]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise RequestError("reading parquet needs pyarrow", str(path), "pip install 'linnet[data]'") from None
    try:
        with pyarrow.parquet.ParquetFile(path) as table:
            names = table.schema_arrow.names
            if field not in names:
                raise RequestError(f"there is no column {field!r}", str(path),
                                   f"its columns are {', '.join(names)}; set text_field")  # fmt: skip
            size, rows = path.stat().st_size, 0
            for batch in table.iter_batches(batch_size=1024, columns=[field]):
                for text in batch.column(0).to_pylist():
                    yield from _field({field: text}, field, str(path))
                before, rows = rows, rows + batch.num_rows
                seen(size * rows // table.metadata.num_rows - size * before // table.metadata.num_rows)
    except (pyarrow.ArrowException, OSError) as error:
        raise RequestError(f"this is not a whole parquet file ({reason_of(error)})", str(path),
                           "get it again") from None  # fmt: skip


@functools.cache
def commit_of(source: Source) -> str:
    """The commit of a Hugging Face dataset that its revision names now; the same for the life of the process.

    Raises:
        RequestError: when the hub cannot be reached, or does not have it.
    """
    if source.revision and _COMMIT.fullmatch(source.revision):
        return source.revision
    from huggingface_hub import HfApi

    try:
        return str(HfApi().dataset_info(source.dataset or "", revision=source.revision).sha)
    except Exception as error:  # offline, missing and gated all come as different kinds
        raise RequestError(
            f"the dataset cannot be reached ({reason_of(error)})", source.title,
            "check its name and the network, or give files with path",
        ) from None  # fmt: skip


def _dataset(source: Source) -> Iterator[str]:
    try:
        import datasets
    except ImportError:
        raise RequestError("a Hugging Face dataset needs the datasets library", source.title,
                           "pip install 'linnet[data]'") from None  # fmt: skip
    commit = commit_of(source)
    try:
        rows = datasets.load_dataset(
            source.dataset, source.name, split=source.split, revision=commit, streaming=True
        )
        for index, row in enumerate(rows):
            yield from _field(row, source.text_field, f"{source.title}, row {index}")
    except RequestError:
        raise
    except Exception as error:  # the library raises many kinds; each means that the rows did not come
        raise RunError(f"the dataset could not be read ({reason_of(error)})", source.title,
                       "check its configuration, its split and the network") from None  # fmt: skip


def reason_of(error: BaseException) -> str:
    """An exception's first line, or its kind when it says nothing."""
    return next(iter(str(error).splitlines()), "") or type(error).__name__
