"""A recipe with all stages is lived from documents to a domain's adapter, and killed anywhere it goes on exactly."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import linnet.recipe
import lives
import tiny
from linnet.config import RequestError, RunError
from linnet.infer.rows import RunningBatch
from linnet.model import load_adapter, load_model, lora
from linnet.observe import Scored, StepDone
from linnet.recipe import live, look_at_stage


@pytest.fixture(autouse=True)
def _plain(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(
        sys.modules["linnet.recipe.live"], "draw", lambda events, picture, stage=None: picture
    )
    with tiny.one_thread():
        yield


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished life, by the real program."""
    folder = tmp_path_factory.mktemp("life")
    command = ["train", str(lives.recipe_file(folder)), "--run", str(folder / "run")]
    process = tiny.start(command, folder / "told.txt")
    process.join()
    assert process.exitcode == 0, (folder / "told.txt").read_text()
    return folder / "run"


def test_every_stage_begins_with_what_the_one_before_handed_on(lived: Path) -> None:
    manifests = [
        json.loads((sorted((folder / "checkpoints").glob("step-*"))[0] / "manifest.json").read_text())
        for folder in sorted((lived / "stages").glob("*"))
    ]
    assert [manifest["stage"] for manifest in manifests] == list(lives.STAGES)
    for number, manifest in enumerate(manifests[1:], 1):
        folder = f"stages/{number}-{lives.STAGES[number - 1]}/checkpoints/step-"
        assert folder in manifest["parent"] or manifest["parent"].startswith("step-")
    assert "/stages/5-rlvr/" in manifests[5]["parent"]


def test_the_scoreboard_has_every_suite_of_every_stage(lived: Path) -> None:
    board = json.loads((lived / "scoreboard.json").read_text())
    assert list(board["stages"]) == list(lives.STAGES)
    suites = {
        "perplexity/general", "perplexity/domain", "instruction/exact_match", "preference/accuracy",
        "rlvr/reward", "rlvr/greedy", "safety/refusal", "safety/over_refusal",
    }  # fmt: skip
    for stage, scores in board["stages"].items():
        assert scores.keys() == suites, stage
        for suite, score in scores.items():
            assert score["n"] > 0, suite
            assert score["low"] is None or score["low"] <= score["value"] <= score["high"], (stage, suite)
    assert list(board["answers"][0]) == ["prompt", *lives.STAGES]
    said = {
        e.stage: e.metrics for events in lives.told(lived).values() for e in events if isinstance(e, Scored)
    }
    assert said["dpo"]["score/preference/accuracy"] == board["stages"]["dpo"]["preference/accuracy"]["value"]


def test_every_stage_shows_its_own_metrics(lived: Path) -> None:
    first = {
        stage: next(e for e in events if isinstance(e, StepDone))
        for stage, events in lives.told(lived).items()
    }
    assert first["dpo"].metrics["train/loss"] == pytest.approx(0.693147, abs=1e-6)  # ln 2
    assert first["dpo"].metrics["dpo/accuracy"] == 0.5
    assert first["rlvr"].metrics["rlvr/ratio"] == pytest.approx(1.0, abs=1e-4)
    assert first["rlvr"].metrics["rlvr/kl"] == pytest.approx(0.0, abs=1e-6)
    assert {"rlvr/reward", "rlvr/reward_std", "rlvr/length", "rlvr/entropy"} <= first["rlvr"].metrics.keys()


def test_the_domain_is_an_adapter_beside_a_merged_model(lived: Path) -> None:
    """What was learned is in PEFT's files; what others load has it in its weights; the base is the stage before."""
    last = sorted((lived / "stages" / "6-domain" / "checkpoints").glob("step-*"))[-1]
    base = sorted((lived / "stages" / "5-rlvr" / "checkpoints").glob("step-*"))[-1]
    adapted, merged = load_model(base / "model"), load_model(last / "model")
    plain = load_model(base / "model")
    load_adapter(adapted, last / "adapter")
    tokens = torch.arange(5, 25)[None]
    with torch.no_grad():
        found = [model.eval()(tokens) for model in (adapted, merged, plain)]
    torch.testing.assert_close(found[0], found[1], rtol=1e-5, atol=1e-5)
    assert (found[1] - found[2]).abs().max() > 1e-4
    assert not lora.adapters(merged)


def test_transformers_loads_every_stage(lived: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    for folder in sorted((lived / "stages").glob("*")):
        model = sorted((folder / "checkpoints").glob("step-*"))[-1] / "model"
        theirs = AutoModelForCausalLM.from_pretrained(model)
        tokens = torch.arange(5, 25)[None]
        ours = load_model(model).eval()
        with torch.no_grad():
            torch.testing.assert_close(ours.logits(ours(tokens)), theirs(tokens).logits, rtol=1e-4, atol=1e-4)
        if folder.name != "1-pretrain":
            tokenizer = AutoTokenizer.from_pretrained(model)
            text = tokenizer.apply_chat_template(
                [{"role": "user", "content": "hi"}], tokenize=False, add_generation_prompt=True
            )
            assert text.endswith("<|im_start|>assistant\n")


@pytest.mark.slow
def test_killed_in_every_stage_it_is_a_life_that_was_never_killed(lived: Path, tmp_path: Path) -> None:
    """SIGKILL in the midst of steps of every stage: losses, rollouts, evaluations and weights to the last bit."""
    run = tmp_path / "run"
    command = ["train", str(lived.parent / "life.yaml"), "--run", str(run)]
    kills = [
        ("sft", 1),
        ("sft", 3),
        ("safety", 2),
        ("dpo", 1),
        ("dpo", 5),
        ("rlvr", 2),
        ("rlvr", 5),
        ("rlvr", 7),
        ("domain", 1),
    ]
    for stage, step in kills:
        process = tiny.start(command, tmp_path / "told.txt")
        reached = lambda s=stage, n=step: lives.steps_taken(run).get(s, 0) >= n  # noqa: E731
        assert tiny.wait_until(reached, process), (tmp_path / "told.txt").read_text()
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL, "it ended before it was killed"
    last = tiny.start(command, tmp_path / "told.txt")
    last.join()
    assert last.exitcode == 0, (tmp_path / "told.txt").read_text()
    assert lives.story(run) == lives.story(lived)
    assert lives.models(run) == lives.models(lived)
    board = [json.loads((folder / "scoreboard.json").read_text()) for folder in (run, lived)]
    assert board[0] == board[1]


# --- what a life refuses -------------------------------------------------------------------------------


def refused(folder: Path, *overrides: str) -> str:
    with pytest.raises(RequestError) as told:
        live(lives.recipe(folder, *overrides), folder / "run")
    assert not (folder / "run").exists(), "something was touched"
    return told.value.line()


def test_what_a_later_stage_would_trip_over_is_refused_before_the_first(tmp_path: Path) -> None:
    files = lives.write(tmp_path)
    odd = tmp_path / "odd.jsonl"
    odd.write_text('{"title": "a", "body": "b"}\n' * 5)
    assert "title, body" in refused(tmp_path, f"sft.data.sources=[{odd}]")
    assert "it gives conversations" in refused(tmp_path, f"dpo.data.sources=[{files['sft']}]")
    assert "there is no verifier 'mth'" in refused_at_load(tmp_path, "rlvr.verifiers=[mth]")
    assert "no such" in refused(tmp_path, "sft.data.sources=[nothing.jsonl]")
    assert "test_column" in refused(tmp_path, "rlvr.verifiers=[code]")
    assert "target_modules" in refused(tmp_path, "domain.lora.target_modules=[q_prj]")
    assert "do not fit" in refused(tmp_path, "dpo.data.sequence_length=12")
    assert "none.txt" in refused(tmp_path, "safety.replay={share: 0.5, sources: [none.txt]}")


def refused_at_load(folder: Path, *overrides: str) -> str:
    with pytest.raises(RequestError) as told:
        lives.recipe(folder, *overrides)
    return told.value.line()


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("stages=[sft, pretrain]", "sft is the first stage and needs a model to begin with"),
        ("stages=[]", "there is no stage"),
        ("stages=[pretrain, pretrain]", "stages names a stage twice"),
        ("rlvr.train_batch_size=7", "is no multiple of num_generations 4"),
        ("domain.optim=muon", "with lora write optim: adamw"),
        ("sft.data.sources=[{path: x.jsonl, streaming: true}]", "conversations are read whole"),
        ("dpo.precompute_ref_log_probs=true", "write 'reference: precomputed'"),
        ("sft.hand_on=first", "last"),
        ("pretrain.lora={r: 4}", "pretrain begins with fresh weights"),
        ("scoreboard.max_new_tokens=128", "leaves no room for a question"),
    ],
)
def test_recipes_that_make_no_sense(override: str, line: str, tmp_path: Path) -> None:
    assert line in refused_at_load(tmp_path, override)


def test_a_stage_alone_needs_those_before_it(tmp_path: Path) -> None:
    recipe = lives.recipe(tmp_path, "stages=[pretrain, sft]", "sft.sample_prompts=[]")
    with pytest.raises(RequestError, match="pretrain comes before it and is not done"):
        live(recipe, tmp_path / "run", only="sft")
    assert live(recipe, tmp_path / "run", only="pretrain") == "finished"
    assert set(lives.steps_taken(tmp_path / "run")) == {"pretrain"}
    assert live(recipe, tmp_path / "run", only="sft") == "finished"
    assert set(lives.steps_taken(tmp_path / "run")) == {"pretrain", "sft"}


def test_stages_that_have_not_begun_may_change_and_others_may_not(tmp_path: Path) -> None:
    short = ("stages=[pretrain, sft]", "sft.sample_prompts=[]")
    live(lives.recipe(tmp_path, *short), tmp_path / "run", only="pretrain")
    live(lives.recipe(tmp_path, *short, "sft.learning_rate=0.001"), tmp_path / "run")
    with pytest.raises(RequestError, match=r"sft\.learning_rate"):
        live(lives.recipe(tmp_path, *short), tmp_path / "run")
    for change, key in (("pretrain.duration=9 steps", "duration"), ("pretrain.hand_on=best", "hand_on")):
        with pytest.raises(RequestError, match=rf"pretrain\.{key}"):  # sft began with what it was
            live(lives.recipe(tmp_path, *short, "sft.learning_rate=0.001", change), tmp_path / "run")


def test_fresh_sets_nothing_aside_that_a_single_stage_goes_on_from(tmp_path: Path) -> None:
    recipe = lives.recipe(tmp_path, "stages=[pretrain, sft]", "sft.sample_prompts=[]")
    live(recipe, tmp_path / "run", only="pretrain")
    with pytest.raises(RequestError, match="sft goes on from pretrain"):
        live(recipe, tmp_path / "run", fresh=True, only="sft")
    assert live(recipe, tmp_path / "run", only="sft") == "finished"


def test_a_stop_before_the_first_step_of_a_stage_is_a_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = lives.recipe(tmp_path, "stages=[pretrain, rlvr]")
    live(recipe, tmp_path / "run", only="pretrain")
    monkeypatch.undo()  # curves are drawn
    with monkeypatch.context() as stopped:
        stopped.setattr(RunningBatch, "step", lambda self: os.kill(os.getpid(), signal.SIGTERM))
        assert live(recipe, tmp_path / "run") == "stopped"
    assert live(recipe, tmp_path / "run") == "finished"
    assert lives.steps_taken(tmp_path / "run") == {"pretrain": 8, "rlvr": 8}


@pytest.mark.parametrize("stage", ["sft", "dpo", "rlvr"])
def test_a_stage_of_which_nothing_is_held_out_is_lived(stage: str, tmp_path: Path) -> None:
    nothing = (f"stages=[pretrain, {stage}]", f"{stage}.data.validation_fraction=0")
    assert live(lives.recipe(tmp_path, *nothing), tmp_path / "run") == "finished"


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (("sft.hand_on=best",), "sft.hand_on=best: there is nothing held out"),
        (("sft.early_stopping_patience=2",), "there is nothing held out"),
        (("stages=[pretrain, safety]", "safety.gate=true", "safety.data.validation_fraction=0"),
         "none of the 0 requests that are held out"),
    ],
)  # fmt: skip
def test_what_needs_held_out_items_is_refused_without_them(
    overrides: tuple[str, ...], line: str, tmp_path: Path
) -> None:
    given = ("stages=[pretrain, sft]", "sft.data.validation_fraction=0", *overrides)
    with pytest.raises(RequestError) as told:
        live(lives.recipe(tmp_path, *given), tmp_path / "run")
    assert line in told.value.line()


def test_problems_are_looked_over_like_all_else(tmp_path: Path) -> None:
    files = lives.write(tmp_path)
    often = tmp_path / "often.jsonl"
    often.write_text(Path(files["problems"]).read_text() * 3)
    with pytest.raises(RequestError, match="exact duplicates"):
        look_at_stage(lives.recipe(tmp_path, f"rlvr.data.sources=[{often}]"), "rlvr", lambda _: None)


def test_a_gate_stops_a_life_and_stays_shut(tmp_path: Path) -> None:
    """A model that learned nothing refuses nothing; the stages after are not lived, however often it is tried."""
    gated = ("stages=[pretrain, safety, dpo]", "safety.gate=true", "safety.ordinary_share=0")
    for _ in range(2):
        with pytest.raises(RunError, match=r"0\.0% .*of held-out harmful requests are refused") as told:
            live(lives.recipe(tmp_path, *gated), tmp_path / "run")
        assert "safety.gate=false" in told.value.line()
        assert "dpo" not in lives.steps_taken(tmp_path / "run")
    assert live(lives.recipe(tmp_path, *gated, "safety.gate=false"), tmp_path / "run") == "finished"


def test_a_life_can_begin_with_any_model(lived: Path, tmp_path: Path) -> None:
    """No model, no tokenizer, no pretraining: they are those of what it begins with."""
    values: dict[str, Any] = lives.values(tmp_path)
    base = sorted((lived / "stages" / "1-pretrain" / "checkpoints").glob("step-*"))[-1]
    kept = {name: values[name] for name in ("name", "seed", "hardware", "scoreboard", "sft")}
    kept["sft"] |= {"init_from": str(base), "sample_prompts": []}
    kept["sft"]["replay"] = {"share": 0.5, "sources": [str(tmp_path / "domain.txt")]}
    path = tmp_path / "begun.yaml"
    path.write_text(json.dumps(kept))
    recipe = linnet.recipe.load_recipe(str(path))
    assert live(recipe, tmp_path / "run") == "finished"
    board = json.loads((tmp_path / "run" / "scoreboard.json").read_text())
    assert list(board["stages"]) == ["start", "sft"]


def test_problems_that_are_never_solved_are_refused_before_training(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"0 of .* problems solved .*cannot be learned here"):
        live(
            lives.recipe(tmp_path, "stages=[pretrain, rlvr]", "rlvr.check_problems=4", "rlvr.check_samples=2",
                         "rlvr.verifiers=['regex:never said']"),
            tmp_path / "run",
        )  # fmt: skip
    assert "rlvr" not in lives.steps_taken(tmp_path / "run")


@pytest.mark.parametrize("stage", ["sft", "dpo"])
@pytest.mark.parametrize(("duration", "too_often"), [("400 steps", True), ("2 epochs", False)])
def test_few_examples_learned_many_times_are_told_before_the_first_step(
    tmp_path: Path, stage: str, duration: str, too_often: bool
) -> None:
    told: list[str] = []
    recipe = lives.recipe(tmp_path, f"{stage}.duration={duration}")
    look_at_stage(recipe, stage, lambda text: told.append(text(False)))
    assert any(f"{stage}: 400 steps learn every example" in text for text in told) is too_often


def test_replayed_documents_are_shown_beside_the_conversations(tmp_path: Path) -> None:
    told: list[str] = []
    look_at_stage(lives.recipe(tmp_path), "sft", lambda text: told.append(text(False)))
    (page,) = (text for text in told if "replayed documents" in text)
    assert "sft: 6 of 24 rows (25.0%)" in page
    assert "65 tokens, 64 learned" in page
    assert page.count("⟦") == 1
    assert any(name in page.partition("⟦")[2] for name in tiny.CREATURES)


def labelled(folder: Path, **words: object) -> list[str]:
    """Requests of the kinds that are given, under other labels, a line each."""
    rows = [json.loads(row) for row in Path(lives.write(folder)["requests"]).read_text().splitlines()]
    return [json.dumps({**row, "label": words[row["label"]]}) for row in rows if row["label"] in words]


@pytest.mark.parametrize("label", ["banana", 0])
def test_a_label_that_says_nothing_is_named(label: object, tmp_path: Path) -> None:
    odd = tmp_path / "odd.jsonl"
    odd.write_text("\n".join(labelled(tmp_path, harmful="harmful", harmless=label)))
    recipe = lives.recipe(tmp_path, "safety.ordinary_share=0", f"safety.data.sources=[{odd}]")
    with pytest.raises(RequestError, match=f"the label of 30 requests is '{label}'"):
        look_at_stage(recipe, "safety", lambda _: None)


@pytest.mark.parametrize("held_out", ["harmful", "harmless"])
def test_a_gate_needs_both_kinds_of_requests_held_out(held_out: str, tmp_path: Path) -> None:
    some = tmp_path / "some.jsonl"
    some.write_text("\n".join(labelled(tmp_path, **{held_out: held_out})))
    given = (f"safety.data.validation_sources=[{some}]", "safety.preflight={max_validation_overlap: 1}")
    other = "harmless" if held_out == "harmful" else "harmful"
    with pytest.raises(RequestError, match=f"held out is labelled as {other}"):
        look_at_stage(lives.recipe(tmp_path, *given, "safety.gate=true"), "safety", lambda _: None)
    look_at_stage(lives.recipe(tmp_path, *given), "safety", lambda _: None)
