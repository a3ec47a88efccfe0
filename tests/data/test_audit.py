"""An audit finds every kind of defect that is planted, and finds none in a clean corpus."""

from __future__ import annotations

import gzip
import json
import re
from collections import Counter as Times
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stores import documents_of, small_pieces

from linnet.config import RequestError
from linnet.data.audit import audit, page
from linnet.data.audit import lines as reading
from linnet.data.audit.counting import Counter
from linnet.data.audit.hashing import Rolling, drawn, place_in
from linnet.data.audit.lines import WholeLine
from linnet.data.audit.rules import percent
from linnet.data.audit.tokens import byte_ids, lengths_report, unknown_ids
from linnet.data.audit.words import END, Spelling, WordGrams, words_of
from linnet.data.batches import Batch
from linnet.data.corpus import Corpus
from linnet.data.mixture import Mixture
from linnet.data.opening import open_corpus
from linnet.data.settings import DataSettings
from linnet.data.shards.store import Shard, Span, Split
from linnet.data.shards.tokenising import HeldOut
from linnet.data.training import TrainBatches
from linnet.text import Tokenizer

BATCH = 4


def audited(
    corpus: Corpus, tokenizer: Tokenizer, total_steps: int = 50, samples: int | None = 80
) -> dict[str, Any]:
    train = corpus.batches(BATCH, 3, total_steps)
    return audit(corpus, train, tokenizer, recipe="some", seed=3, total_steps=total_steps, samples=samples)


def broken(facts: dict[str, Any]) -> set[str]:
    assert facts["passed"] == all(rule["passed"] for rule in facts["rules"])
    return {rule["name"] for rule in facts["rules"] if not rule["passed"]}


def kept(text: str) -> str:
    """A text that is not held out by its hash."""
    while text.encode() in HeldOut(0.2):
        text += " So it is."
    return text


@pytest.fixture
def three(stories: list[str], text_file: Callable[..., Path], settings_for: Callable[..., DataSettings]):
    """A mixture of three sources in two domains, every document of them different."""

    def make(*extra: str, **given: Any) -> DataSettings:
        halves = (
            text_file(stories[:300] + list(map(kept, extra)), "a.txt"),
            text_file(stories[300:450], "b.txt"),
        )
        domains = {
            "tales": {"weight": 80, "sources": [
                {"path": str(halves[0]), "weight": 75, "label": "a"},
                {"path": str(halves[1]), "weight": 25, "label": "b"},
            ]},
            "rest": {"weight": 20, "sources": [{"path": str(text_file(stories[450:], "c.txt")), "label": "c"}]},
        }  # fmt: skip
        return settings_for(**{"domains": domains, "validation_fraction": 0.1, **given})

    return make


def test_a_clean_corpus_passes_and_two_audits_are_equal(three: Any, tokenizer: Tokenizer) -> None:
    strict = dict.fromkeys(("max_duplicate_documents", "max_contaminated_items", "max_mixture_error"), 0.0)
    corpus = open_corpus(three(audit=strict), tokenizer)
    facts = audited(corpus, tokenizer)
    assert broken(facts) == set()
    assert [(row["workers"], row["ranks"]) for row in facts["sequences"]["readers"]] == [
        (0, 1), (1, 1), (4, 1), (8, 1), (0, 2), (0, 3),
    ]  # fmt: skip
    assert {row["samples"] for row in facts["sequences"]["readers"]} == {80}
    assert json.dumps(facts) == json.dumps(audited(open_corpus(three(audit=strict), tokenizer), tokenizer))


def test_a_hundred_batches_are_read_unless_told(three: Any, tokenizer: Tokenizer) -> None:
    facts = audited(open_corpus(three(), tokenizer), tokenizer, samples=None)
    assert facts["sequences"]["steps"] == 100
    assert facts["sequences"]["samples"] == 100 * BATCH


# --- sequences -----------------------------------------------------------------------------------


def test_a_worker_that_repeats_a_batch_is_found(
    three: Any, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = TrainBatches.stream

    def wrong(self: TrainBatches, start: int, stop: int, workers: int = 0) -> Generator[Batch, None, None]:
        before = None
        for step, batch in enumerate(right(self, start, stop, workers)):
            yield before if before is not None and workers == 4 and step == 7 else batch
            before = batch

    monkeypatch.setattr(TrainBatches, "stream", wrong)
    facts = audited(open_corpus(three(), tokenizer), tokenizer)
    assert broken(facts) == {"max_duplicate_sequences", "different_samples"}
    told = {row["workers"]: (row["repeated"], row["different"]) for row in facts["sequences"]["readers"][:4]}
    assert told == {0: (0, 0), 1: (0, 0), 4: (BATCH, BATCH), 8: (0, 0)}


def test_ranks_that_overlap_are_found(
    three: Any, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = Corpus.batches
    monkeypatch.setattr(Corpus, "batches", lambda self, size, seed, total, part=(0, 1): right(
        self, size, seed, total, (0, 2) if part == (1, 2) else part))  # fmt: skip
    facts = audited(open_corpus(three(), tokenizer), tokenizer)
    assert broken(facts) == {"max_duplicate_sequences", "different_samples"}
    assert facts["sequences"]["readers"][4]["repeated"] == 40


def test_a_window_served_twice_is_told_from_text_that_repeats(
    settings_for: Any, text_file: Any, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = "one two three four five six seven eight nine ten. " * 400
    same = audited(open_corpus(settings_for(text_file([line, "other"]), validation_sources=str(
        text_file(["held out"], "v.txt"))), tokenizer), tokenizer)  # fmt: skip
    assert "max_duplicate_sequences" in broken(same)
    assert same["sequences"]["same_place"] == 0
    assert same["sequences"]["examples"][0]["windows"][0] != same["sequences"]["examples"][0]["windows"][1]


def test_the_same_window_twice_in_an_epoch_is_found(
    three: Any, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = Mixture.locate

    def wrong(self: Mixture, samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return right(self, np.where(samples == 9, 5, samples))

    monkeypatch.setattr(Mixture, "locate", wrong)
    facts = audited(open_corpus(three(), tokenizer), tokenizer)
    assert "max_duplicate_sequences" in broken(facts)
    assert facts["sequences"]["examples"][0]["samples"] == [5, 9]
    assert facts["sequences"]["same_place"] == 1


def test_a_second_epoch_is_no_repetition(
    settings_for: Any, text_file: Any, stories: Any, tokenizer: Any
) -> None:
    corpus = open_corpus(settings_for(text_file(stories[:60])), tokenizer)
    windows = corpus.batches(BATCH, 3, 50).sources[0].windows.count  # type: ignore[attr-defined]
    facts = audited(corpus, tokenizer, samples=3 * windows)
    assert facts["sequences"]["samples"] >= 3 * windows
    assert facts["sequences"]["share"] == 0


# --- documents -----------------------------------------------------------------------------------


def test_duplicate_documents_are_counted_within_and_across_sources(
    mixed: list[str], stories: list[str], settings_for: Any, tokenizer: Tokenizer
) -> None:
    sources = [{"path": path, "label": path[-7:]} for path in mixed]
    corpus = open_corpus(settings_for(sources=sources, audit={"max_duplicate_documents": 0.05}), tokenizer)
    (split,) = [component.split for component in corpus.components]
    assert split is not None
    truth = Times(documents_of(split, corpus.eos_id))
    facts = audited(corpus, tokenizer)
    found = facts["documents"]
    assert found["documents"] == sum(truth.values())
    assert found["distinct"] == len(truth)
    assert found["share"] == pytest.approx(1 - len(truth) / sum(truth.values()))
    assert "max_duplicate_documents" in broken(facts)
    doubled = sum((count - 1) * (len(document) + 1) for document, count in truth.items())
    assert found["token_share"] == pytest.approx(doubled / split.tokens)
    assert 30 < found["across"][0]["documents"] <= 50
    assert sum(row["duplicates"] for row in found["within"]) > 30
    assert found["most_repeated"][0]["copies"] == max(truth.values())
    assert found["most_repeated"][0]["excerpt"].startswith("Story")


def test_a_document_moved_into_validation_is_found(
    tmp_path: Path, stories: list[str], settings_for: Any, tokenizer: Tokenizer
) -> None:
    def written(name: str, texts: list[str]) -> str:
        ids = [token for text in texts for token in (*tokenizer.encode(text), tokenizer.eos_id)]
        np.array(ids, "<u2").tofile(tmp_path / name)
        return str(tmp_path / name)

    train = written("train.bin", stories[:200])
    clean = written("clean.bin", stories[200:229])
    held = written("validation.bin", [*stories[200:229], stories[17]])
    corpus = open_corpus(settings_for(train, validation_sources=clean), tokenizer)
    assert not broken(audited(corpus, tokenizer))
    corpus.validation = open_corpus(settings_for(train, validation_sources=held), tokenizer).validation
    facts = audited(corpus, tokenizer)
    assert broken(facts) == {"max_validation_overlap"}
    assert facts["validation"]["share"] == 1 / 30
    (example,) = facts["validation"]["examples"]
    assert example["document"] == 29
    assert stories[17].startswith(example["excerpt"][:20])


def test_documents_over_chunks_are_counted_alike(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tokenizer: Tokenizer
) -> None:
    """Whatever the size of a chunk, digests, lengths and cuts are those of whole documents."""
    draw, eos = np.random.default_rng(5), tokenizer.eos_id
    parts = [draw.integers(1, 600, size) for size in (0, 3, 70, 1, 200, 0, 33, 33, 31, 4)]
    parts[7] = parts[6]
    parts = [np.where(part == eos, 1, part) for part in parts]
    tokens = np.concatenate([token for part in parts for token in (part, [eos])])
    path = tmp_path / "some.bin"
    tokens.astype("<u2").tofile(path)
    split = Split((Shard(path, len(tokens), ""),), np.dtype("<u2"), (Span("x", len(tokens), len(parts)),))
    line = WholeLine(split, "x", "all", 0, 0, len(tokens))
    counter = Counter(tokenizer.vocab_size, eos, 32)
    whole = counter.count(line)
    assert whole.lengths.tolist() == [len(part) for part in parts]
    stops = np.cumsum([len(part) + 1 for part in parts])
    starts = stops - [len(part) + 1 for part in parts]
    assert whole.cut == sum(a // 32 != (b - 1) // 32 for a, b in zip(starts, stops, strict=True))
    assert whole.digests[6] == whole.digests[7]
    assert len(np.unique(whole.digests)) == len(parts) - 2  # the two empty ones are equal as well
    assert whole.histogram[eos] == len(parts)
    for size in (1, 7, 64):
        monkeypatch.setattr(reading, "CHUNK", size)
        again = counter.count(line)
        assert (again.digests == whole.digests).all()
        assert (again.lengths == whole.lengths).all()
        assert again.cut == whole.cut
        assert (again.histogram == whole.histogram).all()
    for number, part in enumerate(parts):
        assert whole.tokens_of(number, 50).tolist() == part[:50].tolist()


# --- evaluation sets -----------------------------------------------------------------------------


def contaminated(tmp_path: Path, items: list[str], ngram: int, **rules: float) -> dict[str, Any]:
    path = tmp_path / "items.jsonl.gz"
    with gzip.open(path, "wt") as file:
        file.writelines(json.dumps({"question": item}) + "\n" for item in items)
    sets = [{"path": str(path), "text_field": "question", "label": "quiz"}]
    return {"audit": {"evaluation_sets": sets, "ngram": ngram, **rules}}


def test_an_item_in_training_is_found_whatever_its_case_and_punctuation(
    tmp_path: Path, three: Any, tokenizer: Tokenizer
) -> None:
    item = "Which of the seven old ships, do you think, was lost at sea in the winter of 1911?"
    hidden = "A page.\n\nIt asks “which of the SEVEN old ships do\nyou think was lost at sea” and more."
    clean = "How many apples does a baker need for nine small cakes on a Sunday morning in May?"
    given = contaminated(tmp_path, [clean, item, "Too short."], 8, max_contaminated_items=0.1)
    facts = audited(open_corpus(three(hidden, **given), tokenizer), tokenizer)
    (row,) = facts["evaluation"]["sets"]
    assert (row["set"], row["items"], row["too_short"], row["contaminated"]) == ("quiz", 3, 1, 1)
    assert row["share"] == 1 / 3
    assert broken(facts) == {"max_contaminated_items"}
    (example,) = row["examples"]
    assert (example["item"], example["source"]) == (1, "a")
    assert example["begins"].startswith("A page. It asks")
    assert example["words"] == "which of the seven old ships do you"
    assert example["found"] == 13 - 8 + 1  # the shared run has 13 words
    assert facts["evaluation"]["contaminated_documents"] == {"a": 1, "b": 0, "c": 0}


def test_a_run_of_one_word_less_is_not_found(tmp_path: Path, three: Any, tokenizer: Tokenizer) -> None:
    given = contaminated(
        tmp_path, ["one two three four five six seven eight nine"], 8, max_contaminated_items=0
    )
    close = "zero one two three four five six seven and eight nine"
    assert not broken(audited(open_corpus(three(close, **given), tokenizer), tokenizer))
    closer = "zero one two three four five six seven eight and nine"
    assert broken(audited(open_corpus(three(closer, **given), tokenizer), tokenizer)) == {
        "max_contaminated_items"
    }


def test_runs_over_chunks_are_found_and_their_document_told_once(
    tmp_path: Path, three: Any, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    item = "seven grey wolves crossed a frozen lake before any hunter of that village woke up again"
    given = contaminated(tmp_path, [item], 8)
    settings = three(f"Long ago {item}.", **given)
    facts = audited(open_corpus(settings, tokenizer), tokenizer)
    for size in (17, 100):
        monkeypatch.setattr(reading, "CHUNK", size)
        assert audited(open_corpus(settings, tokenizer), tokenizer) == facts
    assert facts["evaluation"]["sets"][0]["examples"][0]["found"] == 16 - 8 + 1
    assert facts["evaluation"]["contaminated_documents"]["a"] == 1


def test_a_set_without_the_field_is_refused(tmp_path: Path, three: Any, tokenizer: Tokenizer) -> None:
    given = contaminated(tmp_path, ["what is this"], 8)
    given["audit"]["evaluation_sets"][0]["text_field"] = "prompt"
    with pytest.raises(RequestError, match="no field 'prompt'"):
        audited(open_corpus(three(**given), tokenizer), tokenizer)


def test_held_out_documents_that_come_close_are_told(
    three: Any, stories: list[str], tokenizer: Tokenizer
) -> None:
    """Each story stands once in training with another ending, so held-out ones are near it, not equal."""
    changed = [f"{text} And so they lived happily." for text in stories[:450]]
    facts = audited(open_corpus(three(*changed), tokenizer), tokenizer)
    near = {row["set"]: row for row in facts["validation"]["near"]}
    assert facts["validation"]["share"] == 0
    assert near["tales"]["share"] > 0.5
    assert near["rest"]["share"] < near["tales"]["share"]


TEXTS = [
    "It's 3.14, isn't it?",
    "Ein Straßenbau – ÉTÉ",
    "snake_case x=1",
    "",
    "日本語 текст Ελλάδα",
    "a" * 300,
]


def test_runs_of_words_are_those_of_a_plain_program() -> None:
    for n in (1, 2, 3):
        found = WordGrams(n)(END.join(TEXTS))
        plain: list[tuple[int, tuple[str, ...]]] = []
        for number, text in enumerate(TEXTS):
            words = re.findall(r"[^\W_]+", text.lower())
            assert words == words_of(text)
            plain += [(number, tuple(words[i : i + n])) for i in range(len(words) - n + 1)]
        assert found.texts.tolist() == [number for number, _ in plain]
        by_hash = dict(zip(found.hashes.tolist(), (run for _, run in plain), strict=True))
        assert len(by_hash) == len({run for _, run in plain})
        again = WordGrams(n)(" … ".join(by_hash[h] and " ".join(by_hash[h]) for h in by_hash).upper())
        assert set(by_hash) <= set(again.hashes.tolist()) | _of_sharp_s(by_hash)


def _of_sharp_s(runs: dict[int, tuple[str, ...]]) -> set[int]:
    """Upper case turns ß into two letters and Greek loses nothing but its final sigma."""
    return {h for h, run in runs.items() if "ß" in "".join(run)}


def test_tokens_are_spelled_as_the_tokenizer_spells_them(tokenizer: Tokenizer, prose: list[str]) -> None:
    text = prose[3][:2000] + " “quoted” naïve 日本\x00語"
    ids = np.array([*tokenizer.encode(text), tokenizer.eos_id, *tokenizer.encode("More")])
    assert Spelling(tokenizer).text(ids).decode() == text.replace("\x00", " ") + END + "More"


def test_a_hash_of_a_run_does_not_depend_on_its_place() -> None:
    values = drawn(np.array([5, 6, 7, 5, 6, 7, 6, 5, 7]))
    rolling = Rolling()
    first, second, other = rolling.runs(values, np.array([0, 3, 6]), np.array([3, 6, 9])).tolist()
    assert first == second != other
    parts = rolling.runs(values, np.array([0, 2]), np.array([2, 3])).tolist()
    assert Rolling.joined(parts[0], 2, parts[1]) == first


def test_places_among_sorted_values() -> None:
    assert place_in(np.array([1, 4, 9, 10]), np.array([1, 9])).tolist() == [0, -1, 1, -1]
    assert place_in(np.array([1]), np.array([], np.uint64)).tolist() == [-1]


# --- tokens, lengths, mixture, packing -----------------------------------------------------------


def test_tokens_are_counted_as_they_lie(three: Any, tokenizer: Tokenizer, tmp_path: Path) -> None:
    corpus = open_corpus(three(audit={"max_unknown_tokens": 0.0}), tokenizer)
    facts = audited(corpus, tokenizer)
    truth: Times[int] = Times()
    for component in corpus.components:
        assert component.split is not None
        truth.update(component.split.read(0, component.split.tokens).tolist())
    assert facts["tokens"]["total"] == sum(truth.values())
    assert [(row["id"], row["count"]) for row in facts["tokens"]["commonest"][:5]] == truth.most_common(5)
    assert facts["tokens"]["never_used"] == tokenizer.vocab_size - len(truth)
    assert "max_unknown_tokens" not in broken(facts)
    for row, component in zip(facts["sources"], corpus.components, strict=True):
        assert component.split is not None
        texts = [tokenizer.decode(ids) for ids in documents_of(component.split, corpus.eos_id)]
        assert row["text_bytes"] == sum(len(text.encode()) for text in texts)
        lengths = [len(ids) for ids in documents_of(component.split, corpus.eos_id)]
        assert row["lengths"]["longest"] == max(lengths)
        assert sum(count for *_, count in row["lengths"]["histogram"]) == row["documents"] == len(lengths)
        assert row["left_out"]["rows"] > 0


def test_pieces_of_characters_break_the_rule_of_unknown_tokens(three: Any, tokenizer: Tokenizer) -> None:
    strange = "".join(chr(0x4E00 + 7 * i) for i in range(800))
    facts = audited(open_corpus(three(strange, audit={"max_unknown_tokens": 0.01}), tokenizer), tokenizer)
    assert broken(facts) == {"max_unknown_tokens"}
    assert facts["tokens"]["byte"] >= 2400
    worst = max(facts["sources"], key=lambda row: row["unknown_or_byte_share"])
    assert worst["source"] == "a"


def test_byte_and_unknown_tokens_are_told_from_others(tokenizer: Tokenizer) -> None:
    byte = byte_ids(tokenizer)
    whole = [tokenizer.encode(text)[0] for text in ("a", " the", "\n")]
    parts = tokenizer.encode("語")
    assert byte[parts].all()
    assert not byte[whole].any()
    assert not byte[tokenizer.eos_id]
    assert not unknown_ids(tokenizer).any()


def test_lost_characters_are_counted(three: Any, tokenizer: Tokenizer) -> None:
    facts = audited(open_corpus(three("Caf\ufffd and na\ufffdve."), tokenizer), tokenizer)
    assert [row["replacement_characters"] for row in facts["sources"]] == [2, 0, 0]


def test_bins_of_lengths_hold_their_documents() -> None:
    lengths = np.array([0, 1, 2, 3, 4, 5, 8, 11, 12, 100, 100_000], np.int32)
    rows = lengths_report(lengths, 50)["histogram"]
    for low, high, count in rows:
        here = (lengths >= low) & (lengths < high) if low > 1 else lengths < high
        assert count == here.sum(), (low, high)
    assert sum(count for *_, count in rows) == len(lengths)
    assert lengths_report(lengths, 50)["longer_than_sequence_share"] == 2 / 11


def test_a_mixture_that_is_wrong_is_found(
    three: Any, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = Mixture.locate

    def wrong(self: Mixture, samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        sources, indices = right(self, samples)
        return np.where((samples % 10 == 3) & (sources == 0), 2, sources), indices

    clean = audited(open_corpus(three(), tokenizer), tokenizer)
    assert [(row["asked"], row["served"]) for row in clean["mixture"]["sources"]] == [
        (pytest.approx(x), pytest.approx(x, abs=0.003)) for x in (0.6, 0.2, 0.2)
    ]
    assert clean["mixture"]["largest_error"] == 0
    assert clean["mixture"]["blocks"] >= 3
    monkeypatch.setattr(Mixture, "locate", wrong)
    facts = audited(open_corpus(three(), tokenizer), tokenizer)
    assert "max_mixture_error" in broken(facts)
    assert facts["mixture"]["largest_error"] > 0.05


def test_a_phase_that_never_begins_is_found(
    three: Any, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = three(schedule=[{"start": 0.5, "weights": {"tales": 50, "rest": 50}}])
    assert not broken(audited(open_corpus(settings, tokenizer), tokenizer, total_steps=200, samples=600))
    right = Mixture.__init__
    monkeypatch.setattr(Mixture, "__init__", lambda self, phases, *rest: right(self, phases[:1], *rest))
    facts = audited(open_corpus(settings, tokenizer), tokenizer, total_steps=200, samples=600)
    assert broken(facts) == {"max_mixture_error"}


def test_passes_until_the_end_are_planned(three: Any, tokenizer: Tokenizer) -> None:
    corpus = open_corpus(three(), tokenizer)
    facts = audited(corpus, tokenizer, total_steps=300)
    served = corpus.batches(BATCH, 3, 300).passes(300)
    for row in facts["mixture"]["sources"]:
        assert row["passes"] == pytest.approx(served[row["source"]], rel=0.02)
        assert (row["at_the_end"] == "repeats") == (row["passes"] > 1)


@pytest.mark.parametrize(
    ("rule", "said"), [("stop", "the run stops"), ("reweight", "the others take its place")]
)
def test_a_source_that_runs_dry_is_foretold(three: Any, tokenizer: Tokenizer, rule: str, said: str) -> None:
    facts = audited(
        open_corpus(three(when_exhausted=rule), tokenizer), tokenizer, total_steps=5000, samples=4000
    )
    assert not broken(facts)
    assert all(said in row["at_the_end"] for row in facts["mixture"]["sources"])
    assert facts["sequences"]["samples"] < 4000
    assert len({row["samples"] for row in facts["sequences"]["readers"]}) == 1


def test_packing_is_measured(
    settings_for: Any, text_file: Any, tokenizer: Tokenizer, stories: list[str]
) -> None:
    corpus = open_corpus(settings_for(text_file(stories)), tokenizer)
    (component,) = corpus.components
    assert component.split is not None
    windows = -(-component.split.tokens // 32)
    facts = audited(corpus, tokenizer, samples=windows - windows % BATCH)
    packing = facts["packing"]
    assert 0 <= packing["padding_share"] <= 1 / windows
    borders = np.cumsum([len(d) + 1 for d in documents_of(component.split, corpus.eos_id)])
    starts = np.concatenate(([0], borders[:-1]))
    assert packing["cut_share"] == np.mean(starts // 32 != (borders - 1) // 32)
    parts = (
        component.split.documents + windows
    ) / windows  # every border but those between documents adds one
    assert packing["documents_per_sequence"] == pytest.approx(parts, rel=0.05)


def test_of_a_stream_its_beginning_is_audited(
    settings_for: Any, text_file: Any, stories: list[str], tokenizer: Tokenizer, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    small_pieces(monkeypatch)
    source = {"path": str(text_file([*stories, stories[0], stories[0]])), "streaming": True}
    settings = settings_for(sources=[source], shard_tokens=1024, validation_documents=8)
    corpus = open_corpus(settings, tokenizer)
    try:
        facts = audited(corpus, tokenizer, samples=60)
        (row,) = facts["sources"]
        assert not row["complete"]
        assert row["tokens"] == 2 * 1024
        assert facts["mixture"]["sources"][0]["passes"] is None
        assert not broken(facts)
        whole = audited(corpus, tokenizer, samples=2000)
        assert whole["sources"][0]["complete"]
        assert whole["documents"]["most_repeated"][0]["copies"] == 3
        assert whole["mixture"]["sources"][0]["passes"] is not None
    finally:
        corpus.close()


# --- the page ------------------------------------------------------------------------------------


def test_the_page_stands_alone_and_hides_no_markup(tmp_path: Path, three: Any, tokenizer: Tokenizer) -> None:
    item = "<script>alert(1)</script> is what seven wise owls wrote on a wall in old Athens one night"
    given = contaminated(tmp_path, [item], 8, max_contaminated_items=0.0)
    facts = audited(open_corpus(three(f"{item}.", f"{item}.", **given), tokenizer), tokenizer)
    text = page(facts)
    assert "<script" not in text
    assert not re.search(r'(?:src|href)="(?!#)', text)
    assert "url(http" not in text
    assert "1 rule is broken" in text
    assert text.count("<svg") == 6
    assert page(facts) == text
    ids = re.findall(r'id="([^"]+)"', text)
    assert set(re.findall(r'href="#([^"]+)"', text)) <= set(ids)


def test_shares_that_are_not_nothing_do_not_read_as_nothing() -> None:
    assert [percent(s) for s in (None, 0.0, 1e-7, 0.001234, 0.5)] == [
        "not looked for", "0%", "1e-05%", "0.123%", "50.0%",
    ]  # fmt: skip
