"""Small networks that talk in bytes, for sampling tests that need no vocabulary file."""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import torch

from linnet.infer import Generator, SamplingSettings
from linnet.model import ModelSpec, Transformer

EOS = 256
CONTEXT = 64
FAMILIES: dict[str, dict[str, Any]] = {
    "gpt2": {},
    "llama": {"num_key_value_heads": 2, "tie_word_embeddings": False},
    "smollm3": {"no_rope_layer_interval": 2, "scale_embeddings": True},
    "qwen3": {"head_dim": 16, "num_key_value_heads": 2},
}


class ByteStream:
    def __init__(self) -> None:
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")

    def feed(self, token_id: int) -> str:
        return "" if token_id == EOS else self._utf8.decode(bytes([token_id]))

    def finish(self) -> str:
        return self._utf8.decode(b"", final=True)


class ByteTokenizer:
    """A token is a byte; 256 is EOS."""

    eos_id = EOS
    stop_ids = (EOS,)
    vocab_size = 257

    def encode(self, text: str) -> list[int]:
        return list(text.encode())

    def encode_prompt(self, text: str) -> list[int]:
        return [EOS, *self.encode(text)]

    def stream_decoder(self, prompt: Sequence[int] = ()) -> ByteStream:
        stream = ByteStream()
        for token_id in prompt:
            stream.feed(token_id)
        return stream


def network(architecture: str = "llama", seed: int = 0, **more: Any) -> Transformer:
    """A network with opinions: weights so wide that its choices differ from row to row."""
    values = {
        "architecture": architecture,
        "vocab_size": 257,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 64,
        "max_position_embeddings": CONTEXT,
    }
    model = Transformer(ModelSpec(**{**values, **more}))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            drawn = torch.randn(parameter.shape, generator=generator)
            is_scale = "norm" in name and not name.endswith("bias")
            parameter.copy_(drawn * 0.25 if parameter.dim() > 1 else drawn * 0.1 + is_scale)
    return model.eval()


class Script(Transformer):
    """A network that says what it is told: after position p of any row comes `script[p]`."""

    def __init__(self, script: Sequence[int], prompt_length: int = 1) -> None:
        super().__init__(network().spec)
        self.script = [0] * (prompt_length - 1) + list(script)
        self.reads: list[list[int]] = []  # how many tokens each row read, of every pass

    def decode(self, tokens: torch.Tensor, cache: Any, counts: Any = None) -> torch.Tensor:
        self.reads.append(list(counts))
        ends = [end - 1 for end in accumulate(counts)]
        return cache.positions(counts)[ends].unsqueeze(-1).float()  # [B, 1]

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        scores = torch.zeros(hidden.shape[0], self.spec.vocab_size)
        for row, position in enumerate(hidden[:, 0].long().tolist()):
            scores[row, self.script[min(position, len(self.script) - 1)]] = 10.0
        return scores


def says(text: str | bytes, end: bool = True, prompt_length: int = 1) -> Generator:
    """A generator whose greedy answer is `text`, then EOS."""
    content = text.encode() if isinstance(text, str) else text
    return Generator(Script([*content, *[EOS] * end], prompt_length), ByteTokenizer())


def greedy(**more: Any) -> SamplingSettings:
    return SamplingSettings(temperature=0.0, **more)
