"""Sample i is the same whatever happens: `smol-160m`'s streams from a hub, cold, warm, killed, moved, cut off."""

from __future__ import annotations

import json
import re
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import smol
from program import wait_for
from smol import BATCH, Site

import tiny
from linnet.data.shards.stream_folder import size_of
from linnet.train import CheckpointFolder

pytest.importorskip("datasets")

STEPS = 24
ALIEN = "00009999"


# --- what is done in processes that know the hub -------------------------------------------------


def served(given: list[str], start: int, stop: int, rank: int, ranks: int, workers: int, state: dict) -> dict:
    """What a rank reads of steps: {"samples": sha256 by number, "state": of the step after them}."""
    with smol.opened(given) as (recipe, _, corpus):
        batches = corpus.batches(recipe.pretrain.train_batch_size, recipe.seed, 1000, (rank, ranks))
        if state:
            batches.restore(state)
        found = {}
        for step, batch in enumerate(batches.stream(start, stop, workers), start):
            found.update(zip(batches.samples(step).tolist(), smol.digests(batch), strict=True))
        return {"samples": found, "state": batches.state(stop)}


def served_through(given: list[str], steps: int, harms: dict[str, str]) -> dict:
    """What is read while a step's harm is done: a shard's file removed, the whole folder, or the maker killed.

    Gives also the most bytes of shards that were ever in the cache, and the threads' number at the end.
    """
    with smol.opened(given) as (recipe, _, corpus):
        root, most, done = Path(recipe.pretrain.data.cache_dir) / "streams", [0], threading.Event()

        def watch() -> None:
            while not done.is_set():
                most[0] = max(
                    most[0],
                    sum(map(size_of, [*root.glob("*/*.bin"), *filter(_begun, root.glob("*/*.part"))])),
                )
                time.sleep(0.001)

        watcher = threading.Thread(target=watch)
        batches = corpus.batches(recipe.pretrain.train_batch_size, recipe.seed, 1000)
        streams = [component.stream for component in corpus.components]
        found = {}
        try:
            for step in range(steps):
                if step == 1:  # what lay in the cache before is dropped when something is put into it
                    watcher.start()
                _harm(harms.get(str(step), ""), streams, root)
                found.update(zip(batches.samples(step).tolist(), smol.digests(batches[step]), strict=True))
        finally:
            done.set()
            watcher.join()
        return {"samples": found, "most": most[0]}


def served_one(given: list[str], shard: int, meeting: str, readers: int) -> str:
    """The sha256 of a shard of the first source, once as many readers have theirs."""
    with smol.opened(given) as (_, _, corpus):
        facts, _ = corpus.components[0].stream.shard(shard)
        (Path(meeting) / f"{shard}.met").touch()
        wait_for(lambda: len(list(Path(meeting).glob("*.met"))) == readers, 40)
        return facts.sha256


def _begun(path: Path) -> bool:
    """Whether it is a shard that is being written."""
    return re.fullmatch(r"\d+\.\d+\.part", path.name) is not None


def _harm(kind: str, streams: list[Any], root: Path) -> None:
    if kind == "shards":
        for path in root.glob("*/*.bin"):
            path.unlink(missing_ok=True)
    elif kind == "folder":
        while root.exists():  # its makers may be writing into it
            shutil.rmtree(root, ignore_errors=True)
    elif kind == "makers":
        for stream in streams:
            if stream.maker._process is not None and stream.folder.path.exists():
                stream.maker._process.kill()
                stream.maker._process.wait()
                (stream.folder.path / f"{ALIEN}.{stream.maker._process.pid}.part").write_bytes(
                    b"half a shard"
                )


# --- the tests -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with smol.site(tmp_path_factory.mktemp("web-scale")) as made:
        yield made


@pytest.fixture
def at(site: Site) -> Iterator[Site]:
    yield site
    site.hub.recover()


@pytest.fixture(scope="module")
def whole(site: Site) -> Path:
    """A run that nothing happened to, from an empty cache; its cache lies beside it."""
    site.train(site.folder / "whole", site.folder / "whole-cache").ended()
    return site.folder / "whole"


@pytest.fixture(scope="module")
def samples(site: Site, whole: Path) -> dict[str, str]:
    """The sha256 of the first samples, as `linnet data peek` tells it from the cache of that run."""
    given = site.overrides(site.folder / "whole-cache")
    told = site.program.linnet("data", "peek", "smol-160m", "--json", "--range", "0:280", *given).lines()
    return {str(facts["sample"]): facts["sha256"] for facts in told}


def prepared(cache: Path, whole: Path) -> Path:
    """A cache that has the held-out documents and no shard of a stream."""
    shutil.copytree(whole.with_name("whole-cache") / "stores", cache / "stores")
    return cache


def same(found: dict[str, str], samples: dict[str, str], count: int) -> None:
    assert len(found) == count
    assert found == {number: samples[number] for number in found}


def event(run: Path, kind: str, step: int = 0) -> dict:
    """The first event of a kind at a step or later."""
    told = map(json.loads, (run / "events.jsonl").read_text().splitlines())
    return next(one for one in told if one["event"] == kind and one["step"] >= step)


def reached(run: Path, step: int) -> bool:
    told = words_of(run)
    return any(f'"step": {number}, "train/loss"' in told for number in range(step, STEPS + 1))


def words_of(run: Path) -> str:
    """What a run has told so far."""
    path = run / "events.jsonl"
    return path.read_text() if path.exists() else ""


def test_the_first_batch_comes_soon_from_an_empty_cache(whole: Path) -> None:
    begun, first, second = event(whole, "run_started"), event(whole, "step", 1), event(whole, "step", 2)
    assert first["time"] - begun["time"] < 20, "a few seconds on two idle cores"
    assert second["time"] - first["time"] < 2


def test_losses_are_told_by_domain(whole: Path) -> None:
    told = event(whole, "evaluated", STEPS)
    shares = {"web": 0.87, "code": 0.1, "math": 0.03}
    losses = {domain: told[f"val/{domain}/loss"] for domain in shares}
    assert len(set(losses.values())) == 3
    assert told["val/loss"] == pytest.approx(sum(shares[name] * loss for name, loss in losses.items()))
    assert told["val/web/ppl"] == pytest.approx(2.718281828 ** losses["web"], rel=1e-6)


@pytest.mark.parametrize(
    "data", [{}, {"num_workers": 4, "preprocessing_processes": 3}], ids=["alone", "helped"]
)
def test_an_empty_cache_gives_the_same_samples(
    at: Site, tmp_path: Path, samples: dict[str, str], data: dict[str, int]
) -> None:
    given = at.overrides(tmp_path / "cache", **data)
    told = at.start("test_web_scale.served", given, 0, STEPS, 0, 1, data.get("num_workers", 0), {}).answer()
    same(told["samples"], samples, STEPS * BATCH)


def read_on(cache: Path, state: dict) -> None:
    """Nothing before the places that a state names was made again, and the longest streams are not at their first."""
    streams = [lock.parent for lock in cache.glob("streams/*/maker.lock")]
    made = [min(int(path.stem) for path in stream.glob("*[0-9].json")) for stream in streams]
    assert sorted(made) == sorted(place["shard"] for place in state.values())
    assert min(state[title]["shard"] for title in smol.TITLES[:2]) > 0


def test_killed_and_moved_to_another_machine_a_run_gives_the_same_losses(
    at: Site, tmp_path: Path, whole: Path
) -> None:
    """The cache is lost, and meanwhile the datasets' authors have changed every document."""
    killed = tmp_path / "run"
    more = {"num_workers": 2, "preprocessing_processes": 2}
    process = at.train(killed, prepared(tmp_path / "cache", whole), **more)
    process.until(lambda: reached(killed, 13))
    process.signal(signal.SIGKILL)
    process.ended(-signal.SIGKILL)
    latest = CheckpointFolder(tiny.checkpoints(killed)).latest()
    assert latest is not None
    saved = latest.trainer_state()["data"]
    changed = smol.datasets()
    changed[smol.MATHS] = {name: smol.parquet(["nothing as it was"] * 99) for name in changed[smol.MATHS]}
    changed[smol.FINEWEB].pop(smol.file_at(1))
    with at.hub.moved("2" * 40, changed):
        at.train(killed, tmp_path / "empty").ended()
    tiny.assert_same_run(whole, killed, STEPS)
    assert event(killed, "resumed")["step"] >= 12
    read_on(tmp_path / "empty", saved)


def test_ranks_may_change_from_1_to_2_to_3_to_1_with_empty_caches(
    at: Site, tmp_path: Path, whole: Path, samples: dict[str, str]
) -> None:
    state: dict = {}
    for ranks, start, stop in ((1, 0, 10), (2, 10, 20), (3, 20, 27), (1, 27, 35)):
        given = at.overrides(prepared(tmp_path / f"cache-{start}", whole))
        parts = [
            at.start("test_web_scale.served", given, start, stop, rank, ranks, rank, state)
            for rank in range(ranks)
        ]
        told = [part.answer() for part in parts]
        found = {number: sha for one in told for number, sha in one["samples"].items()}
        assert sorted(map(int, found)) == list(range(start * BATCH, stop * BATCH))
        same(found, samples, (stop - start) * BATCH)
        places = [[(of["shard"], of["start"]) for of in one["state"].values()] for one in told]
        assert all(place == places[0] for place in places)
        if start:
            read_on(tmp_path / f"cache-{start}", state)
        state = told[0]["state"]


def test_a_server_that_fails_and_drops_connections_changes_nothing(
    at: Site, tmp_path: Path, whole: Path, samples: dict[str, str]
) -> None:
    for match in ("sample/10BT/", ".jsonl.zst", ".json.gz", "data/train"):
        at.hub.fail(times=4, status=500, match=match)
        at.hub.drop(times=4, after_bytes=700, match=match)
    given = at.overrides(prepared(tmp_path / "cache", whole))
    same(
        at.start("test_web_scale.served", given, 0, STEPS, 0, 1, 2, {}).answer()["samples"],
        samples,
        STEPS * BATCH,
    )
    assert not any(fault.times for fault in at.hub._faults), "the faults did not all happen"


def test_what_is_removed_or_killed_while_it_is_read_is_made_again(
    at: Site, tmp_path: Path, whole: Path, samples: dict[str, str]
) -> None:
    harms = {2: "makers", 4: "shards", 6: "makers", 8: "folder", 10: "makers", 12: "folder", 13: "makers",
             15: "makers", 17: "shards"}  # fmt: skip
    given = at.overrides(prepared(tmp_path / "cache", whole))
    told = at.start("test_web_scale.served_through", given, STEPS, harms).answer()
    same(told["samples"], samples, STEPS * BATCH)


@pytest.mark.slow
def test_what_a_killed_maker_left_half_written_is_removed(at: Site, tmp_path: Path, whole: Path) -> None:
    given = at.overrides(prepared(tmp_path / "cache", whole), cache_gb=3 * 4 * smol.SHARD * 2 / 1e9)
    at.start("test_web_scale.served_through", given, STEPS, {2: "makers"}).answer()
    left = [path.parent for path in (tmp_path / "cache").glob(f"streams/*/{ALIEN}.*.part")]
    assert len(left) <= 2, "the web's makers went on"


def test_readers_that_wait_for_different_shards_are_all_served_from_room_for_two(
    at: Site, tmp_path: Path, whole: Path
) -> None:
    """None of them goes on before all have their shard, as ranks do at the end of a step."""
    given = at.overrides(prepared(tmp_path / "cache", whole), cache_gb=2 * 4 * smol.SHARD * 2 / 1e9)
    readers = [at.start("test_web_scale.served_one", given, shard, tmp_path, 3) for shard in (0, 4, 8)]
    assert len({reader.answer() for reader in readers}) == 3


def test_the_disk_limit_holds_whatever_lay_in_the_cache(
    at: Site, tmp_path: Path, whole: Path, samples: dict[str, str]
) -> None:
    limit = 3 * 4 * smol.SHARD * 2 + 100  # three shards of each source, 16 bits a token
    cache = prepared(tmp_path / "cache", whole)
    at.start("test_web_scale.served", at.overrides(cache, "seed=3"), 0, 9, 0, 1, 0, {}).answer()
    assert sum(path.stat().st_size for path in cache.glob("streams/*/*.bin")) > limit / 2
    given = at.overrides(cache, cache_gb=limit / 1e9)
    told = at.start("test_web_scale.served_through", given, STEPS, {}).answer()
    same(told["samples"], samples, STEPS * BATCH)
    assert told["most"] <= limit


def test_a_source_that_stays_away_ends_a_saved_run_that_goes_on_later(
    at: Site, tmp_path: Path, whole: Path
) -> None:
    cut, cache = tmp_path / "run", prepared(tmp_path / "cache", whole)
    at.hub.fail(times=10**6, status=503, match=smol.file_at(1))
    line = at.train(cut, cache, retry_minutes=0.02).refusal(1)
    step = max(tiny.losses(cut))
    assert 0 < step < STEPS
    assert f"step {step} is saved, and the same command goes on from it" in line
    assert smol.file_at(1) in line
    assert "does not answer" in line
    assert (tiny.checkpoints(cut) / f"step-{step:08d}" / "manifest.json").exists()
    at.hub.recover()
    at.train(cut, cache, retry_minutes=0.02).ended()
    tiny.assert_same_run(whole, cut, STEPS)
    assert event(cut, "resumed")["step"] == step
    before, after = words_of(cut).split('"event": "resumed"')
    assert "asking again" in before
    assert "asking again" not in after, "trouble of the run before is told again"


@pytest.mark.parametrize("workers", [3, pytest.param(0, marks=pytest.mark.slow)])
def test_a_stop_does_not_wait_for_a_source_that_is_away(
    at: Site, tmp_path: Path, whole: Path, workers: int
) -> None:
    stopped, cache = tmp_path / "run", prepared(tmp_path / "cache", whole)
    at.hub.fail(times=10**6, status=503, match=smol.file_at(1))
    process = at.train(stopped, cache, retry_minutes=10, num_workers=workers)
    process.until(lambda: "asking again" in words_of(stopped))
    time.sleep(0.3)
    asked = time.monotonic()
    process.signal(signal.SIGTERM)
    process.ended(75, seconds=30)
    assert time.monotonic() - asked < 5
    step = max(tiny.losses(stopped), default=0)
    assert (tiny.checkpoints(stopped) / f"step-{step:08d}" / "manifest.json").exists()
    at.hub.recover()
    at.train(stopped, cache, num_workers=workers).ended()
    tiny.assert_same_run(whole, stopped, STEPS)
