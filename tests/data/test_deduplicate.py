from __future__ import annotations

import hashlib
import os
import pickle
import random
import re
import subprocess
import sys
import unicodedata
from concurrent.futures import ProcessPoolExecutor
from itertools import pairwise
from multiprocessing import get_context

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from linnet.config import RequestError
from linnet.data.cleaning import Deduplicator, signature
from linnet.data.cleaning import bands as bands_module
from linnet.data.cleaning.bands import BandIndex, best_cut, chance
from linnet.data.cleaning.minhash import PERMUTATIONS, permutations, shingle_hashes

datasketch = pytest.importorskip("datasketch")

VOCABULARY = [f"{a}{b}{c}" for a in "bdfgklmnprstvz" for b in "aeiou" for c in ("", "n", "r", "st", "lo")]
UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U00033fff]"
)


def words_of(text: str) -> list[str]:
    """The words by a loop over characters: what the hashes should stand for."""
    spaced = ""
    for character in text.lower():
        kind = unicodedata.category(character)[0]
        if kind in "LM" and UNSPACED.match(character):
            spaced += f" {character} "
        else:
            spaced += character if kind in "LMN" else " "
    return spaced.split(" ")


def ngrams(text: str) -> set[tuple[str, ...]]:
    words = [word for word in words_of(text) if word]
    return {tuple(words[at : at + 5]) for at in range(max(1, len(words) - 4))}


def jaccard(one: str, other: str) -> float:
    a, b = ngrams(one), ngrams(other)
    return len(a & b) / len(a | b)


def story(rng: random.Random, length: int = 200) -> list[str]:
    return rng.choices(VOCABULARY, k=length)


def edited(rng: random.Random, words: list[str], every: float) -> list[str]:
    """A copy with about one word in `every` replaced by another."""
    return [rng.choice(VOCABULARY) if rng.random() < 1 / every else word for word in words]


def test_exact_is_exact() -> None:
    texts = ["a b", "a  b", "a b ", "A b", "a b.", "a\nb", "", "ä", "a\u0308", "\ud800"]
    found = Deduplicator("exact")
    assert [found.is_duplicate(text) for text in texts] == [False] * len(texts)
    assert [found.is_duplicate(text) for text in texts] == [True] * len(texts)
    assert (found.documents, found.duplicates) == (20, 10)
    assert signature("ä", "exact") == hashlib.blake2b("ä".encode(), digest_size=16).digest()


def test_exact_needs_no_library(monkeypatch: pytest.MonkeyPatch) -> None:
    permutations.cache_clear()
    monkeypatch.setitem(sys.modules, "datasketch", None)
    assert not Deduplicator("exact").is_duplicate("a")
    with pytest.raises(RequestError, match=r"need datasketch 2.0 or later; pip install 'linnet\[data\]'"):
        Deduplicator("near")
    permutations.cache_clear()


@pytest.mark.parametrize("kind", ["exact", "near"])
def test_the_first_stays_whatever_comes_later(kind: str) -> None:
    rng = random.Random(1)
    groups = [(number, " ".join(story(rng, 60))) for number in range(40)]
    documents = groups * 3
    rng.shuffle(documents)
    found = Deduplicator(kind)  # type: ignore[arg-type]
    seen: set[int] = set()
    for number, text in documents:
        assert found.is_duplicate(text) == (number in seen)
        seen.add(number)
    assert (found.documents, found.duplicates) == (120, 80)


def test_near_looks_past_case_punctuation_and_spaces() -> None:
    found = Deduplicator("near")
    assert not found.is_duplicate("The fox ran home, and “the” dog slept — all day long.")
    assert found.is_duplicate("the fox ran  home and the dog\nslept... ALL day long")
    assert not found.is_duplicate("The fox ran home, and the cat slept all night.")


@pytest.mark.parametrize("text", ["", "!!!", "one", "two words", "我们今天去学校", "\ud800"])
def test_short_and_odd_texts_are_their_own_duplicates_only(text: str) -> None:
    found = Deduplicator("near")
    assert [found.is_duplicate(other) for other in ("???", "one two", "three", "今天")] == [False] * 4
    assert not found.is_duplicate(text)
    assert found.is_duplicate(text)


def test_an_edit_in_a_script_without_spaces_leaves_a_near_duplicate() -> None:
    characters = [chr(0x4E00 + number) for number in random.Random(2).choices(range(3000), k=400)]
    text = "".join(characters)
    found = Deduplicator("near")
    assert not found.is_duplicate(text)
    assert found.is_duplicate(text[:200] + "新" + text[201:])


def test_pairs_above_the_threshold_are_found_and_those_below_are_not() -> None:
    """Judged by the true Jaccard similarity of word 5-grams, computed from the words themselves."""
    rng = random.Random(3)
    found = Deduplicator("near", 0.8)
    above, below = [], []
    for number in range(1600):
        words = story(rng)
        copy = edited(rng, words, every=150 if number % 2 else 20)
        one, other = " ".join(words), ", ".join(copy).upper()
        assert not found.is_duplicate(one)
        similarity, answer = jaccard(one, other), found.is_duplicate(other)
        if similarity >= 0.9:
            above.append(answer)
        elif similarity <= 0.65:
            below.append(answer)
    assert len(above) > 400
    assert len(below) > 400
    assert np.mean(above) >= 0.95
    assert np.mean(below) < 0.01


@pytest.mark.parametrize("threshold", [0.5, 0.95])
def test_the_threshold_moves_what_counts_as_near(threshold: float) -> None:
    rng = random.Random(4)
    found = Deduplicator("near", threshold)
    answers: dict[bool, list[bool]] = {True: [], False: []}
    for _ in range(400):
        words = story(rng)
        copy = edited(rng, words, every=rng.choice([5, 15, 40, 400]))
        found.is_duplicate(" ".join(words))
        similarity = jaccard(" ".join(words), " ".join(copy))
        answer = found.is_duplicate(" ".join(copy))
        if abs(similarity - threshold) > 0.15 or similarity == 1:
            answers[similarity > threshold].append(answer)
    assert np.mean(answers[True]) >= 0.95
    assert np.mean(answers[False]) < 0.01


def test_a_threshold_of_one_finds_the_same_words_only() -> None:
    rng = random.Random(8)
    found = Deduplicator("near", 1.0)
    for _ in range(20):
        words = story(rng)
        assert not found.is_duplicate(" ".join(words))
        assert not found.is_duplicate(" ".join(edited(rng, words, every=20)))
        assert found.is_duplicate("\n".join(words))


def test_a_signature_estimates_the_true_similarity() -> None:
    rng = random.Random(5)
    errors = []
    for every in (10, 20, 50, 100) * 50:
        words = story(rng)
        one, other = " ".join(words), " ".join(edited(rng, words, every))
        a, b = (np.frombuffer(signature(text), "<u4") for text in (one, other))
        errors.append(np.mean(a == b) - jaccard(one, other))
    assert abs(np.mean(errors)) < 0.01
    assert np.std(errors) < 0.044  # the square root of 1/4 ÷ 128, the most there can be


@given(st.lists(st.sampled_from(VOCABULARY), max_size=2000))
@settings(max_examples=30)
def test_a_signature_is_datasketchs_minhash_of_the_same_hashes(words: list[str]) -> None:
    text = " ".join(words)
    theirs = datasketch.MinHash(num_perm=PERMUTATIONS, seed=1, scheme="affine32", hashfunc=int)
    theirs.update_batch(shingle_hashes(text))
    assert signature(text) == theirs.hashvalues.astype("<u4").tobytes()


@given(st.text(max_size=60) | st.text("abÄéI'’_—1 \n中文กx\u0301", max_size=40))
def test_hashes_stand_for_the_runs_of_words(text: str) -> None:
    words = [word for word in words_of(text) if word]
    hashes = shingle_hashes(text)
    assert len(hashes) == max(1, len(words) - 4)
    if words:
        assert hashes.tolist() == shingle_hashes(" ".join(words)).tolist()
        assert len(set(hashes.tolist())) == len(ngrams(text))


def test_different_runs_of_words_have_different_hashes() -> None:
    rng = random.Random(6)
    text = " ".join(rng.choices(VOCABULARY, k=50_000))
    assert 1 << 17 < len(text) < 2 << 17  # hashed as two blocks
    real = len(ngrams(text))
    assert real - 10 <= len(set(shingle_hashes(text).tolist())) <= real + 10
    spread = np.histogram(shingle_hashes(text), bins=64, range=(0, 1 << 32))[0]
    assert spread.max() < 1.3 * spread.mean()


@pytest.mark.parametrize(
    ("one", "other"), [("ab c d e f", "a bc d e f"), ("a b c d e", "b a c d e"), ("a a a a b", "a a a b a")]
)
def test_where_a_word_ends_and_which_comes_first_count(one: str, other: str) -> None:
    assert shingle_hashes(one).tolist() != shingle_hashes(other).tolist()


def test_signatures_are_the_same_in_every_process_and_on_every_machine() -> None:
    """A build resumed elsewhere must keep the same documents, so the bytes themselves are written down."""
    text = "The fox ran home, and the dog — an old one — slept; 中文 too."
    code = (
        f"import hashlib, linnet.data.cleaning as c; print(hashlib.sha256(c.signature({text!r})).hexdigest())"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "77", "PYTHONIOENCODING": "utf-8"}
    there = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=True)
    here = hashlib.sha256(signature(text)).hexdigest()
    assert here == there.stdout.decode().strip()
    assert here == "4f27ff0f7568ade417a20b2b060d3ce3a02b95575d42f2fd1f0f300511a7506d"


def test_signatures_made_in_workers_give_the_same_answers() -> None:
    rng = random.Random(7)
    texts = [" ".join(story(rng, 80)) for _ in range(50)]
    texts += [text + " end" for text in texts[::2]]
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        made = list(pool.map(signature, texts, chunksize=25))
    with_them, alone = Deduplicator("near"), Deduplicator("near")
    assert [with_them.is_duplicate("", sign) for sign in made] == [alone.is_duplicate(text) for text in texts]
    assert alone.duplicates == 25
    assert len(pickle.dumps(made[0])) < 600


def clustered(count: int, seed: int = 0) -> np.ndarray:
    """Signatures in families that share some of their values, so that bands agree. [count, permutations]"""
    rng = np.random.default_rng(seed)
    families = rng.integers(0, 1 << 32, (count // 5 + 1, PERMUTATIONS), dtype=np.uint32)
    own = rng.integers(0, 1 << 32, (count, PERMUTATIONS), dtype=np.uint32)
    return np.where(rng.random((count, PERMUTATIONS)) < 0.75, families[np.arange(count) // 5], own)


def test_the_index_names_the_candidates_that_datasketchs_names() -> None:
    ours = BandIndex(PERMUTATIONS, 0.8)
    theirs = datasketch.MinHashLSH(num_perm=PERMUTATIONS, params=(ours.bands, ours.rows))
    shared = datasketch.MinHash(num_perm=PERMUTATIONS).permutations
    named = 0
    for number, values in enumerate(clustered(3000)):
        minhash = datasketch.MinHash(hashvalues=values, permutations=shared, scheme="affine32")
        hashes = ours.hashes(values)
        assert ours.candidates(hashes) == set(theirs.query(minhash))
        named += len(ours.candidates(hashes))
        ours.add(hashes)
        theirs.insert(number, minhash)
    assert named > 500


def test_nothing_is_lost_when_the_index_grows() -> None:
    index = BandIndex(PERMUTATIONS, 0.9)
    every = [index.hashes(values) for values in clustered(12_000, seed=1)]
    for hashes in every:
        index.add(hashes)
    assert all(number in index.candidates(hashes) for number, hashes in enumerate(every))


def test_a_crowded_band_does_not_slow_every_look_up() -> None:
    index = BandIndex(PERMUTATIONS, 0.8)
    for number in range(100):
        index.add([7] * (index.bands - 1) + [number << 20])
    assert index.candidates([7] * (index.bands - 1) + [0]) == set(range(bands_module.CROWDED))
    assert 99 in index.candidates([7] * (index.bands - 1) + [99 << 20])


@pytest.mark.parametrize("threshold", [0.05, 0.3, 0.5, 0.8, 0.9, 0.95, 1.0])
def test_bands_are_cut_so_that_pairs_at_the_threshold_become_candidates(threshold: float) -> None:
    bands, rows = best_cut(PERMUTATIONS, threshold)
    assert bands * rows <= PERMUTATIONS
    assert chance(threshold, bands, rows) >= 0.9
    steps = [chance(similarity / 20, bands, rows) for similarity in range(21)]
    assert all(lower <= higher for lower, higher in pairwise(steps))
