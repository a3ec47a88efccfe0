"""Small models of the four stock architectures, ours and transformers', with weights that leave traces.

Freshly initialised biases are 0 and norms 1, so a lost bias or a swapped norm would not show. Every
weight here is drawn wide enough that each of them moves the logits.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from linnet.model import ModelSpec, Transformer

VOCAB, CONTEXT = 97, 256
_SHAPE: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 96,
    "max_position_embeddings": CONTEXT,
}


def spec(architecture: str, **more: Any) -> ModelSpec:
    return ModelSpec(**{**_SHAPE, "architecture": architecture, **more})


SPECS = {
    "gpt2-tied": spec("gpt2", initialization="gpt2"),
    "gpt2-untied": spec("gpt2", tie_word_embeddings=False),
    "llama-grouped-untied": spec("llama", num_key_value_heads=2, tie_word_embeddings=False, rope_theta=500.0),
    "llama-biases-tied": spec("llama", num_key_value_heads=1, attention_bias=True, mlp_bias=True),
    "smollm3-scaled-tied": spec(
        "smollm3", num_key_value_heads=2, no_rope_layer_interval=2, num_hidden_layers=5, scale_embeddings=True
    ),
    "smollm3-biases-untied": spec(
        "smollm3", no_rope_layer_interval=3, attention_bias=True, mlp_bias=True, tie_word_embeddings=False
    ),
    "qwen3-wide-heads-tied": spec("qwen3", num_key_value_heads=2, head_dim=16, norm_eps=1e-6),
    "qwen3-biases-untied": spec("qwen3", head_dim=8, attention_bias=True, tie_word_embeddings=False),
}
FOUR = ("gpt2-tied", "llama-grouped-untied", "smollm3-scaled-tied", "qwen3-wide-heads-tied")


@torch.no_grad()
def shake(model: nn.Module, seed: int = 0) -> None:
    """Draw every weight anew: matrices of about unit gain, norms around 1, biases around 0."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        drawn = torch.randn(parameter.shape, generator=generator)
        if parameter.dim() > 1:
            parameter.copy_(drawn * 0.2)
        else:
            parameter.copy_(
                drawn * 0.2 + float("norm" in name or "ln_" in name) * (not name.endswith("bias"))
            )


def network(spec: ModelSpec, seed: int = 0) -> Transformer:
    model = Transformer(spec)
    shake(model, seed)
    return model.eval()


def tokens(rows: int, length: int, seed: int = 1) -> Tensor:
    return torch.randint(VOCAB, (rows, length), generator=torch.Generator().manual_seed(seed))


@torch.inference_mode()
def greedy(model: Transformer, prompt: Tensor, count: int) -> list[int]:
    """The most likely continuation, by the cache, one token at a time. prompt: [T]."""
    from linnet.model import KVCache

    cache = KVCache(model.spec, 1, len(prompt) + count, "cpu", torch.float32)
    fed, chosen = prompt.unsqueeze(0), list[int]()
    for _ in range(count):
        hidden = model.decode(fed, cache)
        cache.advance([fed.shape[1]])
        chosen.append(int(model.logits(hidden[:, -1]).argmax()))
        fed = torch.tensor([[chosen[-1]]])
    return chosen


@torch.inference_mode()
def their_greedy(theirs: Any, prompt: Tensor, count: int) -> list[int]:
    """The same by transformers' generate, which no end-of-text token stops."""
    theirs.generation_config.eos_token_id = None
    rows = prompt.unsqueeze(0)
    out = theirs.generate(
        rows,
        attention_mask=torch.ones_like(rows),
        do_sample=False,
        max_new_tokens=count,
        pad_token_id=0,
    )
    return out[0, len(prompt) :].tolist()


def edit_config(folder: Path, **changes: Any) -> None:
    """Set keys of a folder's `config.json`; None removes a key."""
    path = folder / "config.json"
    config = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in config.items() if value is not None}))
