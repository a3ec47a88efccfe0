"""A run on several domains, streamed and whole: what it tells, what it survives, how it ends."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import threading
from pathlib import Path
from typing import Any

import pytest
import yaml

import tiny
from linnet.config import RequestError, RunError
from linnet.data.shards.maker import Maker
from linnet.data.training import TrainBatches
from linnet.observe import Anomaly, Evaluated, RunEnded, StepDone
from linnet.recipe import Recipe, live, load_recipe

STEPS = 12


def terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


@pytest.fixture
def mixed(tmp_path: Path) -> dict[str, Any]:
    """A recipe of two domains: fables in files that are streamed, and a list of numbers."""
    fables = tmp_path / "fables"
    fables.mkdir()
    draw = random.Random(2)
    for part in range(3):
        rows = [json.dumps({"text": tiny.document(draw)}) for _ in range(150)]
        (fables / f"{part}.jsonl").write_text("\n".join(rows))
    numbers = tmp_path / "numbers.jsonl"
    counted = (" ".join(str(n + k) for k in range(40)) for n in range(200))
    numbers.write_text("\n".join(json.dumps({"text": text}) for text in counted))
    values = tiny.values(tmp_path / "unused")
    stage = values["pretrain"]
    stage |= {"duration": f"{STEPS} steps", "save_steps": 4, "eval_steps": 4}
    stage["data"] |= {
        "sources": (),
        "domains": {
            "fables": {
                "weight": 75,
                "sources": [{"path": str(fables), "streaming": True, "label": "fables"}],
            },
            "numbers": {"weight": 25, "sources": [{"path": str(numbers), "label": "numbers"}]},
        },
        "shard_tokens": 2048,
        "validation_documents": 12,
        "cache_dir": str(tmp_path / "cache"),
    }
    del stage["data"]["sources"]
    return values


def recipe_of(values: dict[str, Any], tmp_path: Path, *overrides: str) -> Recipe:
    path = tmp_path / "mixed.yaml"
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    return load_recipe(str(path), list(overrides))


def anomalies(run: Path) -> list[str]:
    return [event.what for event in tiny.told(run) if isinstance(event, Anomaly)]


def test_every_domain_is_evaluated_and_the_whole_is_weighed_as_the_mixture_is(
    mixed: dict[str, Any], tmp_path: Path
) -> None:
    live(recipe_of(mixed, tmp_path), tmp_path / "run")
    told = [event.metrics for event in tiny.told(tmp_path / "run") if isinstance(event, Evaluated)]
    assert len(told) == 3
    for metrics in told:
        domains = 0.75 * metrics["val/fables/loss"] + 0.25 * metrics["val/numbers/loss"]
        assert metrics["val/loss"] == pytest.approx(domains, rel=1e-12)
        assert metrics["val/fables/ppl"] > 1
    steps = [event.metrics for event in tiny.told(tmp_path / "run") if isinstance(event, StepDone)]
    assert steps[-1]["data/numbers/epochs"] > steps[0]["data/numbers/epochs"] > 0


@pytest.mark.parametrize("cache", ["kept", "lost"])
def test_a_killed_run_goes_on_exactly_with_and_without_its_cache(
    cache: str, mixed: dict[str, Any], tmp_path: Path
) -> None:
    recipe = recipe_of(mixed, tmp_path)
    live(recipe, tmp_path / "whole")
    for step in (3, 6, 9):
        with pytest.raises(tiny.Killed):
            live(recipe, tmp_path / "killed", lambda _: [tiny.At(step, tiny.kill)])  # noqa: B023
        if cache == "lost":
            shutil.rmtree(tmp_path / "cache" / "streams")
    live(recipe, tmp_path / "killed")
    tiny.assert_same_run(tmp_path / "whole", tmp_path / "killed", STEPS)


def test_what_was_earned_is_saved_when_the_data_is_lost(
    mixed: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = recipe_of(mixed, tmp_path)
    live(recipe, tmp_path / "whole")
    take = TrainBatches.__getitem__

    def lost(batches: TrainBatches, step: int) -> Any:
        if step == 6:
            raise RunError("does not answer (503)", "fables", "run the same command again")
        return take(batches, step)

    monkeypatch.setattr(TrainBatches, "__getitem__", lost)
    with pytest.raises(RunError, match=r"fables: does not answer.*step 6 is saved"):
        live(recipe, tmp_path / "run")
    assert (tiny.checkpoints(tmp_path / "run") / "step-00000006" / "manifest.json").exists()
    ends = [event.reason for event in tiny.told(tmp_path / "run") if isinstance(event, RunEnded)]
    assert ends[-1].startswith("failed: fables: does not answer")
    monkeypatch.undo()
    live(recipe, tmp_path / "run")
    assert tiny.losses(tmp_path / "run") == tiny.losses(tmp_path / "whole")


def test_a_run_ends_whole_when_a_source_may_not_repeat(mixed: dict[str, Any], tmp_path: Path) -> None:
    mixed["pretrain"]["data"] |= {"when_exhausted": "stop"}
    recipe = recipe_of(mixed, tmp_path, "pretrain.duration=4000 steps", "pretrain.eval_steps=0")
    assert live(recipe, tmp_path / "run") == "finished"
    last = max(tiny.losses(tmp_path / "run"))
    assert 20 < last < 1000
    assert f"the sources are used up after step {last} of 4000" in "\n".join(anomalies(tmp_path / "run"))
    assert tiny.evaluations(tmp_path / "run").keys() == {last}
    assert (tiny.checkpoints(tmp_path / "run") / f"step-{last:08d}" / "manifest.json").exists()
    assert live(recipe, tmp_path / "run") == "finished"  # and says so again


def test_passes_and_a_new_phase_are_told(mixed: dict[str, Any], tmp_path: Path) -> None:
    weights = {"fables": 20, "numbers": 80}
    mixed["pretrain"]["data"]["schedule"] = [{"start": 0.5, "weights": weights}]
    recipe = recipe_of(mixed, tmp_path, "pretrain.duration=200 steps", "pretrain.eval_steps=0")
    live(recipe, tmp_path / "run")
    said = "\n".join(anomalies(tmp_path / "run"))
    assert "from sample 800 on the mixture is fables 20%, numbers 80%" in said
    assert "numbers is used up and begins pass 2" in said


def test_a_longer_run_may_move_a_phase_that_has_not_begun_and_no_other(
    mixed: dict[str, Any], tmp_path: Path
) -> None:
    mixed["pretrain"]["data"]["schedule"] = [{"start": 0.5, "weights": {"fables": 20, "numbers": 80}}]
    early = lambda _: [tiny.At(4, terminate)]  # noqa: E731
    assert live(recipe_of(mixed, tmp_path), tmp_path / "early", early) == "stopped"
    longer = recipe_of(mixed, tmp_path, "pretrain.duration=16 steps")
    assert live(longer, tmp_path / "early") == "finished"
    live(recipe_of(mixed, tmp_path), tmp_path / "late")
    with pytest.raises(RequestError, match="drawn otherwise than these settings say"):
        live(longer, tmp_path / "late")


def test_a_stop_does_not_wait_for_a_source(
    mixed: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process that makes shards is never there: the run waits for the first one until it is stopped."""
    monkeypatch.setattr(Maker, "ensure", lambda _: None)
    timer = threading.Timer(1.0, terminate)
    recipe = recipe_of(mixed, tmp_path, "pretrain.eval_steps=0")
    timer.start()
    assert live(recipe, tmp_path / "run") == "stopped"
    timer.join()
    monkeypatch.undo()
    assert live(recipe, tmp_path / "run") == "finished"
