"""Documents out of files, Hugging Face datasets and the built-in world, one after another.

Reading is lazy and in a fixed order (files sorted by path), so a build that was
interrupted can skip what it has already taken in. A file that is not what it claims to be
stops the build with its line or byte; nothing is guessed and nothing is dropped.
"""

from __future__ import annotations

import glob
import gzip
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from linnet.config import RequestError, RunError
from linnet.data.settings import Source

SEPARATOR = "<|endoftext|>"
PIECE_CHARACTERS = 16_384
_TEXT = (".txt", ".md", ".text")
_LINES = (".jsonl", ".ndjson", ".json")
_SUFFIXES = (*_TEXT, *_LINES, ".parquet", ".bin")


def files_of(source: Source) -> list[Path]:
    """The files a path source names, sorted.

    Raises:
        RequestError: when nothing is there, or nothing of a kind that can be read.
    """
    word = source.path or ""
    path = Path(word).expanduser()
    if any(mark in word for mark in "*?["):
        found = [Path(name) for name in glob.glob(str(path), recursive=True)]
    elif path.is_dir():
        found = [item for item in path.rglob("*") if kind_of(item) in _SUFFIXES]
    else:
        found = [path]
    found = sorted(item for item in found if not item.is_dir())
    if not found:
        raise RequestError("no file matches", word, "check the path or the glob")
    for item in found:
        if not item.exists():
            raise RequestError("there is no such file", str(item), "check the path")
        if kind_of(item) not in _SUFFIXES:
            known = "txt, md, jsonl, parquet (text also as .gz or .zst) or bin"
            raise RequestError(f"files of kind {item.suffix or 'without a suffix'!r} are not read", str(item),
                               f"give {known}")  # fmt: skip
    return found


def kind_of(path: Path) -> str:
    """The suffix that says what a file is, compression aside: `.jsonl` of `a.jsonl.gz`."""
    bare = path.with_suffix("") if path.suffix in (".gz", ".zst") else path
    return bare.suffix.lower()


def texts(source: Source) -> Iterator[str]:
    """The documents of a source, whole, in order; at most `source.documents` of them."""
    stream = _builtin(source, "train") if source.builtin else _dataset(source) if source.dataset else _files(source)
    for count, text in enumerate(stream):
        if source.documents is not None and count >= source.documents:
            return
        yield text


def _builtin(source: Source, split: str) -> Iterator[str]:
    from linnet.data import world

    for document in world.documents(split):
        yield document["text"]


def held_out(source: Source, count: int) -> Iterator[str]:
    """`count` documents of a built-in source's own validation split."""
    for index, text in enumerate(_builtin(source, "validation")):
        if index >= count:
            return
        yield text


def _files(source: Source) -> Iterator[str]:
    for path in files_of(source):
        yield from _file(path, source.text_field)


def _file(path: Path, field: str) -> Iterator[str]:
    kind = kind_of(path)
    if kind in _TEXT:
        yield from _plain(path)
    elif kind in _LINES:
        yield from _json_lines(path, field)
    elif kind == ".parquet":
        yield from _parquet(path, field)
    else:
        raise RequestError("token files are opened, not read as text", str(path), "give .bin files alone")


def opened(path: Path) -> IO[bytes]:
    """A file's bytes, unpacked when it ends in .gz or .zst.

    Raises:
        RequestError: when the file cannot be opened.
    """
    try:
        if path.suffix == ".gz":
            return gzip.open(path, "rb")
        if path.suffix == ".zst":
            import zstandard

            return zstandard.ZstdDecompressor().stream_reader(path.open("rb"), read_across_frames=True)
        return path.open("rb")
    except OSError as error:
        raise RequestError(f"cannot be opened ({error.strerror})", str(path), "check the path") from None


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Numbered lines of a UTF-8 file, from 1."""
    import zlib

    number = 0
    try:
        with opened(path) as stream:
            for number, line in enumerate(io.BufferedReader(stream, 1 << 20), 1):  # type: ignore[type-var]
                if b"\0" in line:
                    raise RequestError("this is a binary file, not text", f"{path}:{number}", "give a text file")
                yield number, line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise RequestError(
            f"this is not UTF-8 (byte 0x{error.object[error.start]:02x})", f"{path}:{number}",
            "convert the file to UTF-8",
        ) from None  # fmt: skip
    except (OSError, EOFError, zlib.error) as error:
        raise RequestError(f"the packed file is damaged ({error})", f"{path}:{number + 1}", "get it again") from None
    except Exception as error:
        if type(error).__module__.startswith("zstandard"):
            raise RequestError(f"the packed file is damaged ({error})", str(path), "get it again") from None
        raise


def _plain(path: Path) -> Iterator[str]:
    """Documents of a text file: parted by lines that hold SEPARATOR, else pieces cut at blank lines.

    A file without separators is one long text. It is cut at blank lines into pieces of about
    PIECE_CHARACTERS, so that a part of it can be held out for validation.
    """
    gathered: list[str] = []
    size = 0
    separated = _has_separator(path)
    for _, line in _lines(path):
        if separated and SEPARATOR in line:
            before, *rest = line.split(SEPARATOR)
            gathered.append(before)
            for following in rest:
                yield from _whole(gathered)
                gathered = [following]
            continue
        gathered.append(line)
        size += len(line)
        if not separated and size >= PIECE_CHARACTERS and (not line.strip() or size >= 4 * PIECE_CHARACTERS):
            yield from _whole(gathered)
            gathered, size = [], 0
    yield from _whole(gathered)


def _whole(lines: list[str]) -> Iterator[str]:
    text = "".join(lines).strip()
    if text:
        yield text


def _has_separator(path: Path) -> bool:
    with opened(path) as stream:
        tail = b""
        while block := stream.read(1 << 22):
            if SEPARATOR.encode() in tail + block:
                return True
            tail = block[-len(SEPARATOR) :]
    return False


def _json_lines(path: Path, field: str) -> Iterator[str]:
    for number, line in _lines(path):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise RequestError(f"this line is not JSON ({error.msg})", where, "mend or remove the line") from None
        text = _field(row, field, where)
        if text:
            yield text


def _field(row: Any, field: str, where: str) -> str:
    if not isinstance(row, dict):
        raise RequestError("this line is not a JSON object", where, 'write {"text": "..."}')
    if field not in row:
        names = ", ".join(row) or "none"
        raise RequestError(f"there is no field {field!r}", where, f"its fields are {names}; set text_field")
    value = row[field]
    if not isinstance(value, str):
        raise RequestError(f"the field {field!r} is not text", where, "set text_field to a field that is")
    return value.strip()


def _parquet(path: Path, field: str) -> Iterator[str]:
    try:
        import pyarrow
        import pyarrow.parquet as parquet
    except ImportError:
        raise RequestError("reading parquet needs pyarrow", str(path), "pip install 'linnet[data]'") from None
    try:
        table = parquet.ParquetFile(path)
        if field not in table.schema_arrow.names:
            names = ", ".join(table.schema_arrow.names)
            raise RequestError(f"there is no column {field!r}", str(path), f"its columns are {names}; set text_field")
        for batch in table.iter_batches(columns=[field]):
            for value in batch.column(0).to_pylist():
                if isinstance(value, str) and value.strip():
                    yield value.strip()
    except (pyarrow.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise RequestError(f"this is not a whole parquet file ({reason})", str(path), "get it again") from None


def _dataset(source: Source) -> Iterator[str]:
    try:
        import datasets
    except ImportError:
        raise RequestError("a Hugging Face dataset needs the datasets library", source.label,
                           "pip install 'linnet[data]'") from None  # fmt: skip
    try:
        rows = datasets.load_dataset(
            source.dataset, source.name, split=source.split, revision=source.revision, streaming=True
        )
        for index, row in enumerate(rows):
            text = _field(row, source.text_field, f"{source.label}, row {index}")
            if text:
                yield text
    except RequestError:
        raise
    except Exception as error:  # the library raises many kinds; each means that the rows did not come
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise RunError(f"the dataset could not be read ({reason})", source.label,
                       "check its name, configuration, split and the network") from None  # fmt: skip
