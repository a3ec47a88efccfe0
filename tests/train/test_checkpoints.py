"""A checkpoint is whole or absent, other tools can read its model, and damage is told by its file."""

from __future__ import annotations

import errno
import json
import os
import pickle
import resource
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

import tiny
from linnet.config import RequestError, RunError
from linnet.infer import SamplingSettings, load_generator
from linnet.observe import draw
from linnet.recipe import Recipe, live
from linnet.train import CheckpointFolder, open_checkpoint, verify

SHORT = (
    "pretrain.duration=8 steps",
    "pretrain.save_steps=4",
    "pretrain.eval_steps=0",
    "pretrain.lr_scheduler_type=constant",
)


@pytest.fixture(scope="module")
def trained(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run's folder, to read only."""
    folder = tmp_path_factory.mktemp("trained")
    longer = ("pretrain.duration=120 steps", "pretrain.save_steps=60", "model.dropout=0")
    with tiny.one_thread():
        live(tiny.recipe(corpus, folder, *SHORT, *longer), folder / "run")
    return folder / "run"


def recipe_and_run(corpus: Path, tmp_path: Path) -> tuple[Recipe, Path]:
    recipe = tiny.recipe(corpus, tmp_path, *SHORT)
    live(recipe, tmp_path / "run")
    return recipe, tmp_path / "run"


# --- what is in it ----------------------------------------------------------------------------------


def test_transformers_continues_text_as_linnet_does(trained: Path) -> None:
    transformers = pytest.importorskip("transformers")
    folder = tiny.checkpoints(trained) / "step-00000120" / "model"
    model = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    generator = load_generator(trained)
    written = set[int]()
    for prompt in ("There was", "The red fox", "Good night,"):
        ids = [generator.tokenizer.eos_id, *tokenizer(prompt, add_special_tokens=False)["input_ids"]]
        assert ids[1:] == generator.tokenizer.encode(prompt)
        ours = generator.generate([ids], SamplingSettings(max_new_tokens=24, temperature=0.0))[0].ids
        rows = torch.tensor([ids])
        theirs = model.generate(rows, attention_mask=torch.ones_like(rows), do_sample=False, max_new_tokens=24,
                                pad_token_id=0)  # fmt: skip
        assert theirs[0, len(ids) :].tolist() == ours
        written.update(ours)
    assert len(written) > 8, "one token over and over would agree by accident"


def test_the_manifest_lists_every_file(trained: Path) -> None:
    checkpoint = open_checkpoint(tiny.checkpoints(trained) / "step-00000120")
    on_disk = set(tiny.everything_in(checkpoint.path)) - {"manifest.json"}
    assert set(checkpoint.manifest["files"]) == on_disk
    assert {
        "model/config.json",
        "model/model.safetensors",
        "model/tokenizer.json",
        "state/trainer.json",
    } <= on_disk
    facts = checkpoint.manifest
    assert (facts["step"], facts["tokens"], facts["stage"], facts["recipe"]) == (
        120,
        120 * 8 * 32,
        "pretrain",
        "tiny",
    )
    assert facts["best"]["val/loss"] == pytest.approx(tiny.evaluations(trained)[120])
    assert len(facts["recipe_sha256"]) == 64
    verify(checkpoint)


def test_loading_a_model_never_unpickles(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: Any, **__: Any) -> None:
        raise AssertionError("something was unpickled")

    for name in ("load", "loads", "Unpickler"):
        monkeypatch.setattr(pickle, name, refused)
    monkeypatch.setattr(torch, "load", refused)
    (done,) = load_generator(trained).generate(["There"], SamplingSettings(max_new_tokens=4, temperature=0.0))
    assert done.ids


def test_saving_and_resuming_warn_of_nothing(corpus: Path, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        recipe, run = recipe_and_run(corpus, tmp_path)
        live(recipe, run)
        live(tiny.recipe(corpus, tmp_path, *SHORT, "pretrain.duration=9 steps"), run)
    assert max(tiny.losses(run)) == 9


# --- damage -----------------------------------------------------------------------------------------


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


DAMAGE = {"flipped": (flip, "its sha256 has changed"), "truncated": (truncate, "bytes instead of"),
          "missing": (os.unlink, "is missing")}  # fmt: skip


@pytest.mark.parametrize("file", ["model/model.safetensors", "state/trainer.json", "model/tokenizer.json"])
@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_is_named_and_the_one_before_goes_on(
    damage: str, file: str, corpus: Path, tmp_path: Path, trained: Path
) -> None:
    recipe, run = (
        recipe_and_run(corpus, tmp_path) if file.startswith("model/m") else (None, _copy(trained, tmp_path))
    )
    last = sorted(tiny.checkpoints(run).glob("step-*"))[-1]
    do, says = DAMAGE[damage]
    do(last / file)
    with pytest.raises(RunError, match=says) as told:
        verify(open_checkpoint(last))
    assert str(last / file) in told.value.line()
    if recipe is None:
        return
    kept = tiny.everything_in(tiny.checkpoints(run))
    with pytest.raises(RunError, match=says) as told:
        live(recipe, run)
    assert str(last / file) in told.value.line()
    assert tiny.everything_in(tiny.checkpoints(run)) == kept
    whole = tmp_path / "whole"
    live(recipe, whole)
    last.rename(tmp_path / "removed")  # what the message says
    assert live(recipe, run) == "finished"
    tiny.assert_same_run(whole, run, 8)


def _copy(run: Path, tmp_path: Path) -> Path:
    import shutil

    return shutil.copytree(run, tmp_path / "copy")


def test_a_missing_or_damaged_manifest_is_named(trained: Path, tmp_path: Path) -> None:
    run = _copy(trained, tmp_path)
    manifest = tiny.checkpoints(run) / "step-00000120" / "manifest.json"
    facts = json.loads(manifest.read_text())
    for text in (
        "{",
        "[]",
        '{"format": 1}',
        json.dumps(facts | {"files": 3}),
        json.dumps(facts | {"step": "x"}),
    ):
        manifest.write_text(text)
        with pytest.raises(RequestError, match=r"manifest\.json: the manifest is damaged"):
            CheckpointFolder(tiny.checkpoints(run)).latest()
    manifest.write_text(json.dumps(facts | {"format": 99}))
    with pytest.raises(RequestError, match="made by a newer Linnet"):
        open_checkpoint(manifest.parent)
    manifest.unlink()
    with pytest.raises(RequestError, match=r"manifest\.json: .*no whole checkpoint"):
        open_checkpoint(manifest.parent)


# --- a full disk ------------------------------------------------------------------------------------


@contextmanager
def files_at_most(size: int) -> Iterator[None]:
    """No file of this process may grow beyond this many bytes, as on a disk that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("size", [30_000, 120_000])
def test_a_full_disk_ends_in_one_line_and_leaves_what_was_saved(
    size: int, corpus: Path, tmp_path: Path
) -> None:
    """30 kB are too little for the weights; 120 kB hold them but not the optimizer's state."""
    _, run = recipe_and_run(corpus, tmp_path)
    kept = tiny.everything_in(tiny.checkpoints(run))
    state = {name: len(data) for name, data in kept.items() if name.startswith("step-00000008/state")}
    assert 30_000 < len(kept["step-00000008/model/model.safetensors"]) < 120_000 < max(state.values())
    longer = tiny.recipe(corpus, tmp_path, *SHORT, "pretrain.duration=12 steps")
    with files_at_most(size), pytest.raises(RunError, match="the checkpoint cannot be written") as told:
        live(longer, run)
    assert os.strerror(errno.EFBIG) in told.value.line()
    assert "step-00000012" in told.value.line()
    assert tiny.everything_in(tiny.checkpoints(run)) == kept
    live(longer, tmp_path / "whole")
    assert live(longer, run) == "finished"
    assert tiny.losses(run) == tiny.losses(tmp_path / "whole")
    assert tiny.weights(run, 12) == tiny.weights(tmp_path / "whole", 12)


def test_a_disk_too_full_for_the_picture_ends_in_one_line(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, run = recipe_and_run(corpus, tmp_path)
    monkeypatch.setattr(sys.modules["linnet.recipe.live"], "draw", draw)
    with (
        files_at_most(20_000),
        pytest.raises(RunError, match=r"the curves cannot be drawn .*all else is saved"),
    ):
        live(recipe, run)
    assert live(recipe, run) == "finished"
    assert (run / "curves.png").stat().st_size > 20_000


def test_leftovers_of_interrupted_saves_are_cleaned(corpus: Path, tmp_path: Path) -> None:
    recipe, run = recipe_and_run(corpus, tmp_path)
    folder = tiny.checkpoints(run)
    kept = tiny.everything_in(folder)
    for name in (".step-00000012.partial", ".step-00000004.removed", ".step-00000008.before"):
        (folder / name / "model").mkdir(parents=True)
        (folder / name / "model" / "config.json").write_text("{")
    assert live(recipe, run) == "finished"
    assert tiny.everything_in(folder) == kept
