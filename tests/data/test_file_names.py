"""Which files a folder or a glob means, and what happens to names and files that are out of the ordinary."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from formats import as_lines, as_parquet

from linnet.config import RequestError
from linnet.data.settings import Source
from linnet.data.sources.documents import files_of, texts
from linnet.data.sources.files import content_of


def put(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(as_lines([name]))
    return root


def names_of(path: object) -> list[str]:
    return [file.name for file in files_of(Source(path=str(path)))]


def refused(path: object, message: str) -> None:
    with pytest.raises(RequestError, match=message) as caught:
        list(texts(Source(path=str(path))))
    assert "\n" not in caught.value.line()


HIDDEN = (
    ".ipynb_checkpoints/a-checkpoint.jsonl", ".git/x.json", "._a.jsonl", ".a.jsonl", "b/.cache/c.jsonl",
    "__MACOSX/a.jsonl", "b/__MACOSX/._c.jsonl", "lost+found/a.jsonl",
)  # fmt: skip


@pytest.fixture
def memory() -> Iterator[fsspec.AbstractFileSystem]:
    fs = fsspec.filesystem("memory")
    yield fs
    fs.store.clear()


def test_hidden_files_are_read_only_where_they_are_named(tmp_path: Path) -> None:
    folder = put(tmp_path / ".data" / "x", "a.jsonl", "b/c.jsonl", *HIDDEN)
    assert names_of(folder) == names_of(folder / "**") == names_of(folder / "**" / "*.jsonl") == [
        "a.jsonl", "b/c.jsonl",
    ]  # fmt: skip
    assert names_of(folder / "*.jsonl") == names_of(folder / "[a-z]*.jsonl") == ["a.jsonl"]
    assert names_of(folder / ".a.jsonl") == [".a.jsonl"]
    assert names_of(folder / ".ipynb_checkpoints") == ["a-checkpoint.jsonl"]
    assert names_of(folder / "._*.jsonl") == ["._a.jsonl"]
    assert names_of(folder / "__MACOSX" / "*") == ["a.jsonl"]
    assert names_of(folder / "*" / ".cache" / "*.jsonl") == ["b/.cache/c.jsonl"]


def test_hidden_files_of_a_remote_folder_are_read_only_where_they_are_named(
    memory: fsspec.AbstractFileSystem,
) -> None:
    for name in ("a.jsonl", "b/c.jsonl", *HIDDEN):
        memory.pipe(f"/.data/{name}", as_lines([name]))
    for word in ("memory://.data", "memory://.data/", "memory://.data/**/*.jsonl"):
        assert names_of(word) == ["a.jsonl", "b/c.jsonl"]
    assert names_of("memory://.data/.a.jsonl") == [".a.jsonl"]
    assert names_of("memory://.data/._*.jsonl") == ["._a.jsonl"]
    assert names_of("memory://.data/.ipynb_checkpoints/") == ["a-checkpoint.jsonl"]


def test_hidden_members_of_an_archive_are_left_out(tmp_path: Path) -> None:
    page = io.BytesIO()
    with tarfile.open(fileobj=page, mode="w") as archive:
        for name in ("./a.jsonl", "b/c.jsonl", *HIDDEN):
            data = as_lines([name])
            header = tarfile.TarInfo(name)
            header.size = len(data)
            archive.addfile(header, io.BytesIO(data))
    (tmp_path / "a.tar").write_bytes(page.getvalue())
    assert list(texts(Source(path=str(tmp_path / "a.tar")))) == ["./a.jsonl", "b/c.jsonl"]


ABOUT = (
    "README.md",
    "LICENSE.txt",
    "license",
    "Readme_zh.md",
    "sub/LICENCE-CODE.md",
    "NOTICE.txt",
    "COPYING.txt",
)


def test_texts_about_the_data_are_left_out_beside_data(
    tmp_path: Path, memory: fsspec.AbstractFileSystem
) -> None:
    data = put(tmp_path / "hub", "data/train.jsonl", "readmes.txt", *ABOUT)
    (data / "more.parquet").write_bytes(as_parquet(["x"]))
    assert (
        names_of(data) == names_of(data / "**" / "*.*") == ["data/train.jsonl", "more.parquet", "readmes.txt"]
    )
    assert names_of(data / "*.md") == ["README.md", "Readme_zh.md"]
    assert names_of(data / "README.md") == ["README.md"]
    texts_alone = put(tmp_path / "docs", "a/README.md", "b/README.md", "LICENSE.txt", "guide.md")
    assert names_of(texts_alone) == ["LICENSE.txt", "a/README.md", "b/README.md", "guide.md"]
    for name in ("data/train.jsonl", *ABOUT):
        memory.pipe(f"/hub/{name}", as_lines([name]))
    assert names_of("memory://hub") == ["data/train.jsonl"]
    assert names_of("memory://hub/*.md") == ["README.md", "Readme_zh.md"]


def test_signs_of_a_glob_in_a_name_are_taken_literally(tmp_path: Path) -> None:
    odd = ["a [1].jsonl", "a*.jsonl", "a?.jsonl", "line\nend.jsonl"]
    folder = put(tmp_path / "c [v1] *x", "b.jsonl", "d/e.jsonl", *odd)
    for name in odd:
        assert names_of(folder / name) == [name]
    assert names_of(folder / "b*") == ["b.jsonl"]
    assert names_of(folder / "**" / "e.jsonl") == ["d/e.jsonl"]
    assert list(texts(Source(path=str(folder)))) == sorted(["b.jsonl", "d/e.jsonl", *odd])
    (folder / "line\nend.jsonl").write_text("broken")
    refused(folder / "line\nend.jsonl", "this line is not JSON")


def test_a_name_that_is_not_utf_8_is_read(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.jsonl")
    folder = put(tmp_path / "c", name, "b.jsonl")
    (folder / os.fsdecode(b"\xff.parquet")).write_bytes(as_parquet(["three"]))
    assert list(texts(Source(path=str(folder / "*.jsonl")))) == [
        "b.jsonl",
        name.encode("utf-16", "surrogatepass").decode("utf-16", "replace"),
    ]
    assert list(texts(Source(path=str(folder))))[-1] == "three"
    for file in files_of(Source(path=str(folder))):
        assert len(content_of(file, tmp_path / "cache")) == 64


def test_a_folder_may_be_named_like_a_file(tmp_path: Path) -> None:
    folder = put(tmp_path / "x.jsonl", "part-0.jsonl", "deep.jsonl/part-1.jsonl")
    assert names_of(folder) == ["deep.jsonl/part-1.jsonl", "part-0.jsonl"]
    assert names_of(tmp_path / "*.jsonl" / "part*") == ["x.jsonl/part-0.jsonl"]


def test_what_is_no_file_is_told_in_one_line(tmp_path: Path) -> None:
    folder = put(tmp_path / "c", "a.jsonl")
    (folder / "gone.jsonl").symlink_to(folder / "nowhere")
    for word in (folder, folder / "*.jsonl", folder / "gone.jsonl"):
        refused(word, r"gone\.jsonl: this link leads to no file")
    (folder / "gone.jsonl").unlink()
    os.mkfifo(folder / "pipe.jsonl")
    for word in (folder, folder / "*.jsonl", folder / "pipe.jsonl"):
        refused(word, r"pipe\.jsonl: this is a pipe or a device")
    refused("/dev/null", "this is a pipe or a device")
    refused(f"{tmp_path}/a\0b.jsonl", "this is no path")
    refused(tmp_path / ("x" * 300), "cannot be read|no such file")
    refused("~nobody-of-that-name/a.jsonl", "no such file")
    refused(folder / "a.jsonl" / "b.jsonl", "cannot be read|no such file")


def test_a_file_or_folder_that_may_not_be_read_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = put(tmp_path / "c", "a.jsonl", "locked/b.jsonl")
    real = os.scandir

    def scandir(path: object) -> object:
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)  # type: ignore[call-overload]

    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", scandir)
        refused(folder, r"locked: cannot be read \(Permission denied\)")

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr("builtins.open", refuse)
        refused(folder / "a.jsonl", r"a\.jsonl: cannot be read \(Permission denied\)")


@pytest.mark.parametrize("name", ["a.jsonl", "a.txt", "a.csv", "a.parquet", "a.tar"])
def test_a_file_that_vanishes_or_is_empty_is_told(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"")
    files = files_of(Source(path=str(path)))
    if name in ("a.parquet", "a.tar"):
        refused(path, "is not a whole")
    else:
        assert list(texts(Source(path=str(path)))) == []
    path.unlink()
    from linnet.data.sources.documents import documents

    with pytest.raises(RequestError, match=rf"{name}: there is no such file"):
        list(documents(Source(path=str(path)), files=files))
