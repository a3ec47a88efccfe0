"""A path that a person has in hand leads to the model meant by it, or to one line that says why not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from talkers import network

from linnet.config import RequestError
from linnet.infer import SamplingSettings, find_model, load_generator
from linnet.model import save_model
from linnet.text import Tokenizer, train_tokenizer


def checkpoint(folder: Path, step: int, whole: bool = True) -> Path:
    place = folder / f"step-{step:08d}"
    (place / "model").mkdir(parents=True)
    (place / "model" / "config.json").write_text("{}")
    if whole:
        (place / "manifest.json").write_text("{}")
    return place / "model"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of eleven stages in name, two in fact; the last has begun and saved nothing whole."""
    for stage, steps in (("2-pretrain", (100, 200, 1000)), ("10-tune", (50,)), ("11-prefer", ())):
        folder = tmp_path / "stages" / stage / "checkpoints"
        folder.mkdir(parents=True)
        for step in steps:
            checkpoint(folder, step)
    checkpoint(tmp_path / "stages/11-prefer/checkpoints", 10, whole=False)
    checkpoint(tmp_path / "stages/2-pretrain/checkpoints", 1100, whole=False)
    return tmp_path


def step_of(model: Path) -> str:
    return f"{model.parents[2].name}/{int(model.parent.name.removeprefix('step-'))}"


def test_a_run_means_the_last_whole_checkpoint_of_its_latest_stage(run: Path) -> None:
    assert step_of(find_model(run)) == "10-tune/50"


def test_a_stage_and_its_checkpoints_mean_the_last_whole_one(run: Path) -> None:
    stage = run / "stages/2-pretrain"
    assert step_of(find_model(stage)) == "2-pretrain/1000"
    assert step_of(find_model(stage / "checkpoints")) == "2-pretrain/1000"


def test_a_checkpoint_and_its_model_mean_themselves(run: Path) -> None:
    place = run / "stages/2-pretrain/checkpoints/step-00000100"
    assert find_model(place) == find_model(place / "model") == place / "model"


def test_the_best_is_the_one_recorded(run: Path) -> None:
    folder = run / "stages/2-pretrain/checkpoints"
    (folder / "best.json").write_text(json.dumps({"step": 200, "val/loss": 1.5}))
    assert step_of(find_model(run / "stages/2-pretrain", "best")) == "2-pretrain/200"
    assert step_of(find_model(folder, "last")) == "2-pretrain/1000"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "no best checkpoint was recorded"),
        ('{"step": 7}', "names step 7, and there is no whole checkpoint"),
        ('{"step": 1100}', "names step 1100, and there is no whole checkpoint"),
        ('{"step": ', "does not name a step"),
        ("[]", "does not name a step"),
        ('{"step": []}', "does not name a step"),
    ],
)
def test_a_best_that_is_not_there_is_told(run: Path, content: str | None, words: str) -> None:
    folder = run / "stages/2-pretrain/checkpoints"
    if content is not None:
        (folder / "best.json").write_text(content)
    with pytest.raises(RequestError, match=words):
        find_model(folder, "best")


def test_a_path_without_a_model_is_told(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="no such folder"):
        find_model(tmp_path / "gone")
    (tmp_path / "file").write_text("")
    with pytest.raises(RequestError, match="this is a file"):
        find_model(tmp_path / "file")
    (tmp_path / "stages" / "1-pretrain" / "checkpoints").mkdir(parents=True)
    with pytest.raises(RequestError, match="no whole checkpoint"):
        find_model(tmp_path)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    stories = ["The little bird sang by the sea. Once upon a time it flew.", "A bird has two wings."] * 20
    return train_tokenizer(stories, 280)


@pytest.fixture
def model_folder(tmp_path: Path, tokenizer: Tokenizer) -> Path:
    folder = tmp_path / "step-00000001" / "model"
    folder.mkdir(parents=True)
    save_model(network(vocab_size=tokenizer.vocab_size), folder, eos_id=tokenizer.eos_id)
    tokenizer.save(folder)
    return folder


def test_a_loaded_checkpoint_talks(model_folder: Path) -> None:
    settings = SamplingSettings(max_new_tokens=12, temperature=0.7)
    first = load_generator(model_folder.parent).generate(["Once upon a"], settings)
    assert first == load_generator(str(model_folder)).generate(["Once upon a"], settings)
    assert len(first[0].ids) > 1


def test_half_precision_halves_the_matrices(model_folder: Path) -> None:
    talker = load_generator(model_folder, dtype=torch.bfloat16)
    kinds = {parameter.dim(): parameter.dtype for parameter in talker.model.parameters()}
    assert kinds == {1: torch.float32, 2: torch.bfloat16}
    said = talker.generate(["Once"], SamplingSettings(max_new_tokens=4, temperature=0.0), logprobs=True)
    wide = load_generator(model_folder).generate(
        ["Once"], SamplingSettings(max_new_tokens=4, temperature=0.0), logprobs=True
    )
    assert said[0].logprobs is not None
    assert wide[0].logprobs is not None
    assert said[0].logprobs[0] == pytest.approx(wide[0].logprobs[0], abs=0.2)


def test_a_model_without_a_tokenizer_is_told(tmp_path: Path) -> None:
    save_model(network(), tmp_path, eos_id=256)
    with pytest.raises(RequestError, match="tokenizer"):
        load_generator(tmp_path)


def test_an_adapter_is_told_with_its_base_wherever_a_model_is_wanted(model_folder: Path) -> None:
    (model_folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "some/base"}))
    with pytest.raises(RequestError, match="a PEFT adapter of some/base lies beside this model"):
        find_model(model_folder)
    (model_folder / "config.json").unlink()
    with pytest.raises(
        RequestError, match="a PEFT adapter of some/base, not a whole model; merge it into its base"
    ):
        load_generator(model_folder)


class FilesOfFolder:
    """A hub's repository that is a folder; what is asked for is counted."""

    offline = False

    def __init__(self, folder: Path) -> None:
        self.folder, self.asked = folder, list[str]()

    def get(self, file: str) -> Path | None:
        self.asked.append(file)
        path = self.folder / file
        return path if path.is_file() else None

    def get_tokenizer(self) -> Path | None:
        return self.folder


@pytest.fixture
def repository(model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> FilesOfFolder:
    files = FilesOfFolder(model_folder)
    monkeypatch.setattr("linnet.infer.hub_model.HubFiles", lambda *_: files)
    return files


def test_an_adapter_on_the_hub_is_told_with_its_base(repository: FilesOfFolder) -> None:
    path = repository.folder / "adapter_config.json"
    path.write_text(json.dumps({"base_model_name_or_path": "some/base"}))
    with pytest.raises(RequestError, match="hf:a/b: a PEFT adapter of some/base lies beside"):
        find_model(Path("hf:a/b"))
    (repository.folder / "config.json").unlink()
    with pytest.raises(RequestError, match="hf:a/b: this is a PEFT adapter of some/base"):
        find_model(Path("hf:a/b"))


def test_the_shards_of_an_index_on_the_hub_are_fetched_where_there_is_no_single_file(
    repository: FilesOfFolder,
) -> None:
    index = repository.folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "part.safetensors"}}))
    find_model(Path("hf:a/b"))
    assert index.name not in repository.asked
    (repository.folder / "model.safetensors").rename(repository.folder / "part.safetensors")
    find_model(Path("hf:a/b"))
    assert "part.safetensors" in repository.asked
    for name in ("../part.safetensors", "/etc/passwd", 3):
        index.write_text(json.dumps({"weight_map": {"a": name}}))
        with pytest.raises(RequestError, match="which is no safetensors file of this folder"):
            find_model(Path("hf:a/b"))
        assert name not in repository.asked
