"""One process trains a run: its folder is locked before it is set aside or written, and checked again then."""

from __future__ import annotations

import multiprocessing
import os
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest

import tiny
from linnet.config import RequestError
from linnet.recipe import Recipe, RunFolder, live
from linnet.recipe.lock import lock

SHORT = ("pretrain.duration=2 steps", "pretrain.warmup_steps=0", "pretrain.save_steps=1")


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    return tiny.recipe(tiny.write_corpus(tmp_path / "corpus.txt", 100), tmp_path, *SHORT)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return tmp_path / "run"


@pytest.mark.parametrize("fresh", [False, True])
def test_a_run_at_work_is_neither_joined_nor_set_aside(fresh: bool, recipe: Recipe, run: Path) -> None:
    live(recipe, run)
    before = tiny.everything_in(run)
    handle = lock(run)
    try:
        with pytest.raises(RequestError, match="another process is training this run"):
            live(recipe, run, fresh=fresh)
    finally:
        os.close(handle)
    assert tiny.everything_in(run) == before
    assert [path.name for path in run.parent.glob("run*")] == ["run"]


def hold(folder: str, held: Event, enough: Event) -> None:
    lock(Path(folder))
    held.set()
    enough.wait(60)


def test_the_lock_ends_with_its_process(run: Path) -> None:
    context = multiprocessing.get_context("fork")
    held, enough = context.Event(), context.Event()
    process = context.Process(target=hold, args=(str(run), held, enough))
    process.start()
    assert held.wait(60)
    with pytest.raises(RequestError, match="another process"):
        lock(run)
    enough.set()
    process.join(60)
    os.close(lock(run))


def test_fresh_holds_both_folders_until_it_is_done(recipe: Recipe, run: Path) -> None:
    live(recipe, run)
    kept = tiny.everything_in(run)
    folder = RunFolder(run)
    with folder.opened(recipe, fresh=True):
        (aside,) = run.parent.glob("run.*")
        assert tiny.everything_in(aside) == kept
        for held in (run, aside):
            with pytest.raises(RequestError, match="another process"):
                lock(held)
    os.close(lock(run))


def test_a_lock_is_of_the_folder_that_is_there(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder is set aside between opening its lock and holding it."""
    run.mkdir()
    module = __import__("linnet.recipe.lock", fromlist=["taken"])
    taken, first = module.taken, [True]

    def late(path: Path) -> int | None:
        handle = taken(path)
        if first.pop() if first else False:
            run.rename(run.with_name("aside"))
        return handle

    monkeypatch.setattr(module, "taken", late)
    handle = lock(run)
    assert os.fstat(handle).st_ino == (run / ".lock").stat().st_ino
    os.close(handle)


def test_what_was_checked_before_the_lock_is_checked_again(
    recipe: Recipe, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While this command makes its data ready, another one trains the run to its end."""
    module = __import__("linnet.recipe.live", fromlist=["prepare_documents"])
    prepare, first = module.prepare_documents, [True]

    def slow(*arguments: object) -> object:
        if first and first.pop():
            live(recipe, run)
        return prepare(*arguments)

    monkeypatch.setattr(module, "prepare_documents", slow)
    with pytest.raises(RequestError, match="another process has trained this run since"):
        live(recipe, run)
    kept = tiny.everything_in(run)
    other = tiny.recipe(run.parent / "corpus.txt", run.parent, *SHORT, "seed=6")
    with pytest.raises(RequestError, match="seed"):
        live(other, run)
    assert tiny.everything_in(run) == kept


def test_two_recipes_that_begin_at_once_in_a_new_folder(
    recipe: Recipe, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other one was killed before its first checkpoint, so only its recipe tells."""
    folder = RunFolder(run)
    state = folder.state(recipe.life)
    with folder.opened(tiny.recipe(run.parent / "corpus.txt", run.parent, *SHORT, "seed=6")):
        pass
    with pytest.raises(RequestError, match="was begun with seed=6"), folder.opened(recipe, state):
        pass


def test_fresh_sets_aside_nothing_but_a_run(recipe: Recipe, tmp_path: Path) -> None:
    mine = tmp_path / "letters"
    mine.mkdir()
    (mine / "to-anna.txt").write_text("Dear Anna")
    with pytest.raises(RequestError, match="something other than a run"):
        live(recipe, mine, fresh=True)
    assert (mine / "to-anna.txt").exists()
