"""Adapters on a frozen model: they begin as nothing, learn alone, come off exactly, and merge without loss."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch._dynamo
import torch._inductor.config
from adapted import KINDS, grown, logits, loss, settings, trained
from families import FOUR, SPECS, greedy, network, tokens
from torch import Tensor
from torch._dynamo.utils import counters
from torch.utils.checkpoint import checkpoint

import tiny
from linnet.config import Layers, RequestError, validate
from linnet.hardware import HardwareSettings, choose, detect_cpu
from linnet.model import LoraSettings, Transformer, load_model, lora, save_model
from linnet.model.lora_folder import adapter_state
from linnet.objectives import NextToken
from linnet.train.engines import LocalEngine


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with tiny.one_thread():
        yield


# --- asking for an adapter --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"alpha": 16}, "unknown key 'alpha'; write 'lora_alpha'"),
        ({"rank": 16}, "write 'r'"),
        ({"lora_aplha": 16}, "did you mean 'lora_alpha'?"),
        ({"modules_to_save": ["lm_head"]}, "leave it out"),
        ({"r": 0}, "r: input should be greater than 0, not 0"),
        ({"lora_dropout": 1.0}, "lora_dropout: input should be less than 1"),
        ({"target_modules": "q_proj"}, "target_modules: write a list, [q_proj], or all-linear"),
        ({"target_modules": []}, "the list is empty"),
    ],
)
def test_a_wrong_setting_is_told_in_one_line(values: dict[str, Any], words: str) -> None:
    with pytest.raises(RequestError) as refusal:
        validate(LoraSettings, Layers(values, {(): "recipe.yaml:3"}))
    assert words in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("name", "target", "words"),
    [
        (
            "qwen3-wide-heads-tied",
            "q_porj",
            "no linear 'q_porj'; did you mean q_proj? its linears are q_proj,",
        ),
        ("gpt2-tied", "q_proj", "did you mean c_attn? its linears are c_attn, c_proj, c_fc"),
        ("llama-grouped-untied", "c_attn", "did you mean q_proj, k_proj, v_proj?"),
        ("llama-grouped-untied", "mlp.q_proj", "no linear 'mlp.q_proj'"),
        ("llama-grouped-untied", "experts", "no linear 'experts'; its linears are"),
        ("gpt2-tied", "lm_head", "lm_head is the embedding itself"),
        ("gpt2-untied", "lm_head", "lm_head is a matrix that the loss reads whole"),
        ("gpt2-tied", "wte", "wte is an embedding"),
        ("llama-grouped-untied", "model.embed_tokens", "embed_tokens is an embedding"),
    ],
)
def test_a_target_that_is_no_linear_of_the_architecture_is_refused_and_nothing_touched(
    name: str, target: str, words: str
) -> None:
    model = network(SPECS[name])
    with pytest.raises(RequestError) as refusal:
        lora.apply(model, settings(target_modules=[target]), 0)
    assert words in str(refusal.value)
    assert all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize(
    ("name", "chosen", "expected"),
    [
        ("gpt2-tied", ["c_proj"], ["attn.c_proj", "mlp.c_proj"]),
        ("gpt2-tied", ["mlp.c_proj", "c_attn"], ["attn.c_attn", "mlp.c_proj"]),
        ("qwen3-wide-heads-tied", ["q_proj"], ["self_attn.q_proj"]),
    ],
)
def test_a_name_means_every_linear_whose_stock_name_ends_so(
    name: str, chosen: list[str], expected: list[str]
) -> None:
    model = network(SPECS[name])
    lora.apply(model, settings(target_modules=chosen), 0)
    ends = [name.split(".", 3)[3] for name in lora.adapters(model)]
    assert ends == expected * model.spec.num_hidden_layers


# --- learning ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", FOUR)
def test_at_step_0_the_model_is_the_base_to_the_last_bit(name: str, kind: str) -> None:
    model = network(SPECS[name]).train()
    before = logits(model)
    lora.apply(model, settings(**KINDS[kind]), 0)
    assert torch.equal(logits(model), before)


@pytest.mark.parametrize("name", FOUR)
def test_only_adapters_have_gradients_and_move(name: str) -> None:
    model = trained(network(SPECS[name]), use_dora=True).train()
    before = {key: p.detach().clone() for key, p in model.named_parameters()}
    trainable = lora.trainable_parameters(model)
    assert trainable
    assert all(".adapter.lora_" in key for key in trainable)
    assert grown(model, tokens(2, 16)).keys() == trainable.keys()
    torch.optim.AdamW(trainable.values(), lr=1e-2).step()
    moved = {key for key, p in model.named_parameters() if not torch.equal(p, before[key])}
    assert moved == trainable.keys()


def test_an_adapter_is_drawn_from_its_seed_as_uniform_or_normal() -> None:
    def drawn(seed: int, init: str = "default") -> dict[str, Tensor]:
        model = network(tiny.spec(hidden_size=64))
        lora.apply(model, settings(r=32, init_lora_weights=init), seed)
        return adapter_state(model)

    assert tiny.same(drawn(1), drawn(1))
    assert not tiny.same(drawn(1), drawn(2))
    a = drawn(1)["base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"]
    assert a.shape == (32, 64)
    assert a.abs().max() <= 64**-0.5
    assert a.std() == pytest.approx(64**-0.5 / 3**0.5, rel=0.05)
    a = drawn(1, "gaussian")["base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"]
    assert a.std() == pytest.approx(1 / 32, rel=0.05)
    assert a.abs().max() > 64**-0.5 / 2


@pytest.mark.parametrize("kind", KINDS)
def test_gpt2s_c_attn_is_one_pair_of_three_times_the_rows(kind: str) -> None:
    model = trained(network(SPECS["gpt2-tied"]), **KINDS[kind], target_modules=["c_attn"])
    state = adapter_state(model)
    assert state["base_model.model.transformer.h.0.attn.c_attn.lora_A.weight"].shape == (4, 48)
    assert state["base_model.model.transformer.h.0.attn.c_attn.lora_B.weight"].shape == (144, 4)
    per_layer = 2 + (kind == "dora")
    assert len(lora.trainable_parameters(model)) == per_layer * model.spec.num_hidden_layers


@pytest.mark.parametrize("name", ["gpt2-tied", "llama-grouped-untied"])
@pytest.mark.parametrize("kind", KINDS)
def test_gradient_checkpointing_gives_the_same_gradients_under_dropout(name: str, kind: str) -> None:
    def gradients(checkpointed: bool) -> dict[str, Tensor]:
        model = trained(network(SPECS[name]), lora_dropout=0.3, **KINDS[kind]).train()
        if checkpointed:
            model.run_block = lambda block, *rest: checkpoint(block, *rest, use_reentrant=False)
        return grown(model, tokens(2, 16))

    assert tiny.same(gradients(True), gradients(False))


def test_dropout_is_drawn_from_the_step_and_row_and_only_in_training() -> None:
    cpu = {"device": "cpu", "precision": "fp32", "compile": False}
    choices = choose(HardwareSettings.model_validate(cpu), detect_cpu())
    model = trained(network(tiny.spec()), lora_dropout=0.4)
    assert torch.equal(logits(model.eval()), logits(model))
    engine = LocalEngine(model, tiny.settings(), choices, 24, seed=5)

    def gradients(step: int) -> dict[str, Tensor]:
        model.zero_grad()
        torch.rand(step + 7)  # a stream that others draw from as well
        engine.accumulate(NextToken(), tiny.batch(), step, tiny.never)
        return tiny.gradients(model)

    assert tiny.same(gradients(1), gradients(1))
    assert not tiny.same(gradients(1), gradients(2))


def _compiled_and_not(
    name: str, kind: str, dropout: float, backend: str
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    found = []
    for compiling in (True, False):
        model = trained(network(SPECS[name]), lora_dropout=dropout, **KINDS[kind]).train()
        torch._dynamo.reset()
        counters.clear()
        for block in model.layers if compiling else ():
            block.compile(fullgraph=True, dynamic=False, backend=backend)
        found.append(grown(model, tokens(2, 16)))
        if compiling:
            # The first layer's input needs no gradient, the others' do.
            assert counters["stats"]["unique_graphs"] == 2
            with lora.disabled(model):
                without = logits(model)
    torch.testing.assert_close(without, logits(network(SPECS[name])), atol=1e-5, rtol=1e-4)
    return found[0], found[1]


@pytest.mark.parametrize(
    ("name", "kind", "dropout"),
    [
        ("gpt2-tied", "dora", 0.4),
        ("llama-grouped-untied", "lora", 0.0),
        pytest.param("gpt2-tied", "lora", 0.4, marks=pytest.mark.slow),
        pytest.param("gpt2-tied", "dora", 0.0, marks=pytest.mark.slow),
        pytest.param("llama-grouped-untied", "dora", 0.4, marks=pytest.mark.slow),
    ],
)
def test_blocks_are_captured_whole_and_compute_the_same(name: str, kind: str, dropout: float) -> None:
    found, expected = _compiled_and_not(name, kind, dropout, "aot_eager")
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, atol=1e-5, rtol=1e-4, msg=key)


@pytest.mark.slow
def test_compiled_blocks_compute_the_same() -> None:
    with torch._inductor.config.patch(fallback_random=True):
        found, expected = _compiled_and_not("gpt2-tied", "dora", 0.4, "inductor")
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, atol=1e-5, rtol=1e-4, msg=key)


# --- the base again, and merging --------------------------------------------------------------------------


def test_without_its_adapters_for_a_while_it_is_the_base() -> None:
    model = network(SPECS["gpt2-tied"])
    base = logits(model)
    changed = logits(trained(model, use_dora=True))
    assert not torch.allclose(changed, base, atol=0.1)
    with lora.disabled(model):
        with lora.disabled(model):
            assert torch.equal(logits(model), base)
        assert torch.equal(logits(model), base)
    assert torch.equal(logits(model), changed)


def test_adapters_are_on_again_after_an_error_without_them() -> None:
    model = trained(network(SPECS["gpt2-tied"]))
    changed = logits(model)

    def fail() -> None:
        with lora.disabled(model):
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert torch.equal(logits(model), changed)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", FOUR)
def test_with_a_cache_an_adapted_model_continues_as_without(name: str, kind: str) -> None:
    model = trained(network(SPECS[name]), **KINDS[kind])
    fed = tokens(1, 6)
    with_cache = greedy(model, fed[0], 12)
    with torch.no_grad():
        for _ in range(12):
            fed = torch.cat((fed, model.logits(model(fed)[:, -1:]).argmax(-1)), dim=1)
    assert with_cache == fed[0, 6:].tolist()
    with lora.disabled(model):
        assert greedy(model, fed[0, :6], 12) != with_cache


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", FOUR)
def test_a_merged_copy_computes_the_same_and_leaves_the_model_training(name: str, kind: str) -> None:
    model = trained(network(SPECS[name]), **KINDS[kind])
    expected, trainable = logits(model), lora.trainable_parameters(model)
    plain = lora.merged(model)
    torch.testing.assert_close(logits(plain), expected, atol=1e-4, rtol=0)
    assert not lora.adapters(plain)
    assert plain.embed_tokens.weight is model.embed_tokens.weight
    assert lora.trainable_parameters(model).keys() == trainable.keys()
    assert torch.equal(logits(model), expected)
    lora.merge(model)
    assert torch.equal(logits(model), logits(plain))
    names = [key for key, _ in model.named_parameters()]
    assert names == [key for key, _ in Transformer(model.spec).named_parameters()]
    assert lora.trainable_parameters(model).keys() == set(names)


def test_a_merged_folder_is_a_stock_model(tmp_path: Path) -> None:
    model = trained(network(SPECS["smollm3-scaled-tied"]))
    save_model(lora.merged(model), tmp_path, eos_id=0)
    torch.testing.assert_close(logits(load_model(tmp_path)), logits(model), atol=1e-4, rtol=0)


@torch.no_grad()
def test_a_small_adapter_on_a_bf16_base_is_not_rounded_away_by_merging() -> None:
    """Added in BF16, which has 8 bits, a change of a thousandth leaves most weights as they were."""
    model = network(SPECS["llama-grouped-untied"])
    lora.apply(model, settings(lora_alpha=4), 1, base_dtype=torch.bfloat16)
    for adapter in lora.adapters(model).values():
        adapter.lora_B.normal_(0, 1e-3, generator=torch.Generator().manual_seed(1))
    name = "layers.0.self_attn.q_proj.weight"
    base = model.get_parameter(name).detach().clone()
    expected = logits(model)
    lora.merge(model)
    weight = model.get_parameter(name)
    assert weight.dtype == torch.float32
    assert (weight != base.float()).float().mean() > 0.99
    assert (weight.bfloat16() == base).float().mean() > 0.5, "in BF16 this adapter would be lost"
    torch.testing.assert_close(logits(model), expected, atol=1e-5, rtol=0)
    rounded = network(SPECS["llama-grouped-untied"])
    rounded.load_state_dict({key: p.bfloat16().float() for key, p in model.named_parameters()})
    assert (logits(rounded) - expected).abs().max() > 50 * (logits(model) - expected).abs().max()


@pytest.mark.parametrize("kind", KINDS)
def test_on_a_bf16_base_adapters_stay_fp32_and_learn(kind: str) -> None:
    model = network(SPECS["gpt2-tied"])
    lora.apply(model, settings(r=8, **KINDS[kind]), 0, base_dtype=torch.bfloat16)
    model.use_precision(torch.bfloat16)
    kept = {key: p.dtype for key, p in model.named_parameters()}
    assert kept["layers.0.mlp.up_proj.weight"] == kept["embed_tokens.weight"] == torch.bfloat16
    assert kept["layers.0.mlp.up_proj.bias"] == kept["norm.weight"] == torch.float32
    trainable = lora.trainable_parameters(model)
    assert {p.dtype for p in trainable.values()} == {torch.float32}
    optimizer, losses = torch.optim.AdamW(trainable.values(), lr=1e-2), []
    for _ in range(15):
        losses.append(loss(model, tokens(4, 16)))
        losses[-1].backward()
        optimizer.step()
        optimizer.zero_grad()
    assert losses[-1] < 0.7 * losses[0]
