"""Our LoRA is PEFT's: the same function, gradients, training, merge and files, on all four architectures."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from families import FOUR, SPECS, network, tokens
from torch import Tensor

import tiny
from linnet.config import RequestError
from linnet.model import LoraSettings, Transformer, load_adapter, lora, save_adapter, save_model
from linnet.model.dropout import row_keys, seed_rows
from linnet.model.lora_folder import adapter_state
from linnet.model.stock_config import stock_config
from linnet.model.stock_weights import to_stock

transformers = pytest.importorskip("transformers")
peft = pytest.importorskip("peft")

KINDS = {"lora": {}, "rslora": {"use_rslora": True}, "dora": {"use_dora": True}}


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with tiny.one_thread(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def stock(model: Transformer) -> Any:
    """transformers' model of our weights."""
    values = stock_config(model.spec, eos_id=0)
    config = transformers.AutoConfig.for_model(values.pop("model_type"), **values)
    theirs = transformers.AutoModelForCausalLM.from_config(config)
    state = {name: value.clone() for name, value in to_stock(model).items()}
    missing, extra = theirs.load_state_dict(state, strict=False)
    assert not extra
    assert set(missing) <= {"lm_head.weight"}
    return theirs


def adapted(name: str, folder: Path, **config: Any) -> tuple[Transformer, Any]:
    """The same base under PEFT's adapter of random A and B, ours loaded from what PEFT saved."""
    model = network(SPECS[name])
    torch.manual_seed(4)
    given = {"r": 4, "lora_alpha": 6, "target_modules": "all-linear", "task_type": "CAUSAL_LM"} | config
    theirs = peft.get_peft_model(stock(model), peft.LoraConfig(init_lora_weights=False, **given))
    with torch.no_grad():
        for key, p in theirs.named_parameters():
            if "magnitude" in key:  # as after training: no longer the lengths of the sums
                p.mul_(1 + 0.2 * torch.randn_like(p))
    theirs.save_pretrained(folder)
    load_adapter(model, folder)
    return model, theirs.eval()


def their_adapter(theirs: Any) -> dict[str, Tensor]:
    return peft.get_peft_model_state_dict(theirs)


def their_gradients(theirs: Any) -> dict[str, Tensor]:
    gradients = {key: p.grad for key, p in theirs.named_parameters() if p.requires_grad}
    return {
        key.replace(".default", "").replace("vector.weight", "vector"): value
        for key, value in gradients.items()
    }


def our_gradients(model: Transformer) -> dict[str, Tensor]:
    kinds = {"lora_A.weight": "lora_A", "lora_B.weight": "lora_B", "lora_magnitude_vector": ""}
    return {
        f"base_model.model.{name}.{theirs}": getattr(adapter, ours or theirs).grad
        for name, adapter in lora.adapters(model).items()
        for theirs, ours in kinds.items()
        if getattr(adapter, ours or theirs) is not None
    }


def assert_same(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    for key, value in theirs.items():
        torch.testing.assert_close(
            ours[key], value, atol=1e-4, rtol=1e-4, msg=lambda m, key=key: f"{key}: {m}"
        )


def cross_entropy(out: Tensor, rows: Tensor) -> Tensor:
    return F.cross_entropy(out[:, :-1].flatten(0, 1), rows[:, 1:].flatten())


def losses(model: Transformer, theirs: Any, rows: Tensor) -> tuple[Tensor, Tensor]:
    return cross_entropy(model.logits(model(rows)), rows), cross_entropy(theirs(rows).logits, rows)


@torch.no_grad()
def assert_same_logits(model: Transformer, theirs: Any, base: Tensor | None = None) -> None:
    expected = theirs(tokens(2, 24)).logits
    torch.testing.assert_close(model.logits(model(tokens(2, 24))), expected, atol=1e-4, rtol=0)
    if base is not None:
        assert (expected - base).abs().max() > 0.1, "an adapter this small would hide a mistake"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", FOUR)
def test_forward_gradients_five_steps_of_adamw_and_merge_are_pefts(
    name: str, kind: str, tmp_path: Path
) -> None:
    model, theirs = adapted(name, tmp_path, **KINDS[kind])
    with lora.disabled(model), torch.no_grad():
        base = model.logits(model(tokens(2, 24)))
        with theirs.disable_adapter():
            assert_same_logits(model, theirs)
    assert_same_logits(model, theirs, base)

    mine = torch.optim.AdamW(lora.trainable_parameters(model).values(), lr=3e-3)
    right = torch.optim.AdamW([p for p in theirs.parameters() if p.requires_grad], lr=3e-3)
    told = []
    for step in range(5):
        ours, expected = losses(model.train(), theirs.train(), tokens(4, 24, seed=step))
        ours.backward()
        expected.backward()
        if step == 0:
            assert_same(our_gradients(model), their_gradients(theirs))
        torch.testing.assert_close(ours, expected, atol=1e-4, rtol=0)
        told.append(expected.item())
        for optimizer in (mine, right):
            optimizer.step()
            optimizer.zero_grad()
    assert len(set(told)) == 5
    assert_same(adapter_state(model), their_adapter(theirs))

    lora.merge(model)
    plain = theirs.merge_and_unload().eval()
    assert_same_logits(model.eval(), plain)
    expected_weights = plain.state_dict()
    for key, value in to_stock(model).items():
        torch.testing.assert_close(value, expected_weights[key], atol=1e-5, rtol=1e-4, msg=key)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["gpt2-tied", "qwen3-wide-heads-tied"])
def test_dropout_acts_where_pefts_does(name: str, kind: str, tmp_path: Path) -> None:
    model, theirs = adapted(name, tmp_path, lora_dropout=0.3, **KINDS[kind])
    rows = tokens(2, 24)
    without = losses(model, theirs, rows)[0].item()
    seed_rows(model.train(), row_keys(model, 9, len(rows)))
    for adapter in lora.adapters(model).values():  # PEFT draws its own masks; here it gets ours
        theirs.get_submodule(f"base_model.model.{adapter.name}").lora_dropout["default"] = adapter.dropout
    ours = cross_entropy(model.logits(model(rows)), rows)
    expected = cross_entropy(theirs.train()(rows).logits, rows)
    ours.backward()
    expected.backward()
    assert abs(expected.item() - without) > 1e-3
    torch.testing.assert_close(ours, expected, atol=1e-4, rtol=0)
    assert_same(our_gradients(model), their_gradients(theirs))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", FOUR)
def test_peft_loads_our_adapter_on_the_stock_model(name: str, kind: str, tmp_path: Path) -> None:
    model = network(SPECS[name])
    base, stock_base = model.logits(model(tokens(2, 24))), stock(model)
    lora.apply(model, LoraSettings(r=4, lora_alpha=8, **KINDS[kind]), seed=1)
    with torch.no_grad():
        for seed, p in enumerate(lora.trainable_parameters(model).values()):
            p.add_(torch.randn(p.shape, generator=torch.Generator().manual_seed(seed)) * 0.1)
    save_adapter(model, tmp_path, "base")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # PEFT warns of adapters' weights that are missing
        warnings.filterwarnings("ignore", category=FutureWarning)
        theirs = peft.PeftModel.from_pretrained(stock_base, tmp_path).eval()
    assert_same_logits(model, theirs, base)
    assert_same(adapter_state(model), their_adapter(theirs))


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("gpt2-tied", {"target_modules": ["c_attn"]}),
        ("gpt2-tied", {"target_modules": ["mlp.c_proj", "attn.c_attn"], "use_rslora": True}),
        ("llama-grouped-untied", {"target_modules": ["q_proj", "down_proj"], "layers_to_transform": [1]}),
        ("llama-biases-tied", {"target_modules": ".*\\.0\\..*(k|up)_proj", "use_dora": True}),
        (
            "smollm3-biases-untied",
            {
                "rank_pattern": {"q_proj": 2, "layers.1.mlp.up_proj": 7},
                "alpha_pattern": {"^model.layers.2.*v_proj": 40},
                "use_rslora": True,
            },
        ),
        ("gpt2-untied", {"rank_pattern": {"h.1.attn.c_attn": 3}, "exclude_modules": ["c_fc"]}),
    ],
)
def test_an_adapter_of_some_layers_or_of_several_ranks_comes_and_goes(
    name: str, config: dict[str, Any], tmp_path: Path
) -> None:
    model, theirs = adapted(name, tmp_path / "theirs", **config)
    assert_same_logits(model, theirs)
    save_adapter(model, tmp_path / "ours", "base")
    base = stock(network(SPECS[name]))
    again = peft.PeftModel.from_pretrained(base, tmp_path / "ours").eval()
    assert_same_logits(model, again)
    assert_same(adapter_state(model), their_adapter(again))


@pytest.mark.parametrize("name", FOUR)
def test_transformers_computes_the_adapted_logits_from_a_merged_folder(name: str, tmp_path: Path) -> None:
    model, theirs = adapted(name, tmp_path / "adapter", use_rslora=True)
    save_model(lora.merged(model), tmp_path, eos_id=0)
    loaded = transformers.AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    assert_same_logits(model, loaded)
    assert_same_logits(model, theirs)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (peft.LoraConfig(target_modules=["c_attn"], modules_to_save=["ln_f"]), "uses modules_to_save"),
        (peft.LoraConfig(target_modules=["c_attn", "wte"]), "wte.lora_embedding_A has no place in a gpt2"),
        (peft.LoraConfig(target_modules=["c_attn"], trainable_token_indices=[1]), "trainable_token_indices"),
        (peft.LoraConfig(target_modules=["c_attn"], bias="all"), "trained biases"),
        (peft.LoraConfig(target_modules=["c_attn"], init_lora_weights="pissa"), "changes the base model's"),
        (peft.IA3Config(target_modules=["c_attn"], feedforward_modules=[]), "peft_type is 'IA3'"),
        (peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2), "'PROMPT_TUNING'"),
    ],
)
def test_an_adapter_of_another_kind_is_refused_in_one_line(config: Any, words: str, tmp_path: Path) -> None:
    model = network(SPECS["gpt2-untied"])
    peft.get_peft_model(stock(model), config).save_pretrained(tmp_path)
    with pytest.raises(RequestError) as refusal:
        load_adapter(model, tmp_path)
    assert words in str(refusal.value)
