"""What is served: nothing twice, everything once an epoch, in exact proportions, and nothing that is held out."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import smol
from smol import BATCH, FRACTION, SHARES, TITLES, Site, texts

pytest.importorskip("datasets")

STEPS = 200
BLOCK = 400  # samples: the fewest from 256 on that 43.5, 43.5, 10 and 3 percent of are whole


# --- what is done in processes that know the hub -------------------------------------------------


def read_by_many(given: list[str], ways: list[list[int]]) -> dict[str, Any]:
    """All batches in each of the ways (workers, ranks), all ranks step by step, beside one that reads alone."""
    with smol.opened(given) as (recipe, _, corpus):

        def batches(part: tuple[int, int] = (0, 1)) -> Any:
            return corpus.batches(recipe.pretrain.train_batch_size, recipe.seed, STEPS, part)

        alone, every = batches(), np.arange(STEPS * BATCH)
        expected = [smol.digest(row) for row in alone.tokens(every)]
        places = [alone.place(sample) for sample in every.tolist()]
        return {
            "sources": [place.source for place in places],
            "places": len({(place.source, place.epoch, place.shard, place.window) for place in places}),
            "contents": len(set(expected)),
            "same": [_together(batches, workers, ranks) == expected for workers, ranks in ways],
        }


def _together(batches: Any, workers: int, ranks: int) -> list[str]:
    readers = [batches((rank, ranks)) for rank in range(ranks)]
    streams = [reader.stream(0, STEPS, workers) for reader in readers]
    found: dict[int, str] = {}
    for step in range(STEPS):
        for reader, stream in zip(readers, streams, strict=True):
            rows, read = reader.samples(step).tolist(), smol.digests(next(stream))
            assert not found.keys() & set(rows)
            found.update(zip(rows, read, strict=True))
    return [found[sample] for sample in range(STEPS * BATCH)]


def epochs(given: list[str]) -> dict[str, Any]:
    """The documents of two epochs of each source, and those that are held out of each domain."""
    with smol.opened(given) as (recipe, tokenizer, corpus):
        sources = corpus.batches(BATCH, recipe.seed, 10**6).sources
        return {
            "served": {
                source.title: [_documents(source, epoch, tokenizer) for epoch in (0, 1)] for source in sources
            },
            "orders": {source.title: _order(source, 0) != _order(source, 1) for source in sources},
            "held out": _held_out(corpus, tokenizer),
        }


def held_out(given: list[str]) -> dict[str, list[str]]:
    """The held-out documents of each domain, in the order in which they are evaluated."""
    with smol.opened(given) as (_, tokenizer, corpus):
        return _held_out(corpus, tokenizer)


def _held_out(corpus: Any, tokenizer: Any) -> dict[str, list[str]]:
    splits = {name: windows.split for name, windows in corpus.validation.items()}
    return {name: _split(split.read(0, split.tokens), tokenizer) for name, split in splits.items()}


def _size(source: Any) -> int:
    """The sequences of an epoch."""
    return next(size for asked in range(50, 10**6, 50) if (size := source.limit(asked)) is not None)


def _order(source: Any, epoch: int) -> list[int]:
    count = _size(source)
    return [source.place(epoch * count + index).window for index in range(count)]


def _documents(source: Any, epoch: int, tokenizer: Any) -> list[str]:
    """The documents of an epoch, put together from its windows."""
    count = _size(source)
    indices = np.arange(epoch * count, (epoch + 1) * count)
    places = [source.place(index) for index in indices.tolist()]
    assert {place.epoch for place in places} == {epoch}
    rows = dict(
        zip(((place.shard or 0, place.window) for place in places), source.tokens(indices), strict=True)
    )
    assert len(rows) == count, "a window was served twice"
    ordered = [rows[place] for place in sorted(rows)]
    assert [row[0] for row in ordered[1:]] == [row[-1] for row in ordered[:-1]], (
        "windows do not follow each other"
    )
    return _split(np.concatenate([row[1:] for row in ordered]), tokenizer)


def _split(tokens: np.ndarray, tokenizer: Any) -> list[str]:
    parts = np.split(tokens, np.flatnonzero(tokens == tokenizer.eos_id) + 1)
    assert not len(parts.pop()), "the last document has no end"
    return [tokenizer.decode(part[:-1].tolist()) for part in parts]


def to_the_end(given: list[str], steps: int) -> dict[str, Any]:
    """Where every sample of a run lies, how many sequences each source has, and what a person is told."""
    with smol.opened(given) as (recipe, _, corpus):
        batches = corpus.batches(BATCH, recipe.seed, steps)
        done = sum(1 for _ in batches.stream(0, steps, 2))
        places = [batches.place(sample) for sample in range(done * BATCH)]
        return {
            "places": [(place.source, place.epoch, place.shard, place.window) for place in places],
            "end": batches.mixture.end,
            "sizes": {source.title: _size(source) for source in batches.sources[2:]},
            "news": batches.news(0, done),
        }


def memory(given: list[str], steps: int) -> list[int]:
    """The resident bytes of a reader after each tenth of its steps."""
    with smol.opened(given) as (recipe, _, corpus):
        batches = corpus.batches(recipe.pretrain.train_batch_size, recipe.seed, steps)
        seen = []
        for step, _ in enumerate(batches.stream(0, steps, 2), 1):
            if step % (steps // 10) == 0:
                seen.append(int(Path("/proc/self/statm").read_text().split()[1]) * 4096)
        return seen


# --- the tests -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with smol.site(tmp_path_factory.mktemp("proportions")) as made:
        yield made


@pytest.fixture(scope="module")
def cache(site: Site) -> Path:
    return site.folder / "streams"


WAYS = [[workers, ranks] for workers in (1, 4, 8) for ranks in (1, 2, 3)]


@pytest.mark.parametrize("streaming", [True, False], ids=["streamed", "whole"])
def test_nothing_is_served_twice_and_every_block_is_exact(site: Site, cache: Path, streaming: bool) -> None:
    given = site.overrides(cache, f"pretrain.data.domains={smol.domains(streaming=streaming)}")
    told = site.start("test_proportions.read_by_many", given, WAYS if streaming else WAYS[-1:]).answer()
    assert all(told["same"])
    assert told["places"] == told["contents"] == STEPS * BATCH
    for begin in range(0, STEPS * BATCH, BLOCK):
        counts = Counter(told["sources"][begin : begin + BLOCK])
        assert [counts[title] for title in TITLES] == [round(share * BLOCK) for share in SHARES]


def test_phases_are_exact_too(site: Site, cache: Path) -> None:
    phases = '[{"start": 0.5, "weights": {"web": 50, "code": 30, "math": 20}}]'
    given = site.overrides(cache, f"pretrain.data.schedule={phases}")
    told = site.start("test_proportions.read_by_many", given, [[4, 3]]).answer()
    assert told["same"] == [True]
    half = STEPS * BATCH // 2
    for begin, end, shares in ((0, half, SHARES), (half, half + BLOCK, (0.25, 0.25, 0.3, 0.2))):
        counts = Counter(told["sources"][begin:end])
        assert [counts[title] for title in TITLES] == [round(share * (end - begin)) for share in shares]


def is_held_out(text: str) -> bool:
    digest = hashlib.blake2b(text.encode(), digest_size=8, key=b"linnet validation").digest()
    return int.from_bytes(digest, "big") < FRACTION * 2**64


@pytest.fixture(scope="module")
def read(site: Site, cache: Path) -> dict[str, Any]:
    return site.start("test_proportions.epochs", site.overrides(cache)).answer()


def test_every_training_document_is_served_once_an_epoch_and_none_that_is_held_out(
    site: Site, cache: Path, read: dict[str, Any]
) -> None:
    given = site.overrides(cache, f"pretrain.data.domains={smol.domains(streaming=False)}", "seed=8")
    whole = site.start("test_proportions.epochs", given).answer()
    for told in (read, whole):
        for title, dataset in zip(TITLES, smol.DOCUMENTS, strict=True):
            expected = sorted(text for text in texts(dataset) if not is_held_out(text))
            first, second = told["served"][title]
            assert sorted(first) == sorted(second) == expected
            assert told["orders"][title], "the second epoch has the first one's order"
        for domain, titles in smol.DOMAINS.items():
            mine = {text for title in titles for text in texts(smol.NAMES[title])}
            assert set(told["held out"][domain]) <= {text for text in mine if is_held_out(text)}
            assert len(told["held out"][domain]) == len(set(told["held out"][domain])) > 0
    assert sum(map(len, whole["held out"].values())) == sum(
        is_held_out(text) for dataset in smol.DOCUMENTS for text in texts(dataset)
    )


def test_another_order_of_sources_files_and_documents_holds_the_same_out(
    site: Site, read: dict[str, Any]
) -> None:
    turned = {name: smol.turned(files) for name, files in smol.datasets().items()}
    with site.hub.moved("3" * 40, turned):
        domains = smol.domains(reverse=True)
        given = site.overrides(site.folder / "turned", f"pretrain.data.domains={domains}", "seed=2")
        other = site.start("test_proportions.epochs", given).answer()
    for title in TITLES:
        assert sorted(other["served"][title][0]) == sorted(read["served"][title][0])
        assert other["served"][title][0] != read["served"][title][0]
    trained = {text for found in other["served"].values() for text in found[0]}
    for told in (read, other):
        assert not trained & {text for found in told["held out"].values() for text in found}


def test_what_is_held_out_is_the_same_for_every_seed(site: Site, read: dict[str, Any]) -> None:
    given = site.overrides(site.folder / "seed", "seed=4", preprocessing_processes=2)
    assert site.start("test_proportions.held_out", given).answer() == read["held out"]


TWO = smol.domains(web=0, code=50, math=50)


def test_a_small_stream_is_repeated_in_another_order(site: Site, cache: Path) -> None:
    given = site.overrides(cache, f"pretrain.data.domains={TWO}")
    told = site.start("test_proportions.to_the_end", given, 240).answer()
    size = told["sizes"][smol.MATHS]
    found = [tuple(place[1:]) for place in told["places"] if place[0] == smol.MATHS]
    assert len(found) == 120 * BATCH > 2 * size
    assert len(set(found)) == len(found)
    first, second = ([place[1:] for place in found if place[0] == epoch] for epoch in (0, 1))
    assert sorted(first) == sorted(second)
    assert first != second
    assert f"{smol.MATHS} is used up and begins pass {len(found) // size + 1}" in told["news"]


@pytest.mark.parametrize("streaming", [True, False], ids=["streamed", "whole"])
def test_a_run_stops_when_a_source_is_used_up_or_goes_on_without_it(
    site: Site, cache: Path, streaming: bool
) -> None:
    two = f"pretrain.data.domains={smol.domains(web=0, code=50, math=50, streaming=streaming)}"
    ways = [site.overrides(cache, two, when_exhausted=way) for way in ("stop", "reweight")]
    stop, reweight = (site.start("test_proportions.to_the_end", given, 400) for given in ways)
    told = stop.answer()
    size = told["sizes"][smol.MATHS]
    counts = Counter(place[0] for place in told["places"])
    assert size - BATCH < counts[smol.MATHS] <= size, "it stops in the step that the source cannot fill"
    assert abs(told["end"] - 2 * size) <= 2

    told = reweight.answer()
    counts = Counter(place[0] for place in told["places"])
    assert size - 128 < counts[smol.MATHS] <= size, "a block that it cannot fill is the others'"
    assert told["sizes"][smol.CODE] - 256 - BATCH < counts[smol.CODE] <= told["sizes"][smol.CODE]
    last = max(at for at, place in enumerate(told["places"]) if place[0] == smol.MATHS)
    assert any(f"{smol.CODE} 100%" in line for line in told["news"]), told["news"]
    assert {place[0] for place in told["places"][last + 1 :]} == {smol.CODE}
    assert len({tuple(place) for place in told["places"]}) == len(told["places"])


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the system does not say")
def test_memory_stays_flat_over_many_shards(site: Site) -> None:
    long = {"sequence_length": 512, "shard_tokens": 1 << 14, "cache_gb": 4 * 3 * (1 << 14) * 2.1 / 1e9}
    more = ("pretrain.train_batch_size=16", "model.max_position_embeddings=512")
    given = site.overrides(site.folder / "memory", *more, **long)
    seen = site.start("test_proportions.memory", given, 250).answer()
    assert max(seen[2:]) < 1.05 * seen[1], seen
