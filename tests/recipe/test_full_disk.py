"""A disk that is full at any small file of a run gives one line; the same command goes on once there is room."""

from __future__ import annotations

import errno
import json
import os
import sys
from pathlib import Path

import pytest

import lives
import starting
import tiny
from linnet.config import RunError
from linnet.recipe import Recipe, live
from linnet.storage import durable
from linnet.train import CheckpointFolder, checkpoints

NO_SPACE = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def life(folder: Path) -> Recipe:
    return lives.recipe(
        folder, "stages=[domain]", f"domain.init_from={starting.model_folder(folder / 'model')}", "model=null",
        "scoreboard.items=1", "scoreboard.prompts=[]", "scoreboard.max_new_tokens=1", "domain.save_steps=1",
        "domain.save_total_limit=1", "domain.eval_steps=2",
    )  # fmt: skip


def story(folder: Path) -> str:
    return repr(lives.story(folder / "run")["domain"]).replace(str(folder), "")


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What a run tells that always had room."""
    folder = tmp_path_factory.mktemp("whole")
    with tiny.one_thread(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys.modules["linnet.recipe.live"], "draw", lambda events, picture, stage=None: picture)
        live(life(folder), folder / "run")
    return story(folder)


@pytest.mark.parametrize(
    "name", ["recipe.yaml", "best.json", "step-00000001", "end.json", "scores.json", "scoreboard.json"]
)
def test_a_full_disk_is_one_line_and_the_run_goes_on_from_there(
    name: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = life(tmp_path)
    write, remove = durable.write_durably, checkpoints.discard

    def full(path: Path, content: bytes) -> None:
        if path.name == name:
            raise NO_SPACE
        write(path, content)

    def stuck(path: Path) -> None:
        if path.name == name:
            raise NO_SPACE
        remove(path)

    with monkeypatch.context() as patch:
        patch.setattr(durable, "write_durably", full)
        patch.setattr(checkpoints, "discard", stuck)
        with pytest.raises(RunError, match=rf"{name}: .*\(No space left on device\)"):
            live(recipe, tmp_path / "run")
    assert live(recipe, tmp_path / "run") == "finished"
    assert story(tmp_path) == told


@pytest.mark.parametrize("content", [None, "", "{}", '{"step": "x"}', '{"step": 99}', "[1]", "\0"])
def test_the_best_is_handed_on_or_refused(content: str | None, tmp_path: Path) -> None:
    """Never the last in its place."""
    recipe = tiny.recipe(
        tiny.write_corpus(tmp_path / "corpus.txt", 100), tmp_path, "pretrain.duration=2 steps",
        "pretrain.warmup_steps=0", "pretrain.eval_steps=1", "pretrain.save_steps=1",
    )  # fmt: skip
    live(recipe, tmp_path / "run")
    folder = CheckpointFolder(tiny.checkpoints(tmp_path / "run"))
    best = folder.folder / "best.json"
    assert folder.chosen("best").step == json.loads(best.read_text())["step"]
    if content is None:
        best.unlink()
    else:
        best.write_text(content)
    with pytest.raises(RunError, match="set hand_on=last"):
        folder.chosen("best")
    assert folder.chosen("last").step == 2


def test_without_keep_best_no_removed_step_is_named(tmp_path: Path) -> None:
    corpus = tiny.write_corpus(tmp_path / "corpus.txt", 200)
    few = (
        "pretrain.eval_steps=2",
        "pretrain.save_steps=2",
        "pretrain.save_total_limit=1",
        "pretrain.warmup_steps=0",
    )
    run = tmp_path / "run"
    live(tiny.recipe(corpus, tmp_path, *few, "pretrain.duration=4 steps"), run)
    best = tiny.checkpoints(run) / "best.json"
    assert best.exists()
    live(tiny.recipe(corpus, tmp_path, *few, "pretrain.duration=12 steps", "pretrain.keep_best=false"), run)
    kept = {int(path.name.removeprefix("step-")) for path in tiny.checkpoints(run).glob("step-*")}
    assert kept == {12}, "a better one was found, and the earlier best is gone"
    assert not best.exists()
