"""The program as a whole: it starts at once, every verb shows an example, and the verbs work together."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

import tiny
from linnet.cli.main import app

VERBS = (
    ["train"], ["quickstart"], ["recipes"], ["generate"], ["chat"], ["doctor"], ["bench"],
    ["data", "build"], ["data", "peek"], ["data", "audit"], ["data", "tokenizer"],
    ["checkpoints", "list"], ["checkpoints", "verify"],
)  # fmt: skip


def linnet(*words: object) -> str:
    """What a command that must succeed wrote."""
    result = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def all_verbs() -> list[list[str]]:
    """Every verb that the program has."""
    found = []
    for command in app.registered_commands:
        found.append([command.name or getattr(command.callback, "__name__", "")])
    for group in app.registered_groups:
        assert isinstance(group.typer_instance, typer.Typer)
        found += [
            [str(group.name), str(command.name)] for command in group.typer_instance.registered_commands
        ]
    return found


def test_all_verbs_are_known_here() -> None:
    assert sorted(all_verbs()) == sorted(VERBS)


@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
def test_help_has_an_example(verb: list[str]) -> None:
    text = linnet(*verb, "--help")
    assert f"Example: linnet {' '.join(verb)}" in " ".join(text.split())
    assert "linnet --help" not in text


def test_starting_imports_neither_torch_nor_transformers() -> None:
    code = "import linnet.cli.main, sys; print({'torch', 'transformers', 'matplotlib'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_help_is_there_at_once() -> None:
    """Processor time, so that a busy machine does not count; a second is several times what it takes."""
    code = (
        "import sys, resource; sys.argv = ['linnet', 'train', '--help']\n"
        "import linnet.cli.main as program\n"
        "try: program.main()\n"
        "except SystemExit: print(resource.getrusage(resource.RUSAGE_SELF).ru_utime)"
    )
    began = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(done.stdout.splitlines()[-1]) < 1.0
    assert time.perf_counter() - began < 10


def test_the_thin_line_through_all_verbs(corpus: Path, tmp_path: Path) -> None:
    """A text file becomes shards, a falling loss, a checkpoint, and text."""
    file = tiny.recipe_file(corpus, tmp_path)
    built = json.loads(linnet("data", "build", file, "--json"))
    assert built["train_tokens"] > built["validation_tokens"] > 100
    rows = [
        json.loads(line) for line in linnet("data", "peek", file, "--range", "0:3", "--json").splitlines()
    ]
    assert len({row["sha256"] for row in rows}) == 3
    assert linnet("data", "peek", file, "--range", "0:1")

    run = tmp_path / "run"
    said = linnet("train", file, "--run", run, "pretrain.duration=12 steps", "hardware.precision=fp32")
    assert str(run) in said
    losses = [loss for loss, _ in tiny.losses(run).values()]
    assert losses[-1] < losses[0] - 0.5
    listed = json.loads(linnet("checkpoints", "list", run, "--json"))
    assert [row["step"] for row in listed][-1] == 12
    assert linnet("checkpoints", "verify", run).count("whole") == len(listed)

    words = ("--prompt", "The red fox", "--max-new-tokens", 6, "--temperature", 0, "--json")
    written = json.loads(linnet("generate", run, *words))
    assert written["prompt"] == "The red fox"
    assert written["finish_reason"] == "length" or len(written["ids"]) < 6
    again = json.loads(linnet("generate", listed[-1]["path"], *words))
    assert again == written


def test_recipes_are_listed_with_their_size() -> None:
    rows = {row["name"]: row for row in json.loads(linnet("recipes", "--json"))}
    assert rows["tinystories-30m"]["parameters"] == pytest.approx(30.0e6, rel=0.01)
    shown = linnet("recipes", "quickstart")
    assert "train_batch_size:" in shown
    assert "30.0M" in linnet("recipes")


def test_doctor_says_what_it_picks() -> None:
    facts = json.loads(linnet("doctor", "--json"))
    assert {"linnet", "torch", "machine", "device", "precision", "attention", "compile"} <= facts.keys()
