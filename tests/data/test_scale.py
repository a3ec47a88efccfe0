"""A build shared by many ends in the bytes of a build by one, whoever made which piece and who was killed."""

from __future__ import annotations

import importlib
import json
import multiprocessing
import os
import random
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from stores import build, contents, small_pieces

from linnet.config import RequestError
from linnet.data import vocabulary
from linnet.data.parts import Part, PartDone, build_part
from linnet.data.settings import DataSettings
from linnet.data.shards import build as building
from linnet.data.vocabulary import tokenizer_for
from linnet.text import Tokenizer, TokenizerSettings, train_tokenizer

FORK = pytest.mark.skipif(sys.platform != "linux", reason="forks the test's own process")
Settings = Callable[..., DataSettings]


@pytest.fixture(autouse=True)
def many_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """A piece a file, and several shards a piece."""
    small_pieces(monkeypatch)
    monkeypatch.setattr(building, "PIECE_BYTES", 1)


@pytest.fixture
def sources(stories: list[str], tmp_path: Path) -> list[str]:
    """Two folders of files, seven in all."""
    for number in range(7):
        folder = tmp_path / ("web" if number < 5 else "books")
        folder.mkdir(exist_ok=True)
        lines = (json.dumps({"text": text}) + "\n" for text in stories[number::7])
        (folder / f"{number}.jsonl").write_text("".join(lines))
    return [str(tmp_path / "web"), str(tmp_path / "books")]


def at(settings: DataSettings, cache: Path) -> DataSettings:
    return settings.model_copy(update={"cache_dir": str(cache)})


def stores_in(cache: Path) -> dict[str, bytes]:
    """Every file of every finished store."""
    return {
        name: data
        for path in cache.glob("stores/*/store.json")
        for name, data in contents(path.parent, cache).items()
    }


def start(target: Callable[..., Any], *given: Any) -> Any:
    process = multiprocessing.get_context("fork").Process(target=target, args=given)
    process.start()
    return process


@pytest.mark.parametrize("count", [1, 2, 3, 16])
def test_parts_in_any_order_and_number_end_in_the_same_bytes(
    count: int, sources: list[str], tokenizer: Tokenizer, settings_for: Settings, tmp_path: Path
) -> None:
    settings = settings_for(sources=sources)
    expected = build(at(settings, tmp_path / "one"), tokenizer)
    here = at(settings, tmp_path / "parts")
    numbers = list(range(1, count + 1))
    random.Random(count).shuffle(numbers)
    done = [build_part(here, tokenizer, Part(number, count)) for number in numbers]
    assert sum(one.made for one in done) == 7
    assert [one.left for one in done] == sorted((one.left for one in done), reverse=True)
    assert done[-1] == PartDone(
        Part(numbers[-1], count), 7, done[-1].made, dict.fromkeys((s for s in sources), 0)
    )
    assert not stores_in(tmp_path / "parts")

    said: list[int] = []
    whole = build(here, tokenizer, lambda progress: said.append(progress.documents))
    assert not said  # nothing was tokenised again
    assert whole.fingerprint == expected.fingerprint
    assert stores_in(tmp_path / "parts") == stores_in(tmp_path / "one")
    assert not list((tmp_path / "parts/stores").glob("*piece*"))
    again = build_part(here, tokenizer, Part(1, count))
    assert (again.made, again.left) == (0, 0)


@FORK
def test_parts_at_once_and_a_build_beside_them(
    sources: list[str], tokenizer: Tokenizer, settings_for: Settings, tmp_path: Path
) -> None:
    settings = settings_for(sources=sources, validation_fraction=0.1)
    build(at(settings, tmp_path / "one"), tokenizer)
    here = at(settings, tmp_path / "many")
    working = [start(build_part, here, tokenizer, Part(1 + number % 3, 3)) for number in range(6)]
    working.append(start(build, here, tokenizer))
    for process in working:
        process.join()
    assert [process.exitcode for process in working] == [0] * 7
    assert stores_in(tmp_path / "many") == stores_in(tmp_path / "one")
    assert not list((tmp_path / "many/stores").glob("*piece*"))


@FORK
def test_a_build_waits_for_the_parts_at_work(
    sources: list[str], tokenizer: Tokenizer, settings_for: Settings, tmp_path: Path
) -> None:
    settings = settings_for(sources=sources)
    build(at(settings, tmp_path / "one"), tokenizer)
    here, fork = at(settings, tmp_path / "many"), multiprocessing.get_context("fork")
    begun, go = fork.Event(), fork.Event()

    def hold(_: object) -> None:
        begun.set()
        go.wait()

    part = start(build_part, here, tokenizer, Part(1, 1), hold)
    assert begun.wait(20)
    whole = start(build, here, tokenizer)
    whole.join(1)
    assert whole.is_alive()
    go.set()
    for process in (part, whole):
        process.join()
        assert process.exitcode == 0
    assert stores_in(tmp_path / "many") == stores_in(tmp_path / "one")


@FORK
def test_a_part_killed_at_any_moment_and_repeated(
    sources: list[str], tokenizer: Tokenizer, settings_for: Settings, tmp_path: Path
) -> None:
    settings = settings_for(sources=sources)
    build(at(settings, tmp_path / "one"), tokenizer)
    here, draw, killed = at(settings, tmp_path / "killed"), random.Random(3), 0
    for number in (2, 1):
        for _ in range(100):
            process = start(_build_and_die, here, tokenizer, Part(number, 2), draw.randint(1, 30))
            process.join()
            if process.exitcode == 0:
                break
            assert process.exitcode == -signal.SIGKILL
            killed += 1
    assert killed > 5
    build(here, tokenizer)
    assert stores_in(tmp_path / "killed") == stores_in(tmp_path / "one")


def _build_and_die(settings: DataSettings, tokenizer: Tokenizer, part: Part, times: int) -> None:
    """Build, and be killed at the n-th file synced."""
    real, left = os.fsync, [times]

    def counted(handle: int) -> None:
        left[0] -= 1
        if left[0] <= 0:
            os.kill(os.getpid(), signal.SIGKILL)
        real(handle)

    os.fsync = counted  # type: ignore[assignment]
    build_part(settings, tokenizer, part)


@pytest.mark.parametrize(
    "asked",
    [
        {"cleaning": {"deduplicate": "exact"}},
        {"sources": "limited"},
        {"sources": [{"builtin": "world", "documents": 60}, "files"]},
        {"validation_sources": "files"},
        {"validation_fraction": 2e-4},  # holds nothing out at first, so the build doubles it
    ],
    ids=lambda asked: next(iter(asked)) + str(next(iter(asked.values())))[:12],
)
def test_parts_of_every_kind_of_build(
    asked: dict[str, Any],
    mixed: list[str],
    sources: list[str],
    tokenizer: Tokenizer,
    settings_for: Settings,
    tmp_path: Path,
) -> None:
    given = {"sources": mixed, **asked}
    if given["sources"] == "limited":
        given["sources"] = [{"path": sources[0], "documents": 90}, sources[1]]
    given["sources"] = [sources[1] if source == "files" else source for source in given["sources"]]
    if "validation_sources" in asked:
        given["validation_sources"] = sources[1]
    settings = settings_for(**given)
    expected = build(at(settings, tmp_path / "one"), tokenizer)
    here = at(settings, tmp_path / "parts")
    for number in range(4):
        build_part(here, tokenizer, Part(number, 3))
    assert build(here, tokenizer).fingerprint == expected.fingerprint
    assert stores_in(tmp_path / "parts").items() >= stores_in(tmp_path / "one").items()


def test_part_0_makes_what_all_parts_need_and_no_piece(
    sources: list[str], tokenizer: Tokenizer, settings_for: Settings, cache: Path
) -> None:
    files = [path for folder in sources for path in Path(folder).iterdir()]
    for path in files:
        os.utime(path, (1e9, 1e9))  # a hash is remembered of a file that has lain still
    settings = settings_for(sources=sources[0], validation_sources=sources[1])
    done = build_part(settings, tokenizer, Part(0, 3))
    assert (done.pieces, done.made, done.left) == (5, 0, 5)
    assert len(list(cache.glob("stores/*/store.json"))) == 1
    assert len(list((cache / "hashes").iterdir())) == len(files)  # no part reads all files again for it


def test_what_is_not_built_beforehand_has_no_parts(
    sources: list[str], tokenizer: Tokenizer, settings_for: Settings, tmp_path: Path
) -> None:
    streamed = settings_for(sources=[{"path": sources[0], "streaming": True}])
    assert build_part(streamed, tokenizer, Part(1, 2)).missing == {}
    (tmp_path / "train.bin").write_bytes(b"\1\0" * 100)
    assert build_part(settings_for(tmp_path / "train.bin"), tokenizer, Part(1, 2)).missing == {}


@pytest.mark.parametrize("word", ["3", "0/0", "4/3", "-1/3", "1/3/5", "a/b", ""])
def test_a_part_that_is_none_is_refused(word: str) -> None:
    with pytest.raises(RequestError, match="is no part; write for example 3/16"):
        Part.of(word)


@FORK
def test_a_tokenizer_is_trained_once_for_all_parts(
    sources: list[str], settings_for: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def told(texts: Any, size: int) -> Tokenizer:
        with (tmp_path / "trainings").open("a") as stream:
            stream.write("one\n")
        return train_tokenizer(texts, size)

    monkeypatch.setattr(vocabulary, "train_tokenizer", told)
    asked = TokenizerSettings(name="trained", vocab_size=300)
    working = [start(tokenizer_for, asked, settings_for(sources=sources)) for _ in range(4)]
    for process in working:
        process.join()
    assert [process.exitcode for process in working] == [0] * 4
    assert (tmp_path / "trainings").read_text() == "one\n"


# --- datatrove --------------------------------------------------------------------------------------


def datatrove() -> Any:
    pytest.importorskip("datatrove")
    from loguru import logger

    logger.remove()
    return pytest.importorskip("datatrove.executor")


def test_without_datatrove_it_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datatrove.pipeline.base", None)
    monkeypatch.delitem(sys.modules, "linnet.data.scale", raising=False)
    with pytest.raises(RequestError, match=r"pip install 'linnet\[scale\]'"):
        importlib.import_module("linnet.data.scale")


@FORK
@pytest.mark.parametrize("tasks", [1, 3])
def test_the_local_executor_of_datatrove(
    tasks: int, sources: list[str], tokenizer: Tokenizer, settings_for: Settings, tmp_path: Path
) -> None:
    executor = datatrove().LocalPipelineExecutor
    from linnet.data.scale import BuildPieces

    settings = settings_for(sources=sources)
    build(at(settings, tmp_path / "one"), tokenizer)
    here = at(settings, tmp_path / "many")
    step = BuildPieces(here, tokenizer)
    logs = tmp_path / "logs"
    stats = executor([step], tasks=tasks, logging_dir=str(logs), start_method="fork").run()
    assert sum(step.stats["pieces_made"].total for step in stats.stats) == 7
    executor([step], tasks=tasks, logging_dir=str(logs), start_method="fork", skip_completed=False).run()
    said: list[int] = []
    build(here, tokenizer, lambda progress: said.append(progress.documents))
    assert not said
    assert stores_in(tmp_path / "many") == stores_in(tmp_path / "one")
    assert "web" not in (logs / "executor.json").read_text()  # URLs in settings may hold secrets


@pytest.mark.slow
def test_the_ray_executor_of_datatrove(
    sources: list[str],
    tokenizer: Tokenizer,
    settings_for: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ray = pytest.importorskip("ray")
    executor = datatrove().RayPipelineExecutor
    from linnet.data.scale import BuildPieces

    monkeypatch.undo()  # in processes of their own a piece has its full size
    settings = settings_for(sources=sources)
    build(at(settings, tmp_path / "one"), tokenizer)
    here = at(settings, tmp_path / "many")
    ray.init(num_cpus=2, include_dashboard=False)
    try:
        executor([BuildPieces(here, tokenizer)], tasks=2, logging_dir=str(tmp_path / "logs")).run()
    finally:
        ray.shutdown()
    said: list[int] = []
    build(here, tokenizer, lambda progress: said.append(progress.documents))
    assert not said
    assert stores_in(tmp_path / "many") == stores_in(tmp_path / "one")
