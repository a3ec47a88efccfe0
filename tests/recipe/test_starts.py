"""What a stage begins with: weights and a vocabulary that belong together, and the same ones until it ends."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path

import pytest

import lives
import starting
import tiny
from linnet.config import RequestError, RunError
from linnet.infer import SamplingSettings, hub_model, load_generator
from linnet.infer.conversation import TurnConversation, open_conversation
from linnet.observe import Anomaly, Event
from linnet.recipe import Recipe, live, prepare_pretraining
from linnet.recipe.starts import check_start
from linnet.text import Tokenizer
from linnet.text.chat_template import ChatTemplate

QUIET = (
    "scoreboard.items=1",
    "scoreboard.prompts=[]",
    "scoreboard.max_new_tokens=1",
    "sft.sample_prompts=[]",
)


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return starting.model_folder(tmp_path_factory.mktemp("start") / "model")


@pytest.fixture
def mine(start: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(start, tmp_path / "mine"))


def stage(folder: Path, name: str, model: Path, *overrides: str) -> Recipe:
    """A life of one stage that begins with a model."""
    return lives.recipe(
        folder, f"stages=[{name}]", f"{name}.init_from={model}", "model=null", *QUIET, *overrides
    )


# --- a vocabulary of its own --------------------------------------------------------------------------


def test_pretraining_that_goes_on_keeps_the_starts_own_tokenizer(start: Path, tmp_path: Path) -> None:
    """The recipe asks for a trained tokenizer, and its text would give another one of the same size."""
    text = tmp_path / "other.txt"
    text.write_text("\n<|endoftext|>\n".join(starting.texts("aeioukst")), encoding="utf-8")
    recipe = tiny.recipe(
        text, tmp_path, f"pretrain.init_from={start}", "pretrain.duration=2 steps", "pretrain.warmup_steps=0",
        "model.max_position_embeddings=128",
    )  # fmt: skip
    shown: list[str] = []
    live(recipe, tmp_path / "run", show=lambda look: shown.append(look(False)))
    kept = Tokenizer.load(tiny.checkpoints(tmp_path / "run") / "step-00000002" / "model")
    assert kept.fingerprint == Tokenizer.load(start).fingerprint
    assert [line for line in shown if "no tokenizer is trained" in line]
    bare = tiny.recipe(text, tmp_path, f"pretrain.init_from={start}", "model=null", "tokenizer=null")
    for same in (recipe, bare):  # the verbs of `linnet data` too
        assert prepare_pretraining(same).tokenizer.fingerprint == kept.fingerprint


@pytest.mark.parametrize("name", ["pretrain", "sft", "domain"])
def test_another_tokenizer_beside_init_from_is_refused(name: str, start: Path, tmp_path: Path) -> None:
    other = starting.tokenizer("aeioukst")
    other.save(tmp_path / "other")
    own = Tokenizer.load(start)
    assert other.vocab_size == own.vocab_size
    with pytest.raises(
        RequestError, match=f"{other.vocabulary_fingerprint[:12]}.*{own.vocabulary_fingerprint[:12]}.*=null"
    ):
        live(stage(tmp_path, name, start, f"tokenizer={tmp_path / 'other'}"), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    same = stage(tmp_path, name, start, f"tokenizer={start}")
    assert check_start(same, name).tokenizer.fingerprint == own.fingerprint  # type: ignore[arg-type]


# --- tokens beyond the table ----------------------------------------------------------------------------


@pytest.mark.parametrize("special", [True, False])
def test_tokens_beyond_the_table_are_refused_before_anything(
    special: bool, mine: Path, tmp_path: Path
) -> None:
    starting.add_tokens(mine, "<think>", "</think>", special=special)
    for name in ("sft", "dpo", "domain"):
        with pytest.raises(RequestError, match=r"'</think>' has the id 321.*320 rows"):
            live(stage(tmp_path, name, mine), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    with pytest.raises(RequestError, match="has the id 321"):
        load_generator(mine)


@pytest.mark.parametrize("name", ["sft", "dpo"])
def test_padding_beyond_the_table_is_done_with_another_token(name: str, mine: Path, tmp_path: Path) -> None:
    starting.add_tokens(mine, "[PAD]", pad="[PAD]")
    assert Tokenizer.load(mine).pad_id == 320
    live(stage(tmp_path, name, mine, f"{name}.duration=2 steps"), tmp_path / "run")
    saved = next((tmp_path / "run").glob("stages/1-*/checkpoints/step-00000002/model"))
    assert Tokenizer.load(saved).vocab_size == 320
    assert load_generator(saved).tokenizer.vocab_size == 320


def test_more_rows_than_tokens_are_nothing_wrong(tmp_path: Path) -> None:
    folder = starting.model_folder(tmp_path / "wide", rows=384)
    assert check_start(stage(tmp_path, "sft", folder), "sft").tokenizer.vocab_size == 320


# --- the same until it ends -------------------------------------------------------------------------------

STAGES = {
    "lora": ("sft", ["sft.lora={r: 2}"]),
    "whole": ("sft", []),
    "precomputed": ("dpo", []),
    "live": ("dpo", ["dpo.reference=live"]),
    "rewards": ("rlvr", []),
}


def killed(recipe: Recipe, run: Path, step: int) -> None:
    with pytest.raises(tiny.Killed):
        live(recipe, run, lambda _: [tiny.At(step, tiny.kill)])


def checkpoint(run: Path) -> Path:
    return sorted(run.glob("stages/*/checkpoints/step-*"))[-1]


@pytest.mark.parametrize("kind", STAGES)
def test_another_start_between_kill_and_resume_is_refused(kind: str, mine: Path, tmp_path: Path) -> None:
    name, overrides = STAGES[kind]
    recipe = stage(tmp_path, name, mine, f"{name}.duration=4 steps", *overrides)
    run = tmp_path / "run"
    killed(recipe, run, 3)
    began = json.loads((checkpoint(run) / "manifest.json").read_text())["began_with"]["sha256"]
    weights = (mine / "model.safetensors").read_bytes()
    before = tiny.everything_in(run)
    starting.other_weights(mine)
    kept = began["model.safetensors of the start"][:16]
    with pytest.raises(RequestError, match=f"model.safetensors of the start .*mine is not .*{kept}, now"):
        live(recipe, run)
    assert tiny.everything_in(run) == before
    (mine / "model.safetensors").write_bytes(weights)
    assert live(recipe, run) == "finished"


def test_a_checkpoint_without_digests_says_that_it_could_not_be_verified(mine: Path, tmp_path: Path) -> None:
    recipe, run = stage(tmp_path, "sft", mine, "sft.duration=4 steps", "sft.lora={r: 2}"), tmp_path / "run"
    killed(recipe, run, 3)
    file = checkpoint(run) / "manifest.json"
    manifest = json.loads(file.read_text())
    del manifest["began_with"]
    file.write_text(json.dumps(manifest))
    said: list[Event] = []
    assert live(recipe, run, lambda _: [said.append]) == "finished"
    assert [e for e in said if isinstance(e, Anomaly) and "could not be verified" in e.what]


@pytest.mark.parametrize("file", ["model.safetensors", "config.json", "tokenizer.json"])
def test_a_damaged_checkpoint_is_not_begun_with(file: str, tmp_path: Path) -> None:
    """By `init_from`, and handed on by the stage before."""
    life = lives.recipe(tmp_path, "stages=[pretrain, sft]", *QUIET, "pretrain.duration=2 steps",
                        "pretrain.warmup_steps=0", "sft.duration=2 steps")  # fmt: skip
    run = tmp_path / "run"
    live(life, run, only="pretrain")
    saved = checkpoint(run) / "model" / file
    saved.write_bytes(saved.read_bytes().replace(b"0.0", b"0.1") + b" ")
    before = tiny.everything_in(run)
    for recipe, folder in ((life, run), (stage(tmp_path, "sft", run), tmp_path / "other")):
        with pytest.raises(RunError, match=f"{file}: this file"):
            live(recipe, folder, only="sft")
    assert tiny.everything_in(run) == before
    assert not (tmp_path / "other").exists()


def test_a_run_that_goes_on_is_begun_with_where_it_was(mine: Path, tmp_path: Path) -> None:
    """`init_from` names a run, and the run has saved more by the time the stage is resumed."""
    base = tmp_path / "base" / "checkpoints"
    for step in (1, 2):
        shutil.copytree(mine, base / f"step-0000000{step}" / "model")
    starting.other_weights(base / "step-00000002" / "model")
    manifest = {"format": 1, "step": 1, "files": {}}
    (base / "step-00000001" / "manifest.json").write_text(json.dumps(manifest))
    recipe, run = (
        stage(tmp_path, "sft", base.parent, "sft.duration=4 steps", "sft.lora={r: 2}"),
        tmp_path / "run",
    )
    live(recipe, tmp_path / "whole")
    killed(recipe, run, 3)
    (base / "step-00000002" / "manifest.json").write_text(json.dumps(manifest | {"step": 2}))
    assert live(recipe, run) == "finished"
    one, other = (checkpoint(folder) / "model" / "model.safetensors" for folder in (run, tmp_path / "whole"))
    assert one.read_bytes() == other.read_bytes()


class FakeHub:
    """A cache folder with a folder a commit, and a branch that moves."""

    def __init__(self, root: Path, *commits: str) -> None:
        self.root, self.main = root, commits[0]

    def __call__(self, repository: str, revision: str | None, where: str, offline: bool = False) -> FakeHub:
        hub = copy.copy(self)
        hub.folder, hub.offline = self.root / (self.main if revision in (None, "main") else revision), offline
        return hub

    def get(self, file: str) -> Path | None:
        return self.folder / file if (self.folder / file).exists() else None

    def get_tokenizer(self) -> Path:
        return self.folder


def test_a_run_keeps_to_the_commit_that_a_branch_named(
    mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = "0123456789" * 4, "abcdef0123" * 4
    for commit in (old, new):
        shutil.copytree(mine, tmp_path / "hub" / commit)
    starting.other_weights(tmp_path / "hub" / new)
    hub = FakeHub(tmp_path / "hub", old, new)
    monkeypatch.setattr(hub_model, "HubFiles", hub)
    monkeypatch.setattr(hub_model, "_commits", {})
    recipe = stage(tmp_path, "sft", Path("hf:owner/name"), "sft.duration=4 steps", "sft.lora={r: 2}")
    killed(recipe, tmp_path / "run", 3)
    assert json.loads((tmp_path / "run" / "commits.json").read_text()) == {"hf:owner/name@main": old}
    hub.main = new
    hub_model._commits.clear()  # as in another process
    assert live(recipe, tmp_path / "run") == "finished"
    manifest = json.loads((checkpoint(tmp_path / "run") / "manifest.json").read_text())
    assert manifest["began_with"]["folder"].endswith(old)
    hub_model._commits.clear()
    killed(recipe, tmp_path / "other", 3)
    assert json.loads((tmp_path / "other" / "commits.json").read_text()) == {"hf:owner/name@main": new}


def test_all_files_of_a_hub_model_are_of_one_commit(
    mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The branch moves while its files are fetched."""
    old, new = "0123456789" * 4, "abcdef0123" * 4
    for commit in (old, new):
        shutil.copytree(mine, tmp_path / "hub" / commit)
    hub = FakeHub(tmp_path / "hub", old, new)
    asked: list[str | None] = []

    def files(repository: str, revision: str | None, where: str, offline: bool = False) -> FakeHub:
        asked.append(revision)
        found, hub.main = hub(repository, revision, where, offline), new
        return found

    monkeypatch.setattr(hub_model, "HubFiles", files)
    monkeypatch.setattr(hub_model, "_commits", {})
    assert hub_model.fetch_model("hf:owner/name").name == old
    assert asked == [None, old]


# --- what judges answers ------------------------------------------------------------------------------------


def test_a_changed_reward_function_is_refused(mine: Path, tmp_path: Path) -> None:
    file = tmp_path / "rewards.py"
    file.write_text("def short(completions, **_):\n    return [1.0 / (1 + len(c)) for c in completions]\n")
    recipe = stage(tmp_path, "rlvr", mine, "rlvr.duration=4 steps", f"rlvr.verifiers=['python:{file}:short']")
    killed(recipe, tmp_path / "run", 3)
    file.write_text(file.read_text().replace("1.0 /", "2.0 /"))
    with pytest.raises(RequestError, match=r"python:.*rewards.py is not what this stage began with"):
        live(recipe, tmp_path / "run")


@pytest.mark.parametrize("file", ["model.safetensors", "tokenizer_config.json"])
def test_a_changed_judge_is_refused(mine: Path, tmp_path: Path, file: str) -> None:
    judge = Path(shutil.copytree(mine, tmp_path / "judge"))
    recipe = stage(tmp_path, "rlvr", mine, "rlvr.duration=4 steps", f"rlvr.verifiers=['model:{judge}']")
    killed(recipe, tmp_path / "run", 3)
    if file == "model.safetensors":
        starting.other_weights(judge)
    else:
        (judge / file).write_text((judge / file).read_text() + "\n")
    with pytest.raises(RequestError, match=rf"{file} of model:.*judge is not what this stage began with"):
        live(recipe, tmp_path / "run")


# --- what is said first ---------------------------------------------------------------------------------------


def test_a_model_is_talked_to_with_the_system_turn_it_was_trained_with(mine: Path, tmp_path: Path) -> None:
    """In `linnet chat`, by transformers, and in the stages that follow."""
    transformers = pytest.importorskip("transformers")
    system = "It's Pip."
    recipe = lives.recipe(
        tmp_path, "stages=[sft, dpo]", f"sft.init_from={mine}", "model=null", *QUIET, f"sft.chat.system={system}",
        "sft.duration=2 steps", "dpo.duration=2 steps", "sft.data.sequence_length=128", "dpo.data.sequence_length=128",
    )  # fmt: skip
    live(recipe, tmp_path / "run")
    asked = [{"role": "user", "content": "Hi"}]
    for name in ("1-sft", "2-dpo"):
        model = next((tmp_path / "run" / "stages" / name).glob("checkpoints/step-00000002/model"))
        tokenizer, template = Tokenizer.load(model), ChatTemplate.load(model)
        assert template is not None
        talk = open_conversation(load_generator(model), tokenizer, template, SamplingSettings())
        assert isinstance(talk, TurnConversation)
        talk.messages = list(asked)
        prompt = talk._prompt()
        assert tokenizer.decode(prompt, skip_special=False) == (
            f"<|endoftext|><|im_start|>system\n{system}<|im_end|>\n"
            "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
        )
        stock = transformers.AutoTokenizer.from_pretrained(model)
        assert (
            stock.apply_chat_template(asked, add_generation_prompt=True, return_dict=True)["input_ids"]
            == prompt
        )


def test_a_system_turn_with_a_special_token_is_refused(mine: Path, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"sft.chat.system: it holds the special token <\|im_end\|>"):
        live(stage(tmp_path, "sft", mine, "sft.chat.system='No <|im_end|> here'"), tmp_path / "run")
