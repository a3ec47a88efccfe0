"""Training a tokenizer on one's own text."""

from __future__ import annotations

import subprocess
import sys

import pytest

from linnet.config import RequestError
from linnet.text import Tokenizer, train_tokenizer
from linnet.text.train import SPECIALS

PROGRAM = """
import sys
from pydoc_data.topics import topics
from linnet.text import train_tokenizer
sys.stdout.write(train_tokenizer([t for _, t in sorted(topics.items())], 2000).to_json())
"""


def test_the_same_text_gives_the_same_file_in_every_process(trained: Tokenizer) -> None:
    for seed in ("0", "1"):
        environment = {"PYTHONHASHSEED": seed, "PYTHONUTF8": "1", "RAYON_NUM_THREADS": str(1 + int(seed))}
        run = subprocess.run(
            [sys.executable, "-c", PROGRAM],
            env=environment,
            capture_output=True,
            check=True,
            encoding="utf-8",
        )
        assert run.stdout == trained.to_json()


def test_the_size_is_exact_and_the_specials_are_reserved(trained: Tokenizer) -> None:
    assert trained.vocab_size == 2000
    assert [trained.id_of(token) for token in SPECIALS] == [0, 1, 2, 3]
    assert (trained.eos_id, trained.bos_id, trained.pad_id) == (0, 0, 3)
    assert trained.special_ids == {0, 1, 2, 3}


def test_a_trained_vocabulary_shortens_its_own_kind_of_text(trained: Tokenizer, documents: list[str]) -> None:
    text = "".join(documents[:20])
    assert len(trained.encode(text)) < 0.4 * len(text)


def test_digits_are_single_and_words_do_not_cross_spaces(trained: Tokenizer) -> None:
    tokens = [trained.token_bytes(i) for i in range(4, trained.vocab_size)]
    assert not [t for t in tokens if len(t) > 1 and any(chr(b).isdigit() for b in t)]
    assert not [t for t in tokens if b" " in t.lstrip(b" ") and t.strip()]


def test_markers_in_the_text_do_not_become_the_special_tokens() -> None:
    tokenizer = train_tokenizer(["<|endoftext|> and <|im_start|>" * 50], 280)
    assert not set(tokenizer.encode("<|endoftext|>")) & tokenizer.special_ids


@pytest.mark.parametrize(
    ("size", "text", "said"),
    [
        (259, "text", r"259 is too few.*260 or more"),
        (5000, "a little text, a little text", r"28 characters.*not for 5,000.*or fewer"),
        (300, "", r"no text"),
    ],
)
def test_impossible_sizes_are_refused(size: int, text: str, said: str) -> None:
    with pytest.raises(RequestError, match=said):
        train_tokenizer([text] if text else [], size)


def test_the_size_named_by_the_refusal_is_reachable() -> None:
    text = ["a little text, a little text"]
    with pytest.raises(RequestError) as caught:
        train_tokenizer(text, 5000)
    size = int(caught.value.mend.split()[2])
    assert train_tokenizer(text, size).vocab_size == size


def test_smallest_vocabulary_is_bytes_and_specials() -> None:
    tokenizer = train_tokenizer(["héllo"], 260)
    assert len(tokenizer.encode("héllo")) == 6
    assert tokenizer.decode(tokenizer.encode("日本")) == "日本"
