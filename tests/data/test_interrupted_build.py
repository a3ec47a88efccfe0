from __future__ import annotations

import json
import multiprocessing
import os
import random
import resource
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from stores import build, contents, small_pieces

from linnet.config import RequestError, RunError
from linnet.data.settings import DataSettings
from linnet.data.shards import tokenising, writing
from linnet.data.shards.progress import BuildProgress
from linnet.data.shards.store import damaged_shards, open_store
from linnet.text import Tokenizer

FORK = pytest.mark.skipif(sys.platform != "linux", reason="forks the test's own process")


@FORK
def test_a_build_killed_at_any_moment_goes_on_to_the_same_bytes(
    mixed: list[str],
    tokenizer: Tokenizer,
    settings_for: Callable[..., DataSettings],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    small_pieces(monkeypatch)
    settings = settings_for(sources=mixed)
    expected = build(settings, tokenizer).bytes
    draw, killed, calls = random.Random(3), 0, ("fsync", "open")
    for again in range(3):
        cache = tmp_path / f"killed-{again}"
        here = settings.model_copy(update={"cache_dir": str(cache)})
        for _ in range(100):
            process = multiprocessing.get_context("fork").Process(
                target=_build_and_die, args=(here, tokenizer, draw.choice(calls), draw.randint(1, 30))
            )
            process.start()
            process.join()
            if process.exitcode == 0:
                break
            assert process.exitcode == -signal.SIGKILL
            killed += 1
            assert not list(cache.glob("stores/*/store.json")) or _is_whole(cache, expected)
        store = build(here, tokenizer)
        assert store.bytes == expected
        assert not list(cache.glob("stores/*.partial"))
    assert killed > 10


def _is_whole(cache: Path, expected: dict[str, bytes]) -> bool:
    whole = (path.parent for path in cache.glob("stores/*/store.json") if path.parent.suffix != ".partial")
    return all(contents(folder, folder.parent).items() <= expected.items() for folder in whole)


def _build_and_die(settings: DataSettings, tokenizer: Tokenizer, call: str, times: int) -> None:
    """Build, and be killed at the n-th file synced, or opened to be synced."""
    real, left = getattr(os, call), [times]

    def counted(*given: object) -> object:
        left[0] -= 1
        if left[0] <= 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*given)

    setattr(os, call, counted)
    build(settings, tokenizer)


@pytest.mark.slow
@FORK
def test_a_build_by_processes_killed_at_random_times(
    mixed: list[str],
    tokenizer: Tokenizer,
    settings_for: Callable[..., DataSettings],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    small_pieces(monkeypatch)
    expected = build(settings_for(sources=mixed), tokenizer).bytes
    here = settings_for(sources=mixed, cache_dir=str(tmp_path / "other"), preprocessing_processes=2)
    draw = random.Random(5)
    for _ in range(4):
        process = multiprocessing.get_context("fork").Process(target=build, args=(here, tokenizer, _slowly))
        process.start()
        time.sleep(draw.uniform(0.05, 3))
        children = _children(process.pid)
        process.kill()
        process.join()
        _wait_until(lambda: not any(_alive(child) for child in children))  # noqa: B023
    store = build(here, tokenizer)
    assert store.bytes == expected


def _slowly(_: BuildProgress) -> None:
    time.sleep(0.02)


def _children(pid: int | None) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _wait_until(done: Callable[[], bool], seconds: float = 15) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end
        time.sleep(0.05)


@FORK
def test_two_processes_build_one_store_at_once(
    mixed: list[str],
    tokenizer: Tokenizer,
    settings_for: Callable[..., DataSettings],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    small_pieces(monkeypatch)
    expected = build(settings_for(sources=mixed), tokenizer).bytes
    here = settings_for(sources=mixed, cache_dir=str(tmp_path / "shared"))
    fork = multiprocessing.get_context("fork")
    builders = [fork.Process(target=build, args=(here, tokenizer, _slowly)) for _ in range(3)]
    for builder in builders:
        builder.start()
    for builder in builders:
        builder.join()
    assert [builder.exitcode for builder in builders] == [0, 0, 0]
    assert build(here, tokenizer).bytes == expected


@FORK
def test_a_full_disk_is_told_and_a_later_build_goes_on(
    mixed: list[str],
    tokenizer: Tokenizer,
    settings_for: Callable[..., DataSettings],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    small_pieces(monkeypatch)
    expected = build(settings_for(sources=mixed), tokenizer).bytes
    monkeypatch.setattr(writing, "SHARD_TOKENS", 1500)
    here = settings_for(sources=mixed, cache_dir=str(tmp_path / "full"))
    for limit in (0, 100, 2000, 3200):  # bytes a file may have: progress.json, which grows, among them
        said = multiprocessing.get_context("fork").Queue()
        child = multiprocessing.get_context("fork").Process(
            target=_build_limited, args=(here, tokenizer, limit, said)
        )
        child.start()
        kind, line = said.get(timeout=30)
        child.join()
        assert kind == "RunError"
        assert "shards cannot be written (File too large)" in line
        assert not list((tmp_path / "full").glob("**/*.part"))
    assert build(here, tokenizer).bytes == expected


def _build_limited(
    settings: DataSettings, tokenizer: Tokenizer, limit: int, said: multiprocessing.Queue
) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        build(settings, tokenizer)
    except Exception as error:
        said.put((type(error).__name__, str(error)))


def test_a_cache_that_cannot_be_written_is_told(
    mixed: list[str], tokenizer: Tokenizer, settings_for: Callable[..., DataSettings], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(RequestError, match=r"cache cannot be written .*set data.cache_dir or LINNET_CACHE"):
        build(settings_for(sources=mixed, cache_dir=str(tmp_path / "file")), tokenizer)


def test_a_damaged_store_is_not_taken_for_whole(
    mixed: list[str], tokenizer: Tokenizer, settings_for: Callable[..., DataSettings]
) -> None:
    store = build(settings_for(sources=mixed), tokenizer)
    first = store.folders[0]
    shard = store.train.shards[0].path
    content = bytearray(shard.read_bytes())
    content[100] ^= 1
    shard.write_bytes(content)
    assert damaged_shards(open_store(first)) == [shard]
    shard.write_bytes(content[:-2])
    with pytest.raises(RequestError, match=r"this shard has .* bytes instead of"):
        build(settings_for(sources=mixed), tokenizer)
    shard.unlink()
    with pytest.raises(RequestError, match="this shard is missing"):
        build(settings_for(sources=mixed), tokenizer)
    facts = json.loads((first / "store.json").read_text())
    (first / "store.json").write_text(json.dumps({**facts, "format": 99}))
    with pytest.raises(RequestError, match="newer Linnet"):
        build(settings_for(sources=mixed), tokenizer)
    (first / "store.json").unlink()
    assert not damaged_shards(build(settings_for(sources=mixed), tokenizer).stores[0])


@pytest.mark.parametrize(
    ("documents", "message"),
    [
        ([], "there is no text in it"),
        (["", " \n\n "], "there is no text in it"),
        (["Only one."], "1 documents are too few to hold some out"),
        (["Twice the same."] * 9, "9 documents are too few to hold some out"),
    ],
)
def test_too_little_text_is_told_and_leaves_nothing(
    documents: list[str],
    message: str,
    text_file: Callable[..., Path],
    tokenizer: Tokenizer,
    settings_for: Callable[..., DataSettings],
    cache: Path,
) -> None:
    with pytest.raises(RequestError, match=message):
        build(settings_for(text_file(documents)), tokenizer)
    assert not [path for path in cache.glob("stores/*") if path.suffix != ".lock"]


def test_a_broken_line_stops_the_build_and_its_mend_goes_on(
    stories: list[str],
    tokenizer: Tokenizer,
    settings_for: Callable[..., DataSettings],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    cache: Path,
) -> None:
    small_pieces(monkeypatch)
    path = tmp_path / "a.jsonl"
    rows = [json.dumps({"text": text}) for text in stories]
    path.write_text("\n".join([*rows[:500], '{"text":', *rows[500:]]))
    with pytest.raises(RequestError, match=r"a\.jsonl:501: this line is not JSON"):
        build(settings_for(path), tokenizer)
    assert not list(cache.glob("stores/*/store.json"))
    path.write_text("\n".join(rows))
    store = build(settings_for(path), tokenizer)
    assert store.train.documents + store.validation.documents == 600


def test_a_part_that_somebody_removed_is_made_again(
    mixed: list[str],
    tokenizer: Tokenizer,
    settings_for: Callable[..., DataSettings],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    small_pieces(monkeypatch)
    settings = settings_for(sources=mixed)
    store = build(settings, tokenizer)
    whole, folder = store.bytes, store.folders[0]

    def stop(progress: BuildProgress) -> None:
        if progress.documents > 300:
            raise KeyboardInterrupt

    shutil.rmtree(folder)
    with pytest.raises(KeyboardInterrupt):
        build(settings, tokenizer, stop)
    (part,) = folder.parent.glob("*.partial")
    shards = sorted(part.glob("piece-00000/train-*.bin"))
    assert len(shards) > 3
    shards[1].unlink()
    assert build(settings, tokenizer).bytes == whole


def test_a_process_ended_by_the_system_is_told(
    mixed: list[str],
    tokenizer: Tokenizer,
    settings_for: Callable[..., DataSettings],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    small_pieces(monkeypatch)
    monkeypatch.setattr(tokenising, "_tokenised_there", _ended)
    with pytest.raises(RunError, match=r"ended by the system.*preprocessing_processes"):
        build(settings_for(sources=mixed, preprocessing_processes=2), tokenizer)
    assert not multiprocessing.active_children()


def _ended(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_an_opened_store_needs_a_store(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="no token store here"):
        open_store(tmp_path)
    (tmp_path / "store.json").write_text("{")
    with pytest.raises(RequestError, match="not valid JSON"):
        open_store(tmp_path)
