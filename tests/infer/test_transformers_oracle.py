"""Text from a saved folder is the text that transformers' generate makes of the same folder."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from talkers import EOS, FAMILIES, ByteTokenizer, greedy, network

from linnet.infer import Generator
from linnet.model import load_model, save_model

transformers = pytest.importorskip("transformers")
PROMPTS = ["Once upon a time", "", "The little bird", "Why?"]


@pytest.mark.parametrize("penalty", [1.0, 1.3])
@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_text_is_that_of_transformers(family: str, penalty: float, tmp_path: Path) -> None:
    save_model(network(family, max_position_embeddings=128, **FAMILIES[family]), tmp_path, eos_id=EOS)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    ours = Generator(load_model(tmp_path), ByteTokenizer())
    said = ours.generate(PROMPTS, greedy(max_new_tokens=80, repetition_penalty=penalty), slots=3)
    for completion in said:
        rows = torch.tensor([completion.prompt_ids])
        expected = theirs.generate(
            rows,
            attention_mask=torch.ones_like(rows),
            do_sample=False,
            repetition_penalty=penalty,
            max_new_tokens=80,
            pad_token_id=EOS,
        )
        assert completion.ids == expected[0, rows.shape[1] :].tolist()
