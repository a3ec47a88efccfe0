"""Which files a source names, how people are told of them, and what stands for their bytes."""

from __future__ import annotations

import builtins
import hashlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from hub import Hub

from linnet.config import RequestError
from linnet.data.settings import Source
from linnet.data.sources import files
from linnet.data.sources.documents import texts
from linnet.data.sources.files import File, content_of, files_of, open_file
from linnet.data.sources.troubles import reason_of, redacted


def put(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)


@pytest.fixture
def memory() -> Iterator[fsspec.AbstractFileSystem]:
    fs = fsspec.filesystem("memory")
    yield fs
    fs.store.clear()


def names_of(path: object) -> list[str]:
    return [file.name for file in files_of(Source(path=str(path)))]


def test_names_are_told_from_what_the_source_names(tmp_path: Path) -> None:
    put(tmp_path, "c/b.txt", "c/a/z.jsonl.gz", "c/a.parquet", "c/n.pdf", "c/t.tar.zst", "c/v.csv")
    assert names_of(tmp_path / "c") == ["a.parquet", "a/z.jsonl.gz", "b.txt", "t.tar.zst", "v.csv"]
    assert names_of(f"file://{tmp_path}/c/b.txt") == ["b.txt"]
    assert names_of(tmp_path / "c" / "**" / "*.[jt]*") == ["a/z.jsonl.gz", "b.txt", "t.tar.zst"]
    assert names_of(tmp_path / "*" / "b.txt") == ["c/b.txt"]
    (tmp_path / "c").rename(tmp_path / "moved")
    assert names_of(tmp_path / "moved") == ["a.parquet", "a/z.jsonl.gz", "b.txt", "t.tar.zst", "v.csv"]
    assert files_of(Source(builtin="world")) == []


def test_a_relative_path_and_a_home_are_files_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, "a.txt", "b.txt")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert names_of("a.txt") == names_of("~/a.txt") == ["a.txt"]
    assert names_of("*.txt") == names_of(".") == ["a.txt", "b.txt"]


@pytest.mark.parametrize(
    ("name", "kind", "packing"),
    [
        ("a.jsonl.gz", ".jsonl", ".gz"), ("A.JSON.GZ", ".json", ".gz"), ("a.txt", ".txt", ""),
        ("x.y/a.tgz", ".tar", ".gz"), ("a.tar.zst", ".tar", ".zst"), ("a.zst", "", ".zst"), ("a", "", ""),
    ],
)  # fmt: skip
def test_a_kind_is_the_suffix_below_the_packing(name: str, kind: str, packing: str) -> None:
    file = File(name, name, None, "")
    assert (file.kind, file.packing) == (kind, packing)


def test_local_files_know_their_size_and_change_their_version(tmp_path: Path) -> None:
    put(tmp_path, "a.txt")
    (file,) = files_of(Source(path=str(tmp_path)))
    facts = (tmp_path / "a.txt").stat()
    assert (file.size, file.version, file.remote) == (5, f"5-{facts.st_mtime_ns}", False)
    os.utime(tmp_path / "a.txt", ns=(1, 1))
    assert files_of(Source(path=str(tmp_path)))[0].version != file.version


def test_a_remote_folder_a_glob_and_a_file(memory: fsspec.AbstractFileSystem) -> None:
    for name in ("b.txt", "sub/a.jsonl", "sub/deep/c.txt.gz", "notes.pdf"):
        memory.pipe(f"/corpus/{name}", name.encode())
    for folder in ("memory://corpus", "memory://corpus/"):
        assert names_of(folder) == ["b.txt", "sub/a.jsonl", "sub/deep/c.txt.gz"]
    assert names_of("memory://corpus/**/*.txt*") == ["b.txt", "sub/deep/c.txt.gz"]
    assert names_of("memory://corpus/s*/a.jsonl") == ["sub/a.jsonl"]
    (file,) = files_of(Source(path="memory://corpus/b.txt"))
    assert (file.name, file.size, file.remote) == ("b.txt", 5, True)
    with open_file(file) as stream:
        assert (stream.read(2), stream.seek(3), stream.read()) == (b"b.", 3, b"xt")
    before = content_of(file)
    memory.pipe("/corpus/b.txt", b"other")
    assert content_of(files_of(Source(path="memory://corpus/b.txt"))[0]) != before
    assert list(texts(Source(path="memory://corpus/b.txt"))) == ["other"]


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("memory://nothing/here.txt", "there is no such file"),
        ("memory://nothing/*.txt", "no file matches"),
        ("memory://corpus/*.pdf", r"files with \.pdf are not read"),
        ("memory://pictures", r"files with \.png are not read"),
        ("sr3://bucket/a.txt", r"there is no way to read sr3://; give a path, or a URL with s3://"),
        ("zip://a.txt::memory://a.zip", "URLs within URLs are not read"),
        ("hf://a.txt", "hf://a.txt: "),
    ],
)
def test_a_url_that_leads_nowhere_is_told_in_one_line(
    memory: fsspec.AbstractFileSystem, url: str, message: str
) -> None:
    memory.pipe("/corpus/a.pdf", b"x")
    memory.pipe("/pictures/a.png", b"x")
    with pytest.raises(RequestError, match=message) as caught:
        files_of(Source(path=url))
    assert caught.value.line().startswith(url.split("://")[0])


@pytest.mark.parametrize(
    ("url", "library", "mend"),
    [
        ("s3://bucket/a.txt", "s3fs", r"pip install 'linnet\[buckets\]'"),
        ("gs://bucket/a.txt", "gcsfs", r"pip install 'linnet\[buckets\]'"),
        ("https://127.0.0.1/a.txt", "aiohttp", r"pip install 'linnet\[data\]'"),
    ],
)
def test_a_library_that_is_not_there_is_named(
    monkeypatch: pytest.MonkeyPatch, url: str, library: str, mend: str
) -> None:
    real = builtins.__import__

    def without(name: str, *rest: object, **more: object) -> object:
        if name.partition(".")[0] == library:
            raise ImportError(f"No module named {library!r}")
        return real(name, *rest, **more)  # type: ignore[arg-type]

    for module in [name for name in sys.modules if name.partition(".")[0] == library]:
        monkeypatch.delitem(sys.modules, module)
    for name in ("fsspec.implementations.http", "s3fs", "gcsfs"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    for protocol in ("s3", "gs", "https"):
        monkeypatch.delitem(fsspec.registry._registry if hasattr(fsspec.registry, "_registry") else {}, protocol,
                            raising=False)  # fmt: skip
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(RequestError, match=mend):
        files_of(Source(path=url))


def test_no_secret_of_a_url_is_told(caplog: pytest.LogCaptureFixture) -> None:
    with Hub("o/n", {"a.jsonl": b'{"text": "a"}\n{"text": 3}\n'}) as hub:
        host = hub.url.removeprefix("http://")
        url = f"http://someone:pa55word@{host}/datasets/o/n/resolve/main/a.jsonl?X-Amz-Signature=s3cret&n=1"
        (file,) = files_of(Source(path=url))
        with pytest.raises(RequestError) as wrong:
            list(texts(Source(path=url)))
        with pytest.raises(RequestError) as missing:
            files_of(Source(path=url.replace("a.jsonl", "b.jsonl")))
        hub.fail(times=9, status=403)
        with pytest.raises(RequestError) as refused:
            files_of(Source(path=url))
        assert any("a.jsonl" in line for line in hub.asked)
    told = [
        repr(file),
        file.shown,
        file.name,
        content_of(file),
        *(e.value.line() for e in (wrong, missing, refused)),
    ]
    for line in told:
        assert "pa55word" not in line
        assert "s3cret" not in line
    assert file.name == "a.jsonl"
    assert wrong.value.line().startswith(f"http://{host}/datasets/o/n/resolve/main/a.jsonl:2: the field")
    assert "there is no such file" in missing.value.line()
    assert "access was refused" in refused.value.line()


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("s3://me:key@bucket/a", "s3://bucket/a"),
        ("no answer from https://h/a?sig=1&b=2, twice", "no answer from https://h/a twice"),
        ("403, url='http://u:p@h:80/a?X-Amz-Signature=abc'", "403, url='http://h:80/a'"),
        ("az://c/a?sv=2020&sig=abc", "az://c/a"),
        ("s3://bucket/a?.txt", "s3://bucket/a?.txt"),
        ("hf://datasets/o/n@main/a", "hf://datasets/o/n@main/a"),
        ("what? no = sign", "what? no = sign"),
    ],
)
def test_secrets_are_taken_out_of_messages(text: str, left: str) -> None:
    assert redacted(text) == left
    assert reason_of(RuntimeError(f"{text}\nmore")) == left


def settled(path: Path, seconds: float = 60) -> None:
    """As if it had been written a while ago."""
    then = path.stat().st_mtime_ns - int(seconds * 1e9)
    os.utime(path, ns=(then, then))


def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One item for every file that is hashed."""
    hashed: list[int] = []
    real = hashlib.file_digest

    def digest(stream: object, name: str) -> object:
        hashed.append(1)
        return real(stream, name)  # type: ignore[arg-type]

    monkeypatch.setattr(files.hashlib, "file_digest", digest)
    return hashed


def test_a_file_is_hashed_once_until_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, "a.txt")
    path = tmp_path / "a.txt"
    settled(path)
    hashed = counted(monkeypatch)
    (file,) = files_of(Source(path=str(path)))
    cache = tmp_path / "cache"
    assert content_of(file, cache) == content_of(file, cache) == hashlib.sha256(b"a.txt").hexdigest()
    assert len(hashed) == 1
    monkeypatch.setenv("LINNET_CACHE", str(cache))
    monkeypatch.chdir(tmp_path)
    (relative,) = files_of(Source(path="a.txt"))
    assert content_of(relative) == content_of(file)
    assert len(hashed) == 1
    before = path.stat()
    other = tmp_path / "other"
    other.write_text("b.txt")
    os.utime(other, ns=(before.st_mtime_ns, before.st_mtime_ns))
    other.replace(path)  # the same size and time; another file
    assert content_of(file, cache) == hashlib.sha256(b"b.txt").hexdigest()
    for damage in ("", "[]", "{", '["x"]', "3"):
        for kept in (cache / "hashes").iterdir():
            kept.write_text(damage)
        assert content_of(file, cache) == hashlib.sha256(b"b.txt").hexdigest()


def test_a_file_that_has_just_changed_is_not_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, "a.txt")
    path = tmp_path / "a.txt"
    now = path.stat()
    hashed = counted(monkeypatch)
    (file,) = files_of(Source(path=str(path)))
    content_of(file, tmp_path / "cache")
    with path.open("r+") as stream:
        stream.write("B")  # within one step of the clock
    os.utime(path, ns=(now.st_mtime_ns, now.st_mtime_ns))
    assert content_of(file, tmp_path / "cache") == hashlib.sha256(b"B.txt").hexdigest()
    assert len(hashed) == 2


def test_a_cache_that_cannot_be_written_only_means_hashing_again(tmp_path: Path) -> None:
    put(tmp_path, "a.txt", "cache")
    settled(tmp_path / "a.txt")
    (file,) = files_of(Source(path=str(tmp_path / "a.txt")))
    assert content_of(file, tmp_path / "cache") == hashlib.sha256(b"a.txt").hexdigest()
    (tmp_path / "a.txt").unlink()
    with pytest.raises(RequestError, match=r"a\.txt: there is no such file"):
        content_of(file, tmp_path / "cache")
