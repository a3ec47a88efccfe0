"""Fifty optimizer steps end where transformers' model ends: the gradients are right, not only the logits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from families import SPECS, tokens

from linnet.model import Transformer, initialize, save_model

transformers = pytest.importorskip("transformers")
NAMES = ("gpt2-tied", "llama-grouped-untied", "smollm3-biases-untied", "qwen3-wide-heads-tied")


def batch(step: int) -> torch.Tensor:
    """Rows that can be learned: each counts upwards by its own stride."""
    start, stride = tokens(4, 1, seed=step), tokens(4, 1, seed=1000 + step) % 5 + 1
    return (start + stride * torch.arange(24)) % SPECS["gpt2-tied"].vocab_size


@pytest.mark.parametrize("name", NAMES)
def test_fifty_steps_follow_transformers_and_torch_adamw(name: str, tmp_path: Path) -> None:
    ours = Transformer(SPECS[name])
    initialize(ours, seed=11)
    save_model(ours, tmp_path, eos_id=0)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path).train()
    settings: dict[str, Any] = {"lr": 3e-3, "betas": (0.9, 0.95), "weight_decay": 0.1, "foreach": False}
    mine, right = (torch.optim.AdamW(model.parameters(), **settings) for model in (ours, theirs))
    losses = []
    for step in range(50):
        rows = batch(step)
        logits = ours(rows)[:, :-1]
        loss = F.cross_entropy(ours.logits(logits).flatten(0, 1), rows[:, 1:].flatten())
        expected = theirs(rows, labels=rows).loss
        assert abs(loss.item() - expected.item()) < 1e-4, f"step {step}"
        for optimizer, value in ((mine, loss), (right, expected)):
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.5, "a run that learns nothing would hide a mistake"
