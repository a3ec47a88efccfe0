"""Killed at any instant and started again, a run is to the last bit one that was never interrupted."""

from __future__ import annotations

import os
import random
import signal
from pathlib import Path

import pytest

import tiny

STEPS, KILLS = 48, 10
SETTINGS = (f"pretrain.duration={STEPS} steps", "pretrain.save_steps=3", "pretrain.eval_steps=4")
SAMPLED = ("pretrain.sample_tokens=4", 'pretrain.sample_prompts=["There was"]')


def command(corpus: Path, folder: Path, run: Path) -> list[str]:
    recipe = tiny.recipe_file(corpus, folder)
    return ["train", str(recipe), "--run", str(run), *SETTINGS, *SAMPLED]


def partial(run: Path) -> bool:
    return any(tiny.checkpoints(run).glob(".step-*.partial"))


def reached(run: Path, step: int) -> bool:
    events = run / "events.jsonl"
    text = events.read_text() if events.exists() else ""
    return any(f'"step": {number}, "train/loss"' in text for number in range(step, STEPS + 1))


@pytest.mark.slow
def test_killed_ten_times_in_one_run(corpus: Path, tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    reference = tiny.start(command(corpus, tmp_path, whole), tmp_path / "whole.txt")
    reference.join()
    assert reference.exitcode == 0, (tmp_path / "whole.txt").read_text()

    draw = random.Random(2024)
    in_a_save = 0
    for number in range(KILLS):
        process = tiny.start(command(corpus, tmp_path, killed), tmp_path / "killed.txt")
        goal = 1 + (number * STEPS) // (KILLS + 1)
        assert tiny.wait_until(lambda goal=goal: reached(killed, goal), process), (
            tmp_path / "killed.txt"
        ).read_text()
        if number % 2:  # in the midst of the next save
            assert tiny.wait_until(lambda: partial(killed), process)
        process.join(draw.uniform(0.0, 0.05) if number % 2 == 0 else draw.uniform(0.0, 0.02))
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL, "it ended before it was killed"
        in_a_save += partial(killed)
    last = tiny.start(command(corpus, tmp_path, killed), tmp_path / "killed.txt")
    last.join()
    assert last.exitcode == 0, (tmp_path / "killed.txt").read_text()

    assert in_a_save >= 2, "too few of the kills hit a save"
    assert not partial(killed)
    tiny.assert_same_run(whole, killed, STEPS)
    assert (killed / "events.jsonl").read_text().count('"event": "resumed"') >= KILLS // 2


def test_sigterm_saves_at_once_and_goes_on_to_the_same_bits(corpus: Path, tmp_path: Path) -> None:
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    reference = tiny.start(command(corpus, tmp_path, whole), tmp_path / "whole.txt")
    process = tiny.start(command(corpus, tmp_path, stopped), tmp_path / "stopped.txt")
    assert tiny.wait_until(lambda: reached(stopped, 7), process)
    process.terminate()
    process.join()
    assert process.exitcode == 75
    saved = sorted(path.name for path in tiny.checkpoints(stopped).glob("step-*"))[-1]
    assert saved == f"step-{max(tiny.losses(stopped)):08d}", "the step that was done last is not saved"
    assert "stopped with everything saved" in (tmp_path / "stopped.txt").read_text()

    again = tiny.start(command(corpus, tmp_path, stopped), tmp_path / "stopped.txt")
    again.join()
    reference.join()
    assert (again.exitcode, reference.exitcode) == (0, 0)
    tiny.assert_same_run(whole, stopped, STEPS)


@pytest.mark.slow
def test_data_workers_change_nothing_and_survive_a_stop_of_the_whole_group(
    corpus: Path, tmp_path: Path
) -> None:
    alone, helped = tmp_path / "alone", tmp_path / "helped"
    with_workers = [*command(corpus, tmp_path, helped), "pretrain.data.num_workers=4"]
    reference = tiny.start(command(corpus, tmp_path, alone), tmp_path / "alone.txt")
    process = tiny.start(with_workers, tmp_path / "helped.txt")
    assert tiny.wait_until(lambda: reached(helped, 5), process)
    os.killpg(process.pid, signal.SIGTERM)  # as a scheduler does it: the workers too
    process.join()
    assert process.exitcode == 75, (tmp_path / "helped.txt").read_text()
    again = tiny.start(with_workers, tmp_path / "helped.txt")
    again.join()
    reference.join()
    assert (again.exitcode, reference.exitcode) == (0, 0), (tmp_path / "helped.txt").read_text()
    tiny.assert_same_run(alone, helped, STEPS)
