"""What is written reaches terminals of any encoding, and ends quietly where nobody reads."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

import tiny
from linnet.cli.main import main


def said(monkeypatch: pytest.MonkeyPatch, encoding: str, *words: object) -> tuple[str, str, object]:
    """Standard output, standard error and the exit code of the program on a terminal of that encoding."""
    out = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    err = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="backslashreplace")
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", out)
        patch.setattr(sys, "stderr", err)
        patch.setattr(sys, "argv", ["linnet", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
    texts = [stream.buffer.getvalue().decode(encoding, "replace") for stream in (out, err)]  # type: ignore[attr-defined]
    return texts[0], texts[1], ended.value.code


NAMES = ("日本 🙂.txt", os.fsdecode(b"caf\xe9.txt"))


@pytest.mark.parametrize("name", NAMES)
def test_no_encoding_of_a_terminal_ends_a_command(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()
    text = corpus.read_text(encoding="utf-8").replace(" ", " 🙂 é ", 40)
    (folder / name).write_text(text, encoding="utf-8")
    recipe = tiny.recipe_file(corpus, tmp_path)
    given = f"pretrain.data.sources={folder}"
    for encoding in ("latin-1", "ascii", "utf-8"):
        out, err, code = said(monkeypatch, encoding, "data", "build", recipe, given)
        assert (code, "documents" in out) == (0, True), err
        out, err, code = said(monkeypatch, encoding, "data", "peek", recipe, given, "--range", "0:2")
        assert (code, "targets are counted" in out) == (0, True), err
        (folder / "broken.jsonl").write_text("{")
        out, err, code = said(
            monkeypatch, encoding, "data", "build", recipe, f"pretrain.data.sources={folder / name}x"
        )
        assert (code, out, err.count("\n")) == (2, "", 1)
        (folder / "broken.jsonl").unlink()


@pytest.mark.parametrize("words", [["recipes"], ["--help"]], ids=" ".join)
def test_nobody_who_reads_means_no_traceback(words: list[str], tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with (tmp_path / "err").open("w") as err:
        subprocess.run(
            [sys.executable, "-m", "linnet.cli.main", *words], stdout=writer, stderr=err, check=False
        )
    os.close(writer)
    told = (tmp_path / "err").read_text()
    assert "Traceback" not in told
    assert "Exception ignored" not in told


def test_a_path_that_is_not_utf_8_is_read_where_it_is_named(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / NAMES[1]
    path.write_bytes(corpus.read_bytes())
    recipe = tiny.recipe_file(corpus, tmp_path)
    _, err, code = said(monkeypatch, "utf-8", "data", "build", recipe, f"pretrain.data.sources={path}")
    assert code == 0, err
