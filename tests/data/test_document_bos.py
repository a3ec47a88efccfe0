"""Where a tokenizer's own rule puts BOS before a text, every document of a corpus begins with it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from stores import build, keys_of
from test_bins import as_nanogpt_writes
from tokenizers import Tokenizer as Library
from tokenizers import processors

from linnet.data.batches import IGNORE, Batch, Windows
from linnet.data.opening import open_corpus
from linnet.data.peek import show
from linnet.data.settings import DataSettings
from linnet.data.training import TrainBatches
from linnet.model import ModelSpec, Transformer, initialize, save_model
from linnet.text import Tokenizer, train_tokenizer

Make = Callable[..., DataSettings]
EOS, BOS = 0, 1


@pytest.fixture(scope="session")
def folder(prose: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer as Llama's: `<s>` is put before a text."""
    folder = tmp_path_factory.mktemp("bos")
    library = Library.from_str(train_tokenizer(prose[:10], 400, ("</s>", "<s>")).to_json())
    library.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", BOS)])
    library.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text('{"eos_token": "</s>", "bos_token": "<s>"}')
    return folder


@pytest.fixture(scope="session")
def with_bos(folder: Path) -> Tokenizer:
    return Tokenizer.load(folder)


@pytest.fixture
def texts(stories: list[str]) -> list[str]:
    return [f"<s> {text} </s>" if i % 10 == 0 else text for i, text in enumerate(stories[:200])]


@pytest.fixture
def held_out(tmp_path: Path) -> str:
    """So that all of the training text is trained on."""
    (tmp_path / "held.txt").write_text("a fox of another kind " * 40)
    return str(tmp_path / "held.txt")


@pytest.fixture
def corpus(texts: list[str], with_bos: Tokenizer) -> np.ndarray:
    return np.array([i for text in texts for i in (BOS, *with_bos.encode(text), EOS)])


def batches_of(windows: Windows) -> list[Batch]:
    return list(windows.batches(7))


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("length", [32, 61])
def test_every_token_but_bos_is_a_target_once(
    texts: list[str],
    text_file: Callable[..., Path],
    settings_for: Make,
    with_bos: Tokenizer,
    corpus: np.ndarray,
    masked: bool,
    length: int,
    held_out: str,
) -> None:
    settings = settings_for(
        text_file(texts), validation_sources=held_out, sequence_length=length, document_mask=masked
    )
    opened = open_corpus(settings, with_bos)
    (component,) = opened.components
    assert component.split is not None
    assert np.array_equal(component.split.read(0, component.split.tokens), corpus)
    train = opened.batches(4, 0, len(corpus) // length // 4)
    assert (train.eos_id, train.bos_id) == (EOS, BOS)
    windows = Windows(component.split, length, EOS, masked, BOS)
    targets = torch.cat([batch.targets.reshape(-1) for batch in batches_of(windows)]).numpy()
    assert np.array_equal(targets[targets != IGNORE], corpus[corpus != BOS])


def test_a_document_begins_at_its_bos_and_ends_with_its_eos(
    texts: list[str], text_file: Callable[..., Path], settings_for: Make, with_bos: Tokenizer, held_out: str
) -> None:
    split = build(settings_for(text_file(texts), validation_sources=held_out), with_bos).train
    for batch in batches_of(Windows(split, 50, EOS, True, BOS)):
        assert batch.positions is not None
        assert batch.documents is not None
        for row in range(len(batch)):
            document, begin = -1, 0
            for place, token in enumerate(batch.tokens[row].tolist()):
                if token == BOS or place == 0:
                    document, begin = document + 1, place
                counted = batch.targets[row, place] != IGNORE
                assert not counted or token != EOS  # nothing is foretold from what ended
                if counted:
                    assert batch.positions[row, place] == place - begin
                    same = batch.documents[row] == batch.documents[row, place]
                    assert same[begin : place + 1].all()
                    assert not same[:begin].any()


def test_a_long_window_costs_what_its_documents_cost_alone(
    texts: list[str],
    text_file: Callable[..., Path],
    settings_for: Make,
    with_bos: Tokenizer,
    folder: Path,
    tmp_path: Path,
    held_out: str,
) -> None:
    transformers = pytest.importorskip("transformers")
    texts = texts[:12]
    settings = settings_for(text_file(texts), validation_sources=held_out, sequence_length=2048)
    split = build(settings, with_bos).train
    (batch,) = batches_of(Windows(split, 2048, EOS, True, BOS))
    spec = ModelSpec(
        architecture="llama", vocab_size=with_bos.vocab_size, hidden_size=32, num_hidden_layers=2,
        num_attention_heads=2, intermediate_size=64, max_position_embeddings=2048,
    )  # fmt: skip
    model = Transformer(spec).eval()
    initialize(model, 0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(4)
    save_model(model, tmp_path, eos_id=EOS, bos_id=BOS)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    stock = transformers.AutoTokenizer.from_pretrained(folder)
    expected = 0.0
    with torch.no_grad():
        for text in texts:
            ids = torch.tensor([[*stock(text, split_special_tokens=True)["input_ids"], EOS]])
            logits = theirs(ids).logits[0, :-1]
            expected += torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="sum").item()
        hidden = model(batch.tokens, batch.positions, batch.documents)
        logits = model.logits(hidden).flatten(0, 1)
        ours = torch.nn.functional.cross_entropy(logits, batch.targets.flatten(), reduction="sum").item()
    assert ours == pytest.approx(expected, rel=1e-5)


def test_stores_of_different_rules_are_kept_apart(
    texts: list[str], text_file: Callable[..., Path], settings_for: Make, with_bos: Tokenizer, tmp_path: Path
) -> None:
    with_bos.save(tmp_path / "none")
    for file in ("tokenizer.json", "tokenizer_config.json"):
        content = json.loads((tmp_path / "none" / file).read_text())
        if file == "tokenizer.json":
            content["post_processor"] = None
        (tmp_path / "none" / file).write_text(json.dumps(content))
    plain = Tokenizer.load(tmp_path / "none")
    settings = settings_for(text_file(texts))
    keys = [keys_of(settings, tokenizer) for tokenizer in (with_bos, plain)]
    assert keys[0] != keys[1]
    assert BOS not in build(settings, plain).train.read(0, 500)
    assert with_bos.opened_by_eos() is with_bos  # a rule that is there is kept


def test_an_eos_that_opens_documents_changes_no_store(
    texts: list[str], text_file: Callable[..., Path], settings_for: Make, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    assert tokenizer.start_id == tokenizer.eos_id
    tokenizer.save(tmp_path / "none")
    content = json.loads((tmp_path / "none" / "tokenizer.json").read_text())
    (tmp_path / "none" / "tokenizer.json").write_text(json.dumps({**content, "post_processor": None}))
    plain = Tokenizer.load(tmp_path / "none")
    assert plain.start_id is None
    assert plain.fingerprint == tokenizer.fingerprint == plain.opened_by_eos().fingerprint
    settings = settings_for(text_file(texts))
    assert keys_of(settings, plain) == keys_of(settings, tokenizer)


def test_token_files_without_bos_are_read_after_eos(
    texts: list[str], settings_for: Make, with_bos: Tokenizer, tmp_path: Path
) -> None:
    documents = [with_bos.encode(text) for text in texts]
    tokens = as_nanogpt_writes(tmp_path / "train.bin", documents, EOS)
    as_nanogpt_writes(tmp_path / "val.bin", documents[:9], EOS)
    settings = settings_for(tmp_path / "train.bin", validation_sources=str(tmp_path / "val.bin"))
    split = build(settings, with_bos).train
    with_rule, without = (batches_of(Windows(split, 50, EOS, True, bos)) for bos in (BOS, None))
    for one, other in zip(with_rule, without, strict=True):
        assert torch.equal(one.targets, other.targets)
        assert torch.equal(one.documents, other.documents)
        assert torch.equal(one.positions, other.positions)
    held_out = sum(len(document) + 1 for document in documents[:9])
    assert len(tokens) - held_out == sum(batch.counted for batch in with_rule)


def test_a_stream_s_shards_hold_the_same_line(
    texts: list[str],
    settings_for: Make,
    with_bos: Tokenizer,
    corpus: np.ndarray,
    tmp_path: Path,
    held_out: str,
) -> None:
    path = tmp_path / "texts.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    source = {"path": str(path), "streaming": True}
    settings = settings_for(
        sources=[source], validation_sources=held_out, sequence_length=32, shard_tokens=320
    )  # fmt: skip
    opened = open_corpus(settings, with_bos)
    try:
        train = opened.batches(4, 0, 3)
        assert isinstance(train, TrainBatches)
        shown = "".join(show(train, with_bos, sample, 32, colour=False) for sample in range(12))
        line = f" {' '.join(map(str, corpus.tolist()))} "
        for step in range(3):
            for row in train.tokens(train.samples(step)):
                assert f" {' '.join(map(str, row[1:].tolist()))} " in line
        assert "── a document begins ──" in shown
    finally:
        opened.close()
