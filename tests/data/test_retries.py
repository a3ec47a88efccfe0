"""A place that fails is asked again from where it stopped; one that stays away ends the reading with a line."""

from __future__ import annotations

import errno
import gzip
import random
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from itertools import islice
from types import SimpleNamespace

import pytest
import zstandard
from formats import as_lines, as_parquet
from hub import Hub

from linnet.config import RequestError, RunError
from linnet.data.settings import Source
from linnet.data.sources.documents import Document, documents, files_of
from linnet.data.sources.retrying import LONGEST_DELAY, persistent
from linnet.data.sources.troubles import Damage, Interruption, trouble_with

HERE = (0, 0)
ALL = [Document(f"{file} {row}", file, row) for file in range(3) for row in range(5)]


class Time:
    """A clock that sleeping moves."""

    def __init__(self) -> None:
        self.now = 100.0
        self.slept: list[float] = []

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def place(*failures: tuple[int, Exception]) -> Callable[[int, int], Iterator[Document]]:
    """Documents of which the one at an index fails to come, once for each time that it is named."""
    left = list(failures)

    def open_at(file: int, row: int) -> Iterator[Document]:
        for index, document in enumerate(ALL):
            if (document.file, document.row) < (file, row):
                continue
            for failure in left:
                if failure[0] == index:
                    left.remove(failure)
                    raise failure[1]
            yield document

    return open_at


def away(after: float | None = None) -> Interruption:
    return Interruption("could not be read (reset by peer)", "s3://bucket/a", after=after)


def damage(remote: bool) -> Damage:
    error = Damage("this is not a whole parquet file", "s3://bucket/a")
    error.remote = remote
    return error


def read(
    open_at: Callable[[int, int], Iterator[Document]], patience: float = 1000, draw: float = 0.0
) -> tuple[list[Document], Time, list[str]]:
    time, told = Time(), []
    found = list(persistent(open_at, *HERE, patience, told.append, time.clock, time.sleep, lambda: draw))
    return found, time, told


def test_reading_goes_on_after_the_last_document() -> None:
    failures = [(0, away()), (4, away()), (4, ConnectionResetError("reset")), (14, TimeoutError())]
    found, time, told = read(place(*failures))
    assert found == ALL
    assert time.slept == [0.5, 0.5, 1.0, 0.5]  # doubled while there is no progress
    assert told[0] == "s3://bucket/a: could not be read (reset by peer); asking again in 0.5 s"
    assert len(told) == 4


def test_delays_double_up_to_a_minute_with_jitter() -> None:
    _, time, _ = read(place(*[(3, away())] * 10))
    assert time.slept == [0.5, 1, 2, 4, 8, 16, 32, LONGEST_DELAY, LONGEST_DELAY, LONGEST_DELAY]
    _, time, _ = read(place((3, away()), (3, away())), draw=0.5)
    assert time.slept == [0.375, 0.75]


def test_a_place_may_say_how_long_to_wait() -> None:
    found, time, _ = read(place((3, away(after=7.0)), (3, away(after=0.1))))
    assert found == ALL
    assert time.slept == [7.0, 1.0]


def test_patience_ends_with_a_line_and_counts_from_the_first_failure() -> None:
    time, told, got = Time(), [], []
    reading = persistent(
        place(*[(7, away())] * 99), *HERE, 100, told.append, time.clock, time.sleep, lambda: 0.0
    )

    def slowly() -> None:
        for document in reading:
            got.append(document)
            time.now += 1000  # whoever reads may take its time

    with pytest.raises(RunError) as caught:
        slowly()
    assert got == ALL[:7]
    assert sum(time.slept) == 100
    line = "s3://bucket/a: does not answer (could not be read (reset by peer)); run the same command again; "
    assert caught.value.line() == line + "it goes on where it stopped"
    assert not isinstance(caught.value, Interruption)
    with pytest.raises(RunError, match="does not answer"):
        read(place((0, away())), patience=0)


@pytest.mark.parametrize(
    "error",
    [
        RequestError("the field 'text' is not text", "a:1"),
        RunError("there is no such file", "s3://bucket/a"),
        damage(remote=False),
        FileNotFoundError("s3://bucket/a"),
        PermissionError("s3://bucket/a"),
    ],
)
def test_what_asking_again_cannot_mend_passes_at_once(error: Exception) -> None:
    with pytest.raises((RequestError, RunError)):
        read(place((2, error)))
    assert read(place())[0] == ALL


def test_a_fault_of_ours_is_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError):
        read(place((2, ZeroDivisionError())))


def test_damage_from_far_away_is_looked_at_three_times() -> None:
    found, _, told = read(place((2, damage(True)), (2, damage(True)), (6, damage(True)), (6, damage(True))))
    assert found == ALL
    assert len(told) == 4
    with pytest.raises(Damage, match="not a whole parquet file"):
        read(place(*[(2, damage(True))] * 3))


def test_a_file_that_was_read_to_its_end_is_not_read_again() -> None:
    opened: list[tuple[int, int]] = []

    def open_at(file: int, row: int) -> Iterator[Document]:
        opened.append((file, row))
        if len(opened) > 1:
            yield from place()(file, row)
            return
        yield from (document for document in ALL if document.file == 0)
        trouble = away()
        trouble.file = 2
        raise trouble

    found, _, _ = read(open_at)
    assert opened == [(0, 0), (2, 0)]
    assert found == [document for document in ALL if document.file != 1]


def test_what_sleeping_raises_ends_the_reading() -> None:
    def stop(_: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(persistent(place((2, away())), *HERE, 10, lambda _: None, sleep=stop))


class Answer(Exception):
    """As the libraries that ask over HTTP raise it."""

    __module__ = "httpx2"

    def __init__(self, status: int, headers: dict[str, str] | None = None) -> None:
        super().__init__(f"{status} for url https://h/a?sig=s3cret")
        self.response = SimpleNamespace(status_code=status, headers=headers or {})


class Refusal(Exception):
    """As botocore raises it."""

    __module__ = "botocore.exceptions"

    def __init__(self, status: int) -> None:
        super().__init__("An error occurred")
        self.response = {"ResponseMetadata": {"HTTPStatusCode": status, "HTTPHeaders": {"retry-after": "3"}}}


class Code(Exception):
    """As gcsfs raises it."""

    __module__ = "gcsfs.retry"

    def __init__(self, code: int) -> None:
        super().__init__(f"no, {code}")
        self.code = code


TRANSIENT = [
    *[Answer(status) for status in (408, 429, 500, 502, 503, 504)],
    *[Refusal(status) for status in (429, 500, 503)],
    *[Code(status) for status in (429, 503)],
    *[OSError(number, "x") for number in (errno.ESTALE, errno.EIO, errno.ETIMEDOUT, errno.ECONNRESET)],
    ConnectionRefusedError(), TimeoutError(), EOFError(),
]  # fmt: skip
PERMANENT = [
    *[Answer(status) for status in (400, 401, 403, 404, 410)],
    *[Refusal(status) for status in (403, 404)], Code(404), FileNotFoundError("x"), PermissionError("x"),
]  # fmt: skip


@pytest.mark.parametrize("error", TRANSIENT, ids=repr)
def test_a_passing_trouble_is_told_from_one_that_stays(error: Exception) -> None:
    met = trouble_with(error, "s3://bucket/a", remote=True)
    assert isinstance(met, Interruption)
    assert "s3cret" not in met.line()


@pytest.mark.parametrize("error", PERMANENT, ids=repr)
def test_a_trouble_that_stays_is_told_from_a_passing_one(error: Exception) -> None:
    met = trouble_with(error, "s3://bucket/a", remote=True)
    assert isinstance(met, RunError)
    assert not isinstance(met, Interruption)
    assert isinstance(trouble_with(error, "s3://bucket/a", remote=True, begun=False), RequestError)


def test_a_file_system_on_a_network_may_come_back_and_a_disk_may_not() -> None:
    assert isinstance(trouble_with(OSError(errno.ESTALE, "Stale file handle"), "/nfs/a", False), Interruption)
    assert isinstance(trouble_with(OSError(errno.EISDIR, "Is a directory"), "/a", False), RequestError)
    assert trouble_with(KeyError("x"), "/a", False) is None


def test_retry_after_is_read_as_seconds_and_as_a_date() -> None:
    for error, seconds in ((Answer(429, {"Retry-After": "7"}), 7), (Refusal(503), 3)):
        met = trouble_with(error, "x", remote=True)
        assert isinstance(met, Interruption)
        assert met.after == seconds
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    met = trouble_with(Answer(503, {"Retry-After": soon}), "x", remote=True)
    assert isinstance(met, Interruption)
    assert 25 < (met.after or 0) <= 30
    met = trouble_with(Answer(503, {"Retry-After": "soon"}), "x", remote=True)
    assert isinstance(met, Interruption)
    assert met.after is None


def noise(count: int) -> list[str]:
    """Texts that do not pack, so that a file of them has some size."""
    draw = random.Random(3)
    return [f"{i} {draw.getrandbits(8000):x}" for i in range(count)]


KINDS: dict[str, Callable[[list[str]], bytes]] = {
    "a.jsonl": as_lines,
    "a.jsonl.gz": lambda texts: gzip.compress(as_lines(texts)),
    "a.jsonl.zst": lambda texts: zstandard.compress(as_lines(texts)),
    "a.parquet": lambda texts: as_parquet(texts, group=50),
}


def web(hub: Hub, name: str) -> Source:
    return Source(path=f"{hub.url}/datasets/o/n/resolve/main/{name}")


@pytest.fixture
def small_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many requests for a small file."""
    monkeypatch.setattr("linnet.data.sources.places.READ_AHEAD", 1 << 14)


@pytest.mark.usefixtures("small_requests")
@pytest.mark.parametrize("name", KINDS)
def test_a_server_that_fails_and_breaks_off_loses_and_repeats_nothing(name: str) -> None:
    texts = noise(400)
    with Hub("o/n", {name: KINDS[name](texts)}) as hub:
        source = web(hub, name)
        files = files_of(source)
        time, told, got = Time(), [], []
        reading = persistent(lambda file, row: documents(source, files=files, file=file, row=row),
                             *HERE, 60, told.append, time.clock, time.sleep)  # fmt: skip
        for index, document in enumerate(reading):
            got.append(document.text)
            if index == 20:
                hub.fail(times=3, status=500)
            if index == 150:
                hub.drop(times=2, after_bytes=700)
            if index == 300:
                hub.fail(times=1, status=429, headers={"Retry-After": "9"})
    assert got == texts
    assert len(told) >= 5
    assert 9.0 in time.slept


@pytest.mark.usefixtures("small_requests")
def test_a_file_that_disappears_is_told_and_what_came_before_is_kept() -> None:
    texts = noise(400)
    with Hub("o/n", {"a.jsonl": as_lines(texts)}) as hub:
        source = web(hub, "a.jsonl")
        files = files_of(source)
        got = []
        reading = persistent(lambda file, row: documents(source, files=files, file=file, row=row),
                             *HERE, 60, lambda _: None, sleep=lambda _: None)  # fmt: skip
        got = [document.text for document in islice(reading, 10)]
        hub.remove("a.jsonl")
        with pytest.raises(RunError, match=r"a\.jsonl: there is no such file"):
            got.extend(document.text for document in reading)
    assert got == texts[: len(got)]
    assert 10 <= len(got) < 400


@pytest.mark.usefixtures("small_requests")
def test_a_server_that_comes_back_while_it_is_waited_for_is_read_on() -> None:
    texts = noise(200)
    with Hub("o/n", {"a.jsonl": as_lines(texts)}) as hub:
        source = web(hub, "a.jsonl")
        files = files_of(source)
        hub.fail(times=10**6, status=503)
        threading.Timer(0.4, hub.recover).start()
        told: list[str] = []
        found = persistent(lambda file, row: documents(source, files=files, file=file, row=row),
                           *HERE, 30, told.append)  # fmt: skip
        assert [document.text for document in found] == texts
        assert told


def test_a_file_that_is_shorter_than_it_was_is_not_taken_for_whole() -> None:
    texts = noise(50)
    with Hub("o/n", {"a.txt": "\n<|endoftext|>\n".join(texts).encode()}) as hub:
        source = web(hub, "a.txt")
        (file,) = files_of(source)
        hub.files["a.txt"] = hub.files["a.txt"][:20_000]
        got = []
        with pytest.raises(Interruption, match="ended too early"):
            got += [document.text for document in documents(source, files=[file])]
