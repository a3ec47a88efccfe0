"""What a stage's scores were measured on is kept with them: changed in mid-run, they are measured again or marked."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import lives
import starting
from linnet.observe import Event, Scored
from linnet.recipe import Recipe, live
from linnet.recipe.scores import Scorer

BOARD = ("scoreboard.items=2", "scoreboard.prompts=[]", "scoreboard.max_new_tokens=2")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return starting.model_folder(tmp_path / "model")


def life(folder: Path, model: Path, *overrides: str) -> Recipe:
    return lives.recipe(
        folder, "stages=[sft, domain]", f"sft.init_from={model}", "model=null", *BOARD, "sft.duration=2 steps",
        "domain.duration=2 steps", "sft.sample_prompts=[]", *overrides,
    )  # fmt: skip


def test_the_last_stage_is_measured_again_and_those_before_are_marked(model: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    live(life(tmp_path, model), run)
    before = json.loads((run / "scoreboard.json").read_text())
    assert before["incomparable"] == []
    again: list[Event] = []
    live(life(tmp_path, model), run, lambda _: [again.append])
    assert not [event for event in again if isinstance(event, Scored)], "nothing has changed"
    live(life(tmp_path, model, "scoreboard.items=3"), run, lambda _: [again.append])
    assert [event.stage for event in again if isinstance(event, Scored)] == ["domain"]
    after = json.loads((run / "scoreboard.json").read_text())
    assert {found["stage"] for found in after["incomparable"]} == {"domain"}
    assert "instruction/exact_match" in {found["suite"] for found in after["incomparable"]}


def judge(folder: Path) -> list[str]:
    copied = shutil.copytree(folder / "model", folder / "judge")
    return ["stages=[sft, safety]", f"scoreboard.judge={copied}"]


def reward(folder: Path) -> list[str]:
    (folder / "rewards.py").write_text("def one(completions, **_):\n    return [1.0] * len(completions)\n")
    return ["stages=[sft, rlvr]", f"rlvr.verifiers=['python:{folder / 'rewards.py'}:one']"]


def held_out(folder: Path) -> list[str]:
    return []


def other_items(folder: Path) -> None:
    rows = (folder / "sft.jsonl").read_text()
    (folder / "sft.jsonl").write_text(rows.replace('"answer": "', '"answer": "dark '))


CHANGES: dict[str, tuple[Callable[[Path], list[str]], Callable[[Path], object]]] = {
    "judge": (judge, lambda folder: starting.other_weights(folder / "judge")),
    "reward": (
        reward,
        lambda folder: (folder / "rewards.py").write_text("def one(completions):\n    return [0.0]\n"),
    ),
    "held out": (held_out, other_items),
}


@pytest.mark.parametrize("kind", CHANGES)
def test_what_judges_and_what_is_judged_are_part_of_a_score(kind: str, model: Path, tmp_path: Path) -> None:
    begin, change = CHANGES[kind]
    overrides = begin(tmp_path)
    recipe = life(tmp_path, model, *overrides)
    first = Scorer(recipe).measured_on(model)
    assert Scorer(recipe).measured_on(model) == first
    change(tmp_path)
    assert Scorer(recipe).measured_on(model) != first
