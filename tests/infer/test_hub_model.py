"""A model by its name on the hub: fetched once from a hub on loopback, then found without one."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from talkers import network

from linnet.data import world
from linnet.model import save_model
from linnet.text import train_tokenizer
from model_hub import COMMIT, Hub, asking

NAME = "hf:owner/name"


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    """A hub with a model whose weights lie in two files."""
    folder = tmp_path / "model"
    folder.mkdir()
    tokenizer = train_tokenizer([world.document("train", 0, i)["text"] for i in range(50)], 400)
    save_model(network(vocab_size=tokenizer.vocab_size), folder, eos_id=tokenizer.eos_id)
    tokenizer.save(folder)
    with Hub() as hub:
        for file in folder.iterdir():
            hub.files[f"owner/name/{file.name}"] = file.read_bytes()
        yield hub


def linnet(hub: str | None, home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "linnet.cli.main", *words]
    return subprocess.run(command, env=asking(hub, home), capture_output=True, text=True, timeout=120)


def test_a_model_is_fetched_once_and_then_talks_without_a_network(hub: Hub, tmp_path: Path) -> None:
    words = ("generate", NAME, "--prompt", "One", "--max-new-tokens", "4", "--temperature", "0")
    missing = linnet(None, tmp_path, *words)
    assert missing.returncode == 2
    assert "the hub cannot be reached" in missing.stderr
    said = [linnet(endpoint, tmp_path, *words) for endpoint in (hub.endpoint, None)]
    assert [run.returncode for run in said] == [0, 0], said[0].stderr
    assert said[0].stdout == said[1].stdout != ""


def test_a_stage_begins_with_a_model_of_the_hub(hub: Hub, tmp_path: Path) -> None:
    words = [
        "stages=[sft]",
        "model=null",
        "tokenizer=null",
        f"sft.init_from={NAME}@{COMMIT}",
        "sft.data.sequence_length=64",
        "sft.preflight.max_too_long=1",
    ]
    run = linnet(hub.endpoint, tmp_path, "data", "peek", "quickstart", "--stage", "sft", *words)
    assert run.returncode == 0, run.stderr
    assert "<|im_start|>assistant" in run.stdout


@pytest.mark.parametrize(
    ("name", "lacks", "said"),
    [
        (NAME, "model.safetensors", "there is no model.safetensors"),
        (NAME, "config.json", "there is no config.json"),
        ("hf:owner/nothing", "", "no repository owner/nothing"),
        ("hf:name", "", "write hf:owner/name"),
    ],
)
def test_what_is_no_model_is_told_in_one_line(
    hub: Hub, tmp_path: Path, name: str, lacks: str, said: str
) -> None:
    hub.files.pop(f"owner/name/{lacks}", None)
    run = linnet(hub.endpoint, tmp_path, "generate", name, "--prompt", "One")
    assert run.returncode == 2
    assert said in run.stderr
    assert "Traceback" not in run.stderr
