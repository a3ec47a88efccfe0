"""A store of tokens as a source: what it must be, and what it cannot do."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stores import Built, build, documents_of, small_pieces

from linnet.config import RequestError, RunError
from linnet.data.opening import open_corpus
from linnet.data.settings import DataSettings
from linnet.data.shards import carrying
from linnet.data.shards.progress import BuildProgress
from linnet.data.shards.sending import Destination, check_request, send, slugs
from linnet.data.shards.store import damaged_shards
from linnet.data.vocabulary import tokenizer_for
from linnet.text import Tokenizer, TokenizerSettings, train_tokenizer

Settings = Callable[..., DataSettings]


@pytest.fixture
def built(
    stories: list[str],
    text_file: Callable[..., Path],
    tokenizer: Tokenizer,
    settings_for: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> Built:
    small_pieces(monkeypatch)
    return build(settings_for(text_file(stories), validation_fraction=0.1), tokenizer)


@pytest.fixture
def ready(built: Built, tmp_path: Path) -> Path:
    """The store, copied to where a recipe finds it."""
    (sent,) = send({"a/b corpus.txt": built.stores[0]}, Destination(str(tmp_path / "out")))
    assert sent.sent == sent.files == 2 * len((*built.train.shards, *built.validation.shards)) + 1
    assert sent.place == str(tmp_path / "out" / "a-b-corpus-txt")
    return Path(sent.place)


@pytest.fixture
def settings(settings_for: Settings, ready: Path) -> DataSettings:
    return settings_for(ready, validation_fraction=0.1)


def read(folder: Path) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads((folder / "store.json").read_text())
    return facts


def rewrite(folder: Path, **changes: Any) -> None:
    (folder / "store.json").write_text(json.dumps({**read(folder), **changes}))


@pytest.mark.parametrize("word", ["{}", "{}/", "{}/store.json", "file://{}"])
def test_it_is_read_in_place_as_it_was_built(
    word: str, built: Built, ready: Path, tokenizer: Tokenizer, settings_for: Settings, cache: Path
) -> None:
    stores = set((cache / "stores").iterdir())
    found = build(settings_for(word.format(ready), validation_fraction=0.1), tokenizer)
    assert found.folder == ready
    assert found.stores[0].fingerprint == built.stores[0].fingerprint
    for one, other in ((found.train, built.train), (found.validation, built.validation)):
        assert (one.read(0, one.tokens) == other.read(0, other.tokens)).all()
    assert set((cache / "stores").iterdir()) == stores
    assert not damaged_shards(found.stores[0])


def test_beside_text_no_document_is_trained_and_held_out(
    ready: Path,
    stories: list[str],
    tokenizer: Tokenizer,
    settings_for: Settings,
    text_file: Callable[..., Path],
) -> None:
    text = text_file([*stories[:300], *(f"Another {i}." for i in range(100))], "more.txt")
    found = build(settings_for(sources=[str(ready), str(text)], validation_fraction=0.1), tokenizer)
    trained = set(documents_of(found.train, found.eos_id))
    held_out = set(documents_of(found.validation, found.eos_id))
    assert len(trained) + len(held_out) == 700
    assert not trained & held_out


def test_what_is_sent_is_sent_once_and_mended_where_it_is_wrong(
    built: Built, ready: Path, tmp_path: Path
) -> None:
    stores, to = {"a/b corpus.txt": built.stores[0]}, Destination(str(tmp_path / "out"))
    assert send(stores, to)[0].sent == 0
    first, second, third = sorted(ready.glob("piece-*/*.bin"))[:3]
    first.unlink()
    second.write_bytes(second.read_bytes()[:-2])
    content = bytearray(third.read_bytes())
    content[0] ^= 1
    third.write_bytes(content)
    said: list[BuildProgress] = []
    assert send(stores, to, said.append)[0].sent == 3
    assert said[-1].share == 1.0
    assert {progress.doing for progress in said} == {"sending"}
    assert not damaged_shards(build_at(ready))
    assert not list(tmp_path.rglob("*.part"))
    rewrite(ready, text_bytes=1)
    with pytest.raises(RequestError, match=r"store\.json: another store is there; give another --out"):
        send(stores, to)


def build_at(folder: Path) -> Any:
    from linnet.data.shards.store import open_store

    return open_store(folder)


def test_titles_make_names_of_folders_that_differ() -> None:
    titles = ["a/b", "a b", "https://me:secret@host/x?sig=abc", "///", "owner/name/sample-10BT"]
    names = slugs(titles)
    assert len(set(names.values())) == len(titles)
    assert names["owner/name/sample-10BT"] == "owner-name-sample-10BT"
    assert names["///"] == "source"
    assert "secret" not in str(names.values())
    assert "abc" not in str(names.values())


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("https://host/x", "nothing can be written there"),
        ("hf://datasets/a/b", "hf upload"),
        ("nowhere://x", "there is no way to write to nowhere://"),
    ],
)
def test_where_nothing_can_be_written(out: str, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        Destination(out)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"validation_sources": "b.txt"}, "hold nothing out, so no recipe could take them"),
        (
            {"sources": [{"path": "a.txt", "streaming": True}]},
            r"a\.txt: a streamed source has no store to copy",
        ),
        ({"sources": "train.bin"}, r"token files \(\.bin\) have no store to copy"),
    ],
)
def test_what_has_no_store_to_send_is_refused(
    asked: dict[str, Any],
    message: str,
    settings_for: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.txt", "b.txt", "train.bin"):
        (tmp_path / name).write_text("ab")
    with pytest.raises(RequestError, match=message):
        check_request(settings_for(**{"sources": "a.txt", **asked}))


def test_another_tokenizer_is_refused(settings: DataSettings, prose: list[str], tokenizer: Tokenizer) -> None:
    other = train_tokenizer(prose[:40], 700)
    with pytest.raises(RequestError, match=rf"these tokens were made with another tokenizer \({tokenizer.name}, "
                       rf"sha {tokenizer.fingerprint[:12]}\), not {other.name}.*set tokenizer\.name"):  # fmt: skip
        open_corpus(settings, other)


def test_no_tokenizer_is_trained_on_tokens(settings: DataSettings) -> None:
    with pytest.raises(RequestError, match="a tokenizer cannot be trained on a store of tokens"):
        tokenizer_for(TokenizerSettings(name="trained", vocab_size=300), settings)


def test_another_share_held_out_is_refused(ready: Path, tokenizer: Tokenizer, settings_for: Settings) -> None:
    with pytest.raises(RequestError, match=r"holds 0\.1 of its documents out and the recipe 0\.01, .* "
                       r"set data\.validation_fraction=0\.1"):  # fmt: skip
        open_corpus(settings_for(ready), tokenizer)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"text_field": "body"}, "text_field is for text"),
        ({"text_template": "{a}"}, "text_template is for text"),
        ({"filter": "score > 1"}, "filter is for text"),
        ({"documents": 10}, "documents is for text"),
        ({"streaming": True}, "fetched whole; set streaming: false"),
    ],
)
def test_what_is_for_text_is_refused(
    asked: dict[str, Any], message: str, ready: Path, tokenizer: Tokenizer, settings_for: Settings
) -> None:
    with pytest.raises(RequestError, match=message):
        open_corpus(settings_for(sources=[{"path": str(ready), **asked}]), tokenizer)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"cleaning": {"deduplicate": "exact"}}, "cannot be compared with text"),
        ({"validation_sources": "text"}, "validation_sources cannot be taken out of a store of tokens"),
        ({"validation_sources": "ready", "sources": "text"}, "cannot be a validation source"),
        ({"sources": "both"}, "cannot be mixed with token files"),
    ],
)
def test_what_tokens_cannot_do_is_refused(
    asked: dict[str, Any],
    message: str,
    ready: Path,
    tokenizer: Tokenizer,
    settings_for: Settings,
    text_file: Callable[..., Path],
    tmp_path: Path,
) -> None:
    (tmp_path / "other.bin").write_bytes(b"\1\0" * 100)
    words = {"text": str(text_file(["A.", "B."])), "ready": str(ready)}
    given = {
        key: words.get(value, value) if isinstance(value, str) else value for key, value in asked.items()
    }
    if given.get("sources") == "both":
        given["sources"] = [str(ready), str(tmp_path / "other.bin")]
    with pytest.raises(RequestError, match=message):
        open_corpus(settings_for(**{"sources": str(ready), "validation_fraction": 0.1, **given}), tokenizer)


def test_a_damaged_shard_is_told_and_once_hashed_not_hashed_again(
    settings: DataSettings, ready: Path, tokenizer: Tokenizer
) -> None:
    shard = sorted(ready.glob("piece-*/train-*.bin"))[1]
    content = bytearray(shard.read_bytes())
    content[100] ^= 1
    shard.write_bytes(content)
    with pytest.raises(RequestError, match=rf"{shard}: this shard is damaged"):
        open_corpus(settings, tokenizer)
    shard.unlink()
    with pytest.raises(RequestError, match=rf"{shard}: this shard is missing"):
        open_corpus(settings, tokenizer)


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"format": "x"}', '{"format": 2, "splits": {"train": {}}}'], ids=repr
)
def test_what_is_no_store_json_is_told(
    content: str, settings: DataSettings, ready: Path, tokenizer: Tokenizer
) -> None:
    (ready / "store.json").write_text(content)
    with pytest.raises(RequestError, match=r"store\.json: this is not the store\.json of a store of tokens"):
        open_corpus(settings, tokenizer)


def test_a_store_of_a_newer_format_is_told(settings: DataSettings, ready: Path, tokenizer: Tokenizer) -> None:
    rewrite(ready, format=99)
    with pytest.raises(RequestError, match="made by a newer Linnet"):
        open_corpus(settings, tokenizer)


@pytest.mark.parametrize(
    "name", ["../../secret.bin", "/etc/x.bin", "piece-0/../../x.bin", "piece-0/train.txt"]
)
def test_a_store_json_names_nothing_outside_of_its_folder(
    name: str, settings: DataSettings, ready: Path, tokenizer: Tokenizer
) -> None:
    splits = read(ready)["splits"]
    splits["train"]["shards"][0]["file"] = name
    rewrite(ready, splits=splits)
    with pytest.raises(RequestError, match="names files outside of its folder"):
        open_corpus(settings, tokenizer)


def test_a_store_without_held_out_documents_is_left_alone(
    ready: Path, tokenizer: Tokenizer, settings: DataSettings
) -> None:
    """A build of text would begin again with a larger share; this is somebody's folder."""
    splits = read(ready)["splits"]
    splits["validation"] = {"documents": 0, "shards": []}
    rewrite(ready, splits=splits)
    with pytest.raises(RequestError, match="too few to hold some out"):
        open_corpus(settings, tokenizer)
    assert (ready / "store.json").exists()


# --- behind a URL: fsspec's own file system in memory ----------------------------------------------------


@pytest.fixture
def remote(ready: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The store at memory://bucket/tokens; small chunks, and delays that are not waited for."""
    import fsspec

    memory = fsspec.filesystem("memory")
    memory.store.clear()
    memory.pseudo_dirs[:] = [""]
    memory.put(str(ready), "/bucket/tokens", recursive=True)
    monkeypatch.setattr(carrying, "CHUNK", 1000)
    monkeypatch.setattr("linnet.data.sources.retrying.FIRST_DELAY", 0.001)
    yield memory
    memory.store.clear()


def at_remote(settings_for: Settings, **given: Any) -> DataSettings:
    return settings_for("memory://bucket/tokens", validation_fraction=0.1, **given)


def test_it_is_fetched_once_and_checked(
    remote: Any, built: Built, tokenizer: Tokenizer, settings_for: Settings, cache: Path
) -> None:
    said: list[BuildProgress] = []
    found = build(at_remote(settings_for), tokenizer, said.append)
    assert found.stores[0].fingerprint == built.stores[0].fingerprint
    assert found.folder is not None
    assert found.folder.parent == cache / "fetched"
    assert not damaged_shards(found.stores[0])
    assert said[-1].share == 1.0
    assert {progress.doing for progress in said} == {"fetching"}
    name = next(name for name in remote.store if name.endswith("train-00001.bin"))
    kept = remote.store.pop(name)
    assert (
        build(at_remote(settings_for), tokenizer).stores[0].fingerprint == built.stores[0].fingerprint
    )  # from the cache
    remote.store[name] = kept
    (found.folder / "piece-00000/train-00001.bin").unlink()  # somebody cleaned up: fetched again
    assert build(at_remote(settings_for), tokenizer).stores[0].fingerprint == built.stores[0].fingerprint


def test_a_fetch_that_was_cut_goes_on_where_it_stopped(
    remote: Any, built: Built, tokenizer: Tokenizer, settings_for: Settings, cache: Path
) -> None:
    def stop(progress: BuildProgress) -> None:
        if progress.text_bytes > 8000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(at_remote(settings_for), tokenizer, stop)
    assert not list(cache.glob("fetched/*/store.json"))
    first: list[int] = []
    found = build(at_remote(settings_for), tokenizer, lambda progress: first.append(progress.text_bytes))
    assert min(first) > 8000
    assert found.stores[0].fingerprint == built.stores[0].fingerprint
    assert not list(cache.rglob("*.part"))


def test_a_shard_that_arrives_damaged_is_told(
    remote: Any, tokenizer: Tokenizer, settings_for: Settings, cache: Path
) -> None:
    name = next(name for name in remote.store if name.endswith("train-00002.bin"))
    content = bytearray(remote.cat_file(name))
    content[10] ^= 1
    remote.pipe_file(name, bytes(content))
    with pytest.raises(
        RunError, match=r"train-00002\.bin: its bytes are not those that its store\.json tells of"
    ):
        build(at_remote(settings_for), tokenizer)
    assert not list(cache.glob("fetched/*/store.json"))
    content[10] ^= 1
    remote.pipe_file(name, bytes(content))
    starts = name.replace(".bin", ".starts")
    numbers = np.frombuffer(remote.cat_file(starts), "<u8").copy()
    numbers[1] += 1
    remote.pipe_file(starts, numbers.tobytes())
    with pytest.raises(RunError, match=r"train-00002\.starts: its bytes are not those"):
        build(at_remote(settings_for), tokenizer)


def test_a_shard_that_is_missing_is_told(remote: Any, tokenizer: Tokenizer, settings_for: Settings) -> None:
    remote.rm(next(name for name in remote.store if name.endswith("train-00002.bin")))
    with pytest.raises(RunError, match=r"train-00002\.bin: there is no such file"):
        build(at_remote(settings_for), tokenizer)


def test_a_place_that_fails_is_asked_again_and_at_last_given_up(
    remote: Any, built: Built, tokenizer: Tokenizer, settings_for: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = type(remote)._open, [0]

    def failing(self: Any, path: str, *args: Any, **more: Any) -> Any:
        calls[0] += 1
        if calls[0] % 3:
            raise ConnectionResetError("reset by peer")
        return real(self, path, *args, **more)

    monkeypatch.setattr(type(remote), "_open", failing)
    said: list[str] = []
    found = build(at_remote(settings_for), tokenizer, lambda progress: said.append(progress.note))
    assert found.stores[0].fingerprint == built.stores[0].fingerprint
    assert any("reset by peer" in note and "asking again" in note for note in said)
    shutil.rmtree(found.folder or "")
    calls[0] = -(10**9) + 1
    monkeypatch.setattr(type(remote), "_open", lambda *_, **__: (_ for _ in ()).throw(ConnectionResetError()))
    with pytest.raises(RunError, match="does not answer"):
        build(at_remote(settings_for, retry_minutes=0.001), tokenizer)


def test_a_url_without_a_store_json_is_text(
    remote: Any, tokenizer: Tokenizer, settings_for: Settings, stories: list[str]
) -> None:
    remote.pipe_file("/bucket/text/a.txt", "\n<|endoftext|>\n".join(stories).encode())
    found = build(settings_for("memory://bucket/text"), tokenizer)
    assert found.train.documents + found.validation.documents == 600


def test_the_folder_that_holds_stores_is_told_from_a_store(
    ready: Path, tokenizer: Tokenizer, settings_for: Settings
) -> None:
    with pytest.raises(RequestError, match=f"holds several stores of tokens; name each as a source: {ready}"):
        build(settings_for(ready.parent, validation_fraction=0.1), tokenizer)
