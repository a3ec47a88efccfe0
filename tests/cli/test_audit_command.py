"""`linnet data audit`: the page, the JSON and the exit code that a rule decides."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

import tiny
from linnet.cli import main as program
from linnet.cli.audit import _AuditLine
from linnet.cli.main import app
from linnet.data.audit import AuditProgress

RULES = "pretrain.data.audit"


def linnet(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    """The program's exit code."""
    monkeypatch.setattr(sys, "argv", ["linnet", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        program.main()
    return int(ended.value.code or 0)


def test_a_clean_corpus_passes_and_says_so(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tiny.recipe_file(corpus, tmp_path)
    monkeypatch.chdir(tmp_path)
    assert (
        linnet(monkeypatch, "data", "audit", file, "--samples", 64, f"{RULES}.max_duplicate_sequences=1") == 0
    )
    said = capsys.readouterr().out
    facts = json.loads((tmp_path / "audit-tiny" / "audit.json").read_text())
    assert facts["passed"]
    assert facts["sequences"]["samples"] == 64
    assert said.count("ok ") == len(facts["rules"]) == 7
    assert "BROKEN" not in said
    assert "every rule of the recipe holds" in (tmp_path / "audit-tiny" / "audit.html").read_text()


def test_a_broken_rule_is_exit_1_with_its_figure_and_everything_written(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file, out = tiny.recipe_file(corpus, tmp_path), tmp_path / "found"
    quiz = tmp_path / "quiz.jsonl"
    quiz.write_text(json.dumps({"question": corpus.read_text()[:200]}) + "\n" + '{"question": "no"}\n')
    words = [f"{RULES}.evaluation_sets=[{{path: {quiz}, text_field: question}}]", f"{RULES}.ngram=5",
             f"{RULES}.max_contaminated_items=0.25", f"{RULES}.max_duplicate_sequences=1"]  # fmt: skip
    assert linnet(monkeypatch, "data", "audit", file, *words, "--out", out, "--samples", 16) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert "50.0%, and max_contaminated_items allows 25.0%" in error
    assert "more" not in error
    assert str(out / "audit.html") in error
    assert json.loads((out / "audit.json").read_text())["evaluation"]["sets"][0]["contaminated"] == 1


def test_json_on_the_terminal_is_the_file_and_equal_twice(corpus: Path, tmp_path: Path) -> None:
    file, out = tiny.recipe_file(corpus, tmp_path), tmp_path / "found"
    words = [
        "data",
        "audit",
        str(file),
        f"{RULES}.max_duplicate_sequences=1",
        "--out",
        str(out),
        "--samples",
        "16",
    ]
    said = [CliRunner().invoke(app, [*words, "--json"], catch_exceptions=False).stdout for _ in range(2)]
    assert said[0] == said[1] == (out / "audit.json").read_text()
    assert json.loads(said[0])["kind"] == "linnet data audit"


@pytest.mark.parametrize("there", ["notes.txt", "audit.json"])
def test_what_is_no_audit_is_not_overwritten(
    there: str,
    corpus: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file, out = tiny.recipe_file(corpus, tmp_path), tmp_path / "mine"
    out.mkdir()
    (out / there).write_text("[1]")
    assert linnet(monkeypatch, "data", "audit", file, "--out", out) == 2
    assert str(out) in capsys.readouterr().err
    assert [(path.name, path.read_text()) for path in out.iterdir()] == [(there, "[1]")]


def test_a_set_that_is_missing_is_exit_2_in_one_line(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file, out = tiny.recipe_file(corpus, tmp_path), tmp_path / "found"
    sets = f"{RULES}.evaluation_sets={tmp_path / 'nowhere.jsonl'}"
    assert linnet(monkeypatch, "data", "audit", file, sets, "--out", out) == 2
    assert "nowhere.jsonl" in capsys.readouterr().err
    assert not out.exists()


def test_progress_tells_speed_and_time_left(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    with _AuditLine() as line:
        for second, tokens in ((0.0, 0), (1.0, 1000), (4.0, 4000)):
            now[0] = second
            line(AuditProgress("reading a", tokens, 10_000))
    assert capsys.readouterr().err.strip() == "reading a: 4K of 10K tokens, 1K tokens/s, 6s left"
