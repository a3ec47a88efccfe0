"""The first losses of every shipped recipe at a tiny shape: a change that moves them is meant, or a bug.

The recipe's own initialisation, optimizer, schedule and dropout are kept; shape, data and lengths are
small, and all is FP32 on the CPU. CPUs add up in different orders, so a little room is left. When a change is meant:

    LINNET_WRITE_GOLDEN=1 python -m pytest tests/recipe/test_golden.py
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

import tiny
from linnet.recipe import live, load_recipe, shipped

GOLDEN = Path(__file__).parent.parent / "golden"
STEPS = 8


def small(name: str, corpus: Path) -> list[str]:
    model = load_recipe(name).model
    heads = model.num_attention_heads
    kv = "null" if model.architecture == "gpt2" else max(1, 4 * model.key_value_heads // heads)
    return [
        "stages=[pretrain]", "tokenizer={name: trained, vocab_size: 320}",
        "model.vocab_size=320", "model.hidden_size=32", "model.num_hidden_layers=4", "model.num_attention_heads=4",
        f"model.num_key_value_heads={kv}", "model.intermediate_size=64", "model.max_position_embeddings=64",
        "hardware={device: cpu, precision: fp32, compile: false}",
        f"pretrain.duration={STEPS} steps", "pretrain.train_batch_size=4", "pretrain.micro_batch_size=2",
        "pretrain.warmup_steps=2", "pretrain.logging_steps=1", "pretrain.eval_steps=0", "pretrain.save_steps=0",
        "pretrain.save_minutes=0", "pretrain.early_stopping_patience=0", "pretrain.sample_tokens=0",
        "pretrain.eval_sequences=4",
        f"pretrain.data={{sources: {corpus}, validation_sources: [], validation_fraction: 0.1, sequence_length: 32, "
        f"num_workers: 0, preprocessing_processes: 1, cache_dir: {corpus.parent / 'cache'}}}",
    ]  # fmt: skip


@pytest.mark.parametrize("name", shipped())
def test_losses_are_the_golden_ones(name: str, corpus: Path, tmp_path: Path) -> None:
    live(load_recipe(name, small(name, corpus)), tmp_path / "run")
    found = {
        "train/loss": [loss for loss, _ in tiny.losses(tmp_path / "run").values()],
        "train/grad_norm": [norm for _, norm in tiny.losses(tmp_path / "run").values()],
        "val/loss": tiny.evaluations(tmp_path / "run")[STEPS],
    }
    file = GOLDEN / f"{name}.json"
    if os.environ.get("LINNET_WRITE_GOLDEN"):
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps(found, indent=1) + "\n")
    expected = json.loads(file.read_text())
    # Muon orthogonalises in BF16, whose sums depend on the CPU's instructions.
    near = 5e-4 if load_recipe(name).stage("pretrain").optim == "muon" else 1e-5
    assert found["train/loss"] == pytest.approx(expected["train/loss"], abs=near)
    assert found["train/grad_norm"] == pytest.approx(expected["train/grad_norm"], rel=max(1e-4, near))
    assert found["val/loss"] == pytest.approx(expected["val/loss"], abs=near)
    assert found["train/loss"][-1] < found["train/loss"][0]
