"""`linnet data build` in parts and with copies of its stores; every command of docs/scale.md."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

import tiny
from linnet.cli.main import app
from linnet.config import RequestError

DOC = (Path(__file__).parents[2] / "docs" / "scale.md").read_text(encoding="utf-8")
SBATCH = """#!{python}
import os, re, subprocess, sys
words = " ".join(sys.argv[1:])
given = sys.argv[sys.argv.index("--wrap") + 1] if "--wrap" in sys.argv else None
script = given or open(sys.argv[-1]).read()
found = re.search(r"--array=(\\d+)-(\\d+)", words + script)
tasks = range(int(found[1]), int(found[2]) + 1) if found else [None]
for task in tasks:
    extra = {{}} if task is None else {{"SLURM_ARRAY_TASK_ID": str(task), "SLURM_NODELIST": "here"}}
    done = subprocess.run(["bash", "-c", script], env=os.environ | extra, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stdout + done.stderr)
print("7" if "--parsable" in words else "Submitted batch job 7")
"""
SRUN = """#!/bin/sh
while [ "${1#-}" != "$1" ] || [ "$1" = 1 ]; do shift; done
exec "$@"
"""


@pytest.fixture
def here(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with my.yaml, whose text lies in three files of two sources, and a cluster of one machine."""
    documents = corpus.read_text().split("\n<|endoftext|>\n")
    for number in range(3):
        folder = tmp_path / ("web" if number else "books")
        folder.mkdir(exist_ok=True)
        (folder / f"{number}.txt").write_text("\n<|endoftext|>\n".join(documents[number::3]))
    values = tiny.values(corpus)
    values["pretrain"]["data"] |= {"sources": ["web", "books"], "cache_dir": None}
    (tmp_path / "my.yaml").write_text(yaml.safe_dump(values))
    tools = tmp_path / "bin"
    tools.mkdir()
    for name, text in {
        "sbatch": SBATCH.format(python=sys.executable), "srun": SRUN, "scontrol": "#!/bin/sh\necho here\n",
    }.items():  # fmt: skip
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{Path(sys.executable).parent}:{os.environ['PATH']}")
    monkeypatch.setenv("LINNET_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def linnet(*words: object) -> str:
    result = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def stores(cache: Path) -> dict[str, bytes]:
    files = (path for path in cache.glob("stores/*/**/*") if path.is_file() and ".partial" not in str(path))
    return {path.relative_to(cache).as_posix(): path.read_bytes() for path in files}


def test_parts_say_what_is_left_and_end_in_the_same_bytes(here: Path) -> None:
    ready = linnet("data", "build", "my.yaml", "--part", "0/4")
    assert "all that 2 pieces need is there" in ready
    assert "parts 3 to 4 have nothing to do" in ready
    assert "2 pieces left to the parts" in ready
    first = json.loads(linnet("data", "build", "my.yaml", "--part", "1/2", "--json"))
    assert (first["made"], first["left"], first["left_by_source"]) == (1, 1, {"web": 0, "books": 1})
    said = linnet("data", "build", "my.yaml", "--part", "1/2")
    assert "made 0 of 2 pieces" in said
    assert "  books: 1 left\n1 piece left to the other parts" in said
    said = linnet("data", "build", "my.yaml", "--part", "2/2")
    assert "every piece is there; linnet data build my.yaml puts them together" in said
    linnet("data", "build", "my.yaml")
    other = here / "other"
    linnet("data", "build", "my.yaml", f"pretrain.data.cache_dir={other}")
    assert stores(here / "cache") == stores(other)
    assert len(stores(other)) > 8


def test_copies_go_with_the_tokenizer_that_was_trained_and_are_read_as_sources(here: Path) -> None:
    built = json.loads(linnet("data", "build", "my.yaml", "--out", "tokens", "--json"))
    *places, tokenizer = (sent["place"] for sent in built["sent"])
    assert places == ["tokens/web", "tokens/books"]
    words = (f"tokenizer={tokenizer}", "pretrain.data.sources=[tokens/web, tokens/books]")
    again = json.loads(linnet("data", "build", "my.yaml", *words, "--json"))
    same = ("train_tokens", "train_documents", "validation_tokens", "validation_documents")
    assert [again[name] for name in same] == [built[name] for name in same]
    said = linnet("data", "build", "my.yaml", *words, "--out", "tokens")  # of what is a store already
    assert "copied       tokens/tokens-web: 5 files, 5 of them now" in said


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--part", "5/4"], "is no part"),
        (["--part", "1/4", "--out", "tokens"], "a part of a build has no stores to copy"),
        (["--out", "https://host/tokens"], "nothing can be written there"),
        (["--out", "my.yaml"], "my.yaml: cannot be written"),
        (["--out", "tokens", "pretrain.data.validation_sources=books"], "no recipe could take them"),
        (["--part", "1/2", "pretrain.data.sources=hf:owner/name"], "the dataset cannot be reached"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_built(
    words: list[str], message: str, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(RequestError, match=message):
        CliRunner().invoke(app, ["data", "build", "my.yaml", *words], catch_exceptions=False)
    assert not (here / "cache").exists()


def test_parts_of_a_dataset_need_its_commit(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("linnet.recipe.parts.commit_of", lambda source: "c" * 40)
    with pytest.raises(RequestError, match=rf"owner/name: its revision 'main' may name another .*{'c' * 40}"):
        CliRunner().invoke(
            app, ["data", "build", "my.yaml", "--part", "1/2", "pretrain.data.sources=hf:owner/name"],
            catch_exceptions=False,
        )  # fmt: skip


def blocks(kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", DOC, re.DOTALL)


def run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_commands_of_the_page(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shell runs them with a `linnet` that writes down how it was called; then they are run here, in order."""
    called = here / "called"
    (here / "bin/linnet").write_text(f'#!/bin/sh\necho "$@" >> {called}\n')
    (here / "bin/linnet").chmod(0o755)
    by_hand, array, copies = blocks("bash")
    expected = ["", "--part 0/3", "--part 1/3", "--part 2/3", "--part 3/3"]
    caches = []
    for number, (script, words) in enumerate([(by_hand, expected), (array, [*expected[:1], "--part 4/4"])]):
        called.unlink(missing_ok=True)
        run("bash", "-ec", script)
        commands = called.read_text().splitlines()
        for ending in words:
            assert f"data build my.yaml {ending}".strip() in commands
        assert commands[-1] == "data build my.yaml"
        caches.append(here / f"cache-{number}")
        monkeypatch.setenv("LINNET_CACHE", str(caches[-1]))
        for command in commands:
            linnet(*command.split())
    assert stores(caches[0]) == stores(caches[1])
    assert len(stores(caches[0])) > 8
    (local,) = (line for line in copies.splitlines() if line.endswith("--out tokens"))
    linnet(*local.split()[1:])
    assert (here / "tokens/web/store.json").exists()


@pytest.mark.slow
def test_the_programs_of_the_page(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("datatrove")
    programs = blocks("python")
    assert len(programs) == 3
    for number, program in enumerate(programs):
        if "Ray" in program and importlib.util.find_spec("ray") is None:
            continue
        cache = here / f"cache-{number}"
        monkeypatch.setenv("LINNET_CACHE", str(cache))
        (here / f"program{number}.py").write_text(program.replace("tasks=4", "tasks=2"))
        run(sys.executable, f"program{number}.py")
        share = f"pretrain.data.validation_fraction={0.05 if '0.05' in program else 0.1}"
        left = json.loads(linnet("data", "build", "my.yaml", share, "--part", "0/4", "--json"))
        assert (left["pieces"], left["left"]) == (2, 0)
        linnet("data", "build", "my.yaml", share)
        alone = here / f"alone-{number}"
        linnet("data", "build", "my.yaml", share, f"pretrain.data.cache_dir={alone}")
        assert stores(cache) == stores(alone)
