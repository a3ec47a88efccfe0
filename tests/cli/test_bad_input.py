"""Whatever a person gets wrong ends in one line that says what, where and the mend, and touches nothing."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

import tiny
from linnet.cli.main import main


@dataclass
class Said:
    """What a command wrote and how it ended."""

    code: int
    out: str
    err: str


Linnet = Callable[..., Said]


@pytest.fixture
def linnet(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Linnet:
    """The program in this process, in an empty working folder, without a network."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)

    def call(*arguments: object) -> Said:
        monkeypatch.setattr(sys, "argv", ["linnet", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return Said(int(ended.value.code or 0), said.out, said.err)

    return call


@pytest.fixture
def file(corpus: Path, tmp_path: Path) -> Path:
    """The tiny recipe as a file."""
    return tiny.recipe_file(corpus, tmp_path)


def refused(said: Said, *words: str, code: int = 2) -> None:
    """One line, the right code, no traceback, and every one of the words."""
    lines = said.err.strip().splitlines()
    assert len(lines) == 1, said.err
    assert lines[0].startswith("linnet: ")
    assert "Traceback" not in said.err + said.out
    for word in words:
        assert word in lines[0], lines[0]
    assert said.code == code


# --- the recipe ---------------------------------------------------------------------------------------

WRONG_VALUES = {
    "unknown key": (
        ["pretrain.learnin_rate=1"],
        ["unknown key 'pretrain.learnin_rate'", "did you mean 'pretrain.learning_rate'"],
    ),
    "key of another section": (
        ["learning_rate=1"],
        ["unknown key 'learning_rate'", "it belongs at 'pretrain.learning_rate'"],
    ),
    "name of another trainer": (["pretrain.per_device_train_batch_size=8"], ["write 'train_batch_size'"]),
    "name of another trainer at the top": (["num_train_epochs=3"], ["write 'duration: 3 epochs'"]),
    "wrong type": (["pretrain.train_batch_size=many"], ["pretrain.train_batch_size", "integer", "'many'"]),
    "out of range": (["pretrain.adam_beta2=1.5"], ["pretrain.adam_beta2", "less than 1", "1.5"]),
    "heads that do not divide": (
        ["model.num_attention_heads=5"],
        ["hidden_size 32 does not divide by num_attention_heads 5", "30 does"],
    ),
    "key and value heads that do not divide": (
        ["model.num_key_value_heads=3"],
        ["num_key_value_heads 3", "possible here: 1, 2, 4"],
    ),
    "micro-batch over the batch": (
        ["pretrain.micro_batch_size=16"],
        ["micro_batch_size 16 is over train_batch_size 8"],
    ),
    "warmup longer than the run": (
        ["pretrain.warmup_steps=31"],
        ["warmup_steps 31 is longer than the run of 30 steps"],
    ),
    "decay longer than the run": (
        ["pretrain.lr_scheduler_type=wsd", "pretrain.decay_steps=28"],
        ["decay_steps 28", "can be at most 27"],
    ),
    "decay longer than a run in tokens": (
        ["pretrain.lr_scheduler_type=wsd", "pretrain.decay_steps=28", "pretrain.duration=7680 tokens"],
        ["decay_steps 28", "can be at most 27"],
    ),
    "sequence over the positions": (
        ["pretrain.data.sequence_length=65"],
        ["sequence_length 65 is over model.max_position_embeddings 64"],
    ),
    "tokenizer over the vocabulary": (
        ["model.vocab_size=300"],
        ["tokenizer.vocab_size 320 is over model.vocab_size 300"],
    ),
    "duration without a unit": (["pretrain.duration=300"], ["300", "write for example '300 steps'"]),
    "no KEY=VALUE": (["pretrain.learning_rate"], ["this is not KEY=VALUE", "pretrain.learning_rate=3e-4"]),
    "no such device": (
        ["hardware.device=cuda"],
        ["hardware.device=cuda is not possible here", "hardware.device=auto"],
    ),
    "patience without evaluations": (
        ["pretrain.early_stopping_patience=2", "pretrain.eval_steps=0"],
        ["needs evaluations", "set eval_steps above 0"],
    ),
    "unknown architecture": (
        ["model.architecture=bert"],
        ["model.architecture", "'gpt2', 'llama', 'smollm3' or 'qwen3'", "'bert'"],
    ),
    "no such init_from": (["pretrain.init_from=nowhere"], ["nowhere", "there is no such folder"]),
    "no such source": (["pretrain.data.sources=nowhere.txt"], ["nowhere.txt", "there is no such file"]),
    "unknown tokenizer": (["tokenizer=gtp2"], ["there is no tokenizer 'gtp2'", "did you mean gpt2"]),
    "tokenizer that is not here": (
        ["tokenizer=someone/something"],
        ["someone/something", "cannot be reached"],
    ),
}


@pytest.mark.parametrize("name", WRONG_VALUES)
def test_a_wrong_value_is_told_in_one_line(name: str, linnet: Linnet, file: Path, tmp_path: Path) -> None:
    if name == "no such device" and __import__("torch").cuda.is_available():
        pytest.skip("there is a CUDA device here")
    before = tiny.everything_in(tmp_path)
    overrides, words = WRONG_VALUES[name]
    refused(linnet("train", file, *overrides), *words)
    assert tiny.everything_in(tmp_path) == before, "something was touched"
    assert not (tmp_path / "runs").exists()


def test_the_line_of_a_mistake_in_a_file(linnet: Linnet, file: Path) -> None:
    text = file.read_text()
    number = 1 + text.splitlines().index("  num_hidden_layers: 2")
    file.write_text(text.replace("num_hidden_layers: 2", "num_hidden_layer: 2"))
    refused(
        linnet("train", file), f"{file}:{number}", "unknown key", "did you mean 'model.num_hidden_layers'"
    )
    file.write_text(text.replace("num_hidden_layers: 2", "num_hidden_layers: [2"))
    refused(linnet("train", file), f"{file}:", "not valid YAML", "check indentation")
    file.write_text(text.replace("  num_hidden_layers: 2", "  num_hidden_layers: 2\n  num_hidden_layers: 3"))
    refused(linnet("train", file), f"{file}:{number + 1}", "'model.num_hidden_layers' stands twice")
    file.write_text(text + "version: 99\n")
    refused(linnet("train", file), "version 99, newer than this Linnet's 1", "update Linnet")
    file.write_text("- a\n- list\n")
    refused(linnet("train", file), f"{file}:1", "a recipe is a mapping")
    file.write_bytes(b"\xff\xfe\x00")
    refused(linnet("train", file), str(file), "not text")
    file.write_text("")
    refused(linnet("train", file), str(file), "is missing")


def test_recipes_that_are_not_there(linnet: Linnet, tmp_path: Path) -> None:
    refused(linnet("train", "tinystory-30m"), "tinystory-30m", "did you mean 'tinystories-30m'?")
    refused(linnet("train", "nowhere.yaml"), "nowhere.yaml", "cannot be read (No such file or directory)")
    refused(linnet("train", tmp_path), str(tmp_path))
    (tmp_path / "a.yaml").write_text("base: b.yaml\n")
    (tmp_path / "b.yaml").write_text("base: a.yaml\n")
    refused(linnet("train", "a.yaml"), "in a circle", "a.yaml → b.yaml → a.yaml")
    refused(linnet("recipes", "smol"), "there is no recipe of this name", "did you mean 'smol-")


# --- the text -----------------------------------------------------------------------------------------


def test_text_that_cannot_be_learned_from(linnet: Linnet, file: Path, tmp_path: Path) -> None:
    lines = tmp_path / "broken.jsonl"
    lines.write_text('{"text": "one"}\n{"text": "two"}\n{"text": \n')
    refused(linnet("train", file, f"pretrain.data.sources={lines}"), f"{lines}:3", "not JSON")
    lines.write_text('{"text": "one"}\n{"body": "two"}\n')
    refused(linnet("train", file, f"pretrain.data.sources={lines}"), f"{lines}:2", "no field 'text'", "body")
    empty = tmp_path / "empty.txt"
    empty.write_text("\n \n")
    refused(linnet("train", file, f"pretrain.data.sources={empty}"), "there is no text")
    binary = tmp_path / "binary.txt"
    binary.write_bytes(bytes(range(256)) * 20)
    refused(linnet("train", file, f"pretrain.data.sources={binary}"), str(binary), "not")
    picture = tmp_path / "picture.png"
    picture.write_bytes(b"\x89PNG")
    refused(linnet("train", file, f"pretrain.data.sources={picture}"), str(picture), ".png", "are not read")
    few = tmp_path / "few.txt"
    few.write_text("a b c d")
    refused(linnet("train", file, f"pretrain.data.sources={few}"), "few")
    assert not (tmp_path / "runs").exists()


# --- the run folder -----------------------------------------------------------------------------------

FEW = ("pretrain.duration=4 steps", "pretrain.save_steps=2", "pretrain.eval_steps=0")


@pytest.fixture
def run(linnet: Linnet, file: Path, tmp_path: Path) -> Path:
    """A finished run of four steps."""
    said = linnet("train", file, "--run", tmp_path / "run", *FEW)
    assert said.code == 0, said.err
    return tmp_path / "run"


def test_a_run_folder_that_cannot_be_used(linnet: Linnet, file: Path, run: Path, tmp_path: Path) -> None:
    before = tiny.everything_in(run)
    refused(
        linnet("train", file, "--run", run, *FEW, "seed=6"), str(run), "begun with seed=5, not 6", "--fresh"
    )
    refused(
        linnet("train", file, "--run", run, *FEW, "model.hidden_size=64", "seed=6"), "other values of seed"
    )
    with (run / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        refused(linnet("train", file, "--run", run, *FEW), "another process is training this run", "--run")
    assert tiny.everything_in(run) == before
    refused(linnet("train", file, "--run", file), str(file), "this is a file")
    refused(linnet("train", file, "--run", file / "run"), "cannot be written", "--run")
    refused(linnet("train", file, "--run", "/proc/linnet/run"), "cannot be written", "--run")
    other = tmp_path / "other"
    other.mkdir()
    (other / "letter.txt").write_text("dear")
    refused(linnet("train", file, "--run", other), "something other than a run")
    assert list(other.iterdir()) == [other / "letter.txt"]


def test_fresh_sets_the_old_run_aside(linnet: Linnet, file: Path, run: Path, tmp_path: Path) -> None:
    before = tiny.everything_in(run)
    refused(
        linnet("train", file, "--run", run, "--fresh", *FEW, "model.num_attention_heads=5"), "does not divide"
    )
    assert tiny.everything_in(run) == before, "a wrong request must not move the old run"
    assert linnet("train", file, "--run", run, "--fresh", *FEW, "seed=6").code == 0
    (aside,) = (path for path in tmp_path.iterdir() if path.name.startswith("run."))
    assert tiny.everything_in(aside) == before
    assert yaml.safe_load((run / "recipe.yaml").read_text())["seed"] == 6


def test_a_damaged_checkpoint(linnet: Linnet, file: Path, run: Path) -> None:
    weights = tiny.checkpoints(run) / "step-00000004" / "model" / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-10] ^= 4
    weights.write_bytes(data)
    before = tiny.everything_in(run / "stages")
    refused(
        linnet("train", file, "--run", run, *FEW), str(weights), "its sha256 has changed", "remove", code=1
    )
    refused(linnet("checkpoints", "verify", run), str(weights), "its sha256 has changed", code=1)
    (weights.parents[1] / "manifest.json").unlink()
    refused(linnet("train", file, "--run", run, *FEW), "manifest.json", "no whole checkpoint")
    refused(linnet("checkpoints", "list", file.parent), "there is no checkpoint here")
    assert len(tiny.everything_in(run / "stages")) == len(before) - 1


def test_a_damaged_checkpoint_does_not_hide_the_others(linnet: Linnet, run: Path) -> None:
    whole = tiny.checkpoints(run) / "step-00000004"
    damaged = whole.with_name("step-00000002")
    (damaged / "manifest.json").write_text("{}")
    for verb in ("list", "verify"):
        said = linnet("checkpoints", verb, run)
        refused(said, str(damaged), "the manifest is damaged")
        assert str(whole) in said.out


# --- the other verbs ----------------------------------------------------------------------------------


def test_words_the_program_does_not_know(linnet: Linnet) -> None:
    refused(linnet("trian"), "no such command 'trian'", "linnet --help")
    refused(linnet("train"), "missing argument", "linnet --help")
    refused(linnet("train", "quickstart", "--gpu-count", "2"), "no such option: --gpu-count")
    refused(linnet("generate", "x", "--max-new-tokens", "many"), "--max-new-tokens", "integer")
    refused(linnet("data"), "missing command")


@pytest.mark.parametrize("words", ["5", "3:3", "4:2", "a:b", "-1:4", "1:2:3"])
def test_a_range_that_is_none(words: str, linnet: Linnet, file: Path) -> None:
    refused(linnet("data", "peek", file, f"--range={words}"), "--range", "is not a range", "0:64")


def test_models_and_settings_that_cannot_generate(linnet: Linnet, run: Path, tmp_path: Path) -> None:
    refused(linnet("generate", tmp_path / "nowhere"), "there is no such folder")
    refused(linnet("generate", tmp_path), "there is no model")
    refused(linnet("generate", run, "--temperature", "-1"), "--temperature", "greater than or equal to 0")
    refused(linnet("generate", run, "--top-p", "1.5"), "--top-p", "less than or equal to 1")
    refused(linnet("generate", run, "--max-new-tokens", "0"), "--max-new-tokens")
    refused(linnet("generate", run, "--prompt", "fox " * 200), "prompt 1", "leave no room")


# --- the same through a shell -------------------------------------------------------------------------


def shell(*arguments: object, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "linnet.cli.main", *map(str, arguments)],
        capture_output=True, text=True, env={**os.environ, **variables}, check=False,
    )  # fmt: skip


def test_exit_codes_and_streams_as_a_shell_sees_them(file: Path, tmp_path: Path) -> None:
    wrong = shell("train", file, "pretrain.learnin_rate=1")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert wrong.stderr.count("\n") == 1
    assert wrong.stderr.startswith("linnet: ")
    unknown = shell("trian")
    assert (unknown.returncode, unknown.stderr.count("\n")) == (2, 1)
    assert shell("--version").stdout.startswith("linnet ")


def test_ctrl_c_says_that_the_work_can_go_on_and_exits_75(monkeypatch, capsys):
    def interrupted():
        raise KeyboardInterrupt

    monkeypatch.setattr("linnet.hardware.detect", interrupted)
    monkeypatch.setattr("sys.argv", ["linnet", "doctor"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 75
    assert "run the same command again" in capsys.readouterr().err
