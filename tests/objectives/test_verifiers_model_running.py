"""The verifier model at work: batches, deadlines, threads, pickles, and requests that are wrong."""

from __future__ import annotations

import json
import pickle
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from judging import (
    COMPLETIONS,
    PROMPTS,
    causal,
    chatml,
    judge_of,
    one_thread,
    rewarding,
    verifier,
    vocabulary,
)

from linnet.config import RequestError
from linnet.objectives.verifiers import Budget, VerifierSettings, model_judge, resolve, score
from linnet.objectives.verifiers.model_judge import fill
from linnet.text import Tokenizer
from linnet.text.chat_template import CHATML

__all__ = ["one_thread", "vocabulary"]  # fixtures


def test_batches_change_nothing(
    tmp_path: Path, vocabulary: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = verifier(causal(tmp_path, chatml(vocabulary)))
    texts = [f"{'a fox ' * (i * 7 % 11)}{i}" for i in range(20)]
    together = found(texts, prompts=["Who?"] * 20)
    monkeypatch.setitem(model_judge.TOKENS_A_BATCH, "cpu", 1)
    alone = found(texts, prompts=["Who?"] * 20)
    np.testing.assert_allclose(np.array(together, float), np.array(alone, float), atol=1e-5)
    assert len(set(alone)) == 20
    single = [found([text], prompts=["Who?"])[0] for text in texts]
    assert single == alone
    assert found([], prompts=[]) == []


def test_the_deadline_is_kept_between_batches(
    tmp_path: Path, vocabulary: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(model_judge.TOKENS_A_BATCH, "cpu", 1)
    found = verifier(causal(tmp_path, chatml(vocabulary)))
    network = judge_of(found)._loaded()
    quick = network.scores
    monkeypatch.setattr(network, "scores", lambda rows: (time.sleep(0.2), quick(rows))[1])
    texts = [f"{'a fox ' * (5 - i)}" for i in range(5)]
    told: list[str] = []
    rewards = found.rewards(texts, {"prompts": ["Who?"] * 5}, Budget(1, time.monotonic() + 0.5, told.append))
    judged = [reward is not None for reward in rewards]
    assert judged in ([False] * 3 + [True] * 2, [False] * 2 + [True] * 3)  # the shortest first
    assert told == ["verifier model: not every completion was judged before the deadline"]


def test_beside_other_verifiers_and_in_threads(tmp_path: Path, vocabulary: Tokenizer) -> None:
    found = verifier(causal(tmp_path, chatml(vocabulary)), name="judge", weight=0.5)
    scores = score([found, resolve("regex:fox")], PROMPTS, COMPLETIONS, {"x": [0] * 4})
    assert scores.names == ("judge", "regex")
    assert not np.isnan(scores.rewards).any()
    np.testing.assert_array_equal(scores.rewards[:, 1], [1, 0, 0, 0])
    np.testing.assert_allclose(scores.total, scores.rewards @ [0.5, 1])
    assert scores.anomalies == ()
    assert found(COMPLETIONS, prompts=PROMPTS, x=[0] * 4) == scores.rewards[:, 0].tolist()


def test_nothing_that_is_judged_makes_it_raise(tmp_path: Path, vocabulary: Tokenizer) -> None:
    refusing = "{% if 'x' in messages[0]['content'] %}{{ raise_exception('no x') }}{% endif %}" + CHATML
    found = verifier(causal(tmp_path, vocabulary.with_chat(refusing)), question="{completion}")
    texts = ["", " ", "\ud800", "\x00\ufdd0", "x", "a" * 30000, "<|im_start|>" * 500, "日本語"]
    told: list[str] = []
    rewards = found.rewards(texts, {}, Budget(tell=told.append))
    assert [reward is None for reward in rewards] == [text == "x" for text in texts]
    assert any("no x" in line for line in told)
    missing = verifier(causal(tmp_path / "b", vocabulary))
    assert missing.rewards(["a"], {}, Budget(tell=told.append)) == [None]
    assert "reads the column prompts" in told[-1]


def test_it_is_read_once_at_its_first_use_frozen_and_travels_without_its_weights(
    tmp_path: Path, vocabulary: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = causal(tmp_path, chatml(vocabulary))
    reads: list[Path] = []
    original = model_judge.YesOrNo

    def counting(folder: Path, *more: Any) -> Any:
        reads.append(folder)
        return original(folder, *more)

    monkeypatch.setattr(model_judge, "YesOrNo", counting)
    found = verifier(folder)
    assert reads == []
    before = torch.random.get_rng_state()
    first = found(COMPLETIONS, prompts=PROMPTS)
    assert found(COMPLETIONS, prompts=PROMPTS) == first
    assert reads == [folder]
    assert torch.equal(before, torch.random.get_rng_state())
    judge = judge_of(found)
    assert judge._network is not None
    model = judge._network.model
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())
    packed = pickle.dumps(judge)
    assert len(packed) < 5000
    again = pickle.loads(packed)
    assert again._network is None
    assert again(COMPLETIONS, {"prompts": PROMPTS}, Budget()) == first


def test_a_diverged_model_gives_no_reward(tmp_path: Path, vocabulary: Tokenizer) -> None:
    found = verifier(causal(tmp_path, chatml(vocabulary)))
    network = judge_of(found)._loaded()
    with torch.no_grad():
        network.model.norm.weight.fill_(float("nan"))
    told: list[str] = []
    assert found.rewards(["a"], {"prompts": ["b"]}, Budget(tell=told.append)) == [None]
    assert "not finite" in told[0]


# --- requests that are wrong ---------------------------------------------------------------------


def test_a_folder_that_cannot_judge_is_refused_before_anything_runs(
    tmp_path: Path, vocabulary: Tokenizer
) -> None:
    with pytest.raises(RequestError, match="there is no such folder"):
        verifier(tmp_path / "none")
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(RequestError, match="no model and no whole checkpoint"):
        resolve(f"model:{empty}")
    two = tmp_path / "two"
    rewarding(two, vocabulary, "llama", None, labels=2)
    with pytest.raises(RequestError, match=r"its head gives 2 values; a verifier model is"):
        verifier(two)
    folder = causal(tmp_path / "causal", vocabulary)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(
        json.dumps(config | {"architectures": ["LlamaForTokenClassification"]})
    )
    with pytest.raises(RequestError, match="this is a LlamaForTokenClassification"):
        verifier(folder)
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "bert"}))
    with pytest.raises(RequestError, match="model_type 'bert'"):
        verifier(folder)
    (folder / "config.json").write_text(json.dumps(config | {"vocab_size": 100}))
    with pytest.raises(RequestError, match=r"has the id 309.*100 rows"):
        verifier(folder)
    (folder / "config.json").write_text(json.dumps(config | {"rms_norm_eps": 1e-5, "hidden_size": 8}))
    with pytest.raises(RequestError, match="and the model wants"):
        verifier(folder)
    (folder / "config.json").write_text(json.dumps(config | {"architectures": [3], "id2label": 7}))
    with pytest.raises(RequestError, match="this is a 3"):
        verifier(folder)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "some/base"}')
    with pytest.raises(RequestError, match="a PEFT adapter of some/base"):
        verifier(folder)
    (folder / "adapter_config.json").unlink()
    (folder / "model.safetensors").unlink()
    with pytest.raises(RequestError, match=r"model\.safetensors is missing"):
        verifier(folder)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(RequestError):
        verifier(folder)


def test_settings_that_do_not_fit_the_form_of_the_model(tmp_path: Path, vocabulary: Tokenizer) -> None:
    folder = causal(tmp_path / "causal", vocabulary)
    with pytest.raises(RequestError, match="a probability lies between 0 and 1"):
        verifier(folder, threshold=1.5)
    rewarding(tmp_path / "reward", vocabulary, "gpt2", None)
    verifier(tmp_path / "reward", threshold=1.5)
    with pytest.raises(RequestError, match="a reward model is not asked"):
        verifier(tmp_path / "reward", question="{completion}?")


@pytest.mark.parametrize(("settings", "says"), [
    ({"kind": "model"}, "model:runs/judge"),
    ({"kind": "model:x", "question": "Is it right?"}, "needs {completion}"),
    ({"kind": "math", "question": "{completion}"}, "belong to kind: model"),
    ({"kind": "regex:a", "threshold": 0.5}, "belong to kind: model"),
    ({"kind": "model:x", "threshold": float("nan")}, "finite"),
])  # fmt: skip
def test_settings_that_are_wrong_by_themselves(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError) as caught:
        VerifierSettings(**settings)
    assert says in str(caught.value)


def test_a_run_folder_means_the_model_of_its_last_checkpoint(tmp_path: Path, vocabulary: Tokenizer) -> None:
    for step in (10, 20):
        checkpoint = tmp_path / "stages" / "1-sft" / "checkpoints" / f"step-{step:08d}"
        causal(checkpoint / "model", chatml(vocabulary))
        (checkpoint / "manifest.json").write_text("{}")
    found = verifier(tmp_path)
    assert judge_of(found).folder.parent.name == "step-00000020"
    assert found.name == "model"


def test_placeholders_are_filled_once() -> None:
    values = {"prompt": "{completion}", "completion": "{prompt}"}
    assert (
        fill("{prompt}|{completion}|{{prompt}}|{other}", values) == "{completion}|{prompt}|{prompt}|{other}"
    )
