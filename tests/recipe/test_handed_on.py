"""What a stage hands on is the model that it trained, for us and for every other tool: its ties, its ends, its form.

A model that is fine after training and talks gibberish, or for ever, once it has been exported has usually
lost one of these on the way. Low-rank adapters are trained here on tied embeddings, in two stages after each other.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

import lives
import tiny
from linnet.model import load_model
from linnet.recipe import live
from linnet.text import Tokenizer
from linnet.text.chat_template import CHATML
from linnet.text.chat_tokens import ChatEncoder, template_for

STAGES = ("pretrain", "sft", "domain")
TALK = [{"role": "user", "content": "What is the fox?"}]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with tiny.one_thread():
        yield


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The last checkpoint's folder of every stage of a life that wants an adapter in both later stages."""
    folder = tmp_path_factory.mktemp("handed")
    recipe = lives.recipe(
        folder, f"stages=[{', '.join(STAGES)}]", "sft.lora={r: 4}", "sft.sample_prompts=[]",
        "scoreboard.items=1", "scoreboard.prompts=[]", "sft.learning_rate=0.05", "domain.learning_rate=0.05",
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch, tiny.one_thread():
        patch.setattr(sys.modules["linnet.recipe.live"], "draw", lambda events, picture, stage=None: picture)
        live(recipe, folder / "run")
    stages = sorted((folder / "run" / "stages").glob("[1-9]*"))
    found = [sorted((stage / "checkpoints").glob("step-*"))[-1] for stage in stages]
    return dict(zip(STAGES, found, strict=True))


def tensors(file: Path) -> dict[str, torch.Tensor]:
    with safe_open(file, framework="pt") as opened:
        return {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 (not a dict)


# --- ties -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", STAGES)
def test_tied_embeddings_are_one_matrix_in_every_stage_and_for_every_reader(
    stage: str, models: dict[str, Path]
) -> None:
    transformers = pytest.importorskip("transformers")
    folder = models[stage] / "model"
    assert json.loads((folder / "config.json").read_text())["tie_word_embeddings"] is True
    weights = tensors(folder / "model.safetensors")
    assert "lm_head.weight" not in weights
    ours = load_model(folder)
    assert ours.head_weight is ours.embed_tokens.weight
    theirs: Any = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    assert theirs.lm_head.weight is theirs.model.embed_tokens.weight
    assert torch.equal(theirs.lm_head.weight, weights["model.embed_tokens.weight"])


@pytest.mark.parametrize(("stage", "before"), [("sft", "pretrain"), ("domain", "sft")])
def test_an_adapter_and_its_merge_leave_the_tied_embeddings_as_they_were(
    stage: str, before: str, models: dict[str, Path]
) -> None:
    """And peft, from the stage before and the adapter, comes to the merged model that we wrote."""
    peft, transformers = pytest.importorskip("peft"), pytest.importorskip("transformers")
    adapter = tensors(models[stage] / "adapter" / "adapter_model.safetensors")
    assert adapter
    assert not [name for name in adapter if "embed" in name or "lm_head" in name]
    base, merged = (tensors(models[name] / "model" / "model.safetensors") for name in (before, stage))
    assert base.keys() == merged.keys()
    assert torch.equal(base["model.embed_tokens.weight"], merged["model.embed_tokens.weight"])
    changed = [name for name in base if not torch.equal(base[name], merged[name])]
    assert len(changed) == len(adapter) / 2

    stock = transformers.AutoModelForCausalLM.from_pretrained(models[before] / "model", dtype=torch.float32)
    adapted: Any = peft.PeftModel.from_pretrained(stock, models[stage] / "adapter").merge_and_unload()
    assert adapted.lm_head.weight is adapted.model.embed_tokens.weight
    for name, value in adapted.state_dict().items():
        if name in merged:
            torch.testing.assert_close(value, merged[name], rtol=0, atol=1e-6)


# --- ends and form ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", STAGES)
def test_the_template_and_the_ends_of_an_answer_are_in_every_checkpoint_from_the_first_chat_stage_on(
    stage: str, models: dict[str, Path]
) -> None:
    folder = models[stage] / "model"
    tokenizer = Tokenizer.load(folder)
    ends = json.loads((folder / "generation_config.json").read_text())["eos_token_id"]
    if stage == "pretrain":
        assert not (folder / "chat_template.jinja").exists(), "a base model has not learned a form"
        assert ends == tokenizer.eos_id
        return
    assert (folder / "chat_template.jinja").read_text(encoding="utf-8") == CHATML
    assert ends == [tokenizer.eos_id, tokenizer.id_of("<|im_end|>")]
    assert tokenizer.stop_ids == tuple(ends)
    assert tokenizer.eos_id == json.loads((folder / "config.json").read_text())["eos_token_id"]


@pytest.mark.parametrize("stage", ["sft", "domain"])
@pytest.mark.parametrize("end", ["<|im_end|>", "<|endoftext|>"])
def test_transformers_asks_as_we_do_and_stops_where_we_do(
    end: str, stage: str, models: dict[str, Path]
) -> None:
    """By the files alone: whatever the model would rather say, its third token is made to be an end."""
    transformers = pytest.importorskip("transformers")
    folder = models[stage] / "model"
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    prompt = tokenizer.apply_chat_template(TALK, add_generation_prompt=True, return_dict=True)["input_ids"]
    ours = Tokenizer.load(folder)
    assert prompt == ChatEncoder(template_for(ours), ours).prompt(TALK)

    model: Any = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    wanted = tokenizer.convert_tokens_to_ids(end)
    other = tokenizer.convert_tokens_to_ids("e")

    def forced(ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        chosen = wanted if ids.shape[1] == len(prompt) + 2 else other
        return torch.full_like(scores, -1e9).index_fill(1, torch.tensor([chosen]), 0.0)

    rows = torch.tensor([prompt])
    said = model.generate(
        rows, attention_mask=torch.ones_like(rows), do_sample=False, max_new_tokens=8,
        logits_processor=transformers.LogitsProcessorList([forced]),
    )  # fmt: skip
    assert said[0, len(prompt) :].tolist() == [other, other, wanted]
    assert wanted in ours.stop_ids
