"""`smol-160m`'s datasets, small, as a hub serves them; its recipe, small; and what processes do with them."""

from __future__ import annotations

import copy
import gzip
import hashlib
import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import numpy as np
import zstandard
from formats import as_lines, as_parquet, fineweb_card
from hub import Files, Hub
from program import Process, Program, program

from linnet.data import world
from linnet.data.batches import IGNORE, Batch
from linnet.data.order import Permutation

FINEWEB, DCLM = "HuggingFaceFW/fineweb-edu", "mlfoundations/dclm-baseline-1.0"
CODE, MATHS = "codeparrot/codeparrot-clean", "open-web-math/open-web-math"
TITLES = (f"{FINEWEB}/sample-10BT", DCLM, CODE, MATHS)
SHARES = (0.435, 0.435, 0.1, 0.03)
DOCUMENTS = {FINEWEB: 400, DCLM: 480, CODE: 200, MATHS: 90}
NAMES = dict(zip(TITLES, (FINEWEB, DCLM, CODE, MATHS), strict=True))
DOMAINS = {"web": TITLES[:2], "code": TITLES[2:3], "math": TITLES[3:]}
LENGTH, BATCH, SHARD, VOCABULARY, SEED = 64, 8, 1024, 512, 1337
WINDOWS = SHARD // LENGTH
FRACTION = 0.05
OTHER = "data/CC-MAIN-2013-20/train-00000-of-00014.parquet"  # of another configuration

_PLAIN = b"---\nlicense: cc-by-4.0\n---\n# A dataset\n"


# --- what the hub holds --------------------------------------------------------------------------


@cache
def texts(dataset: str) -> tuple[str, ...]:
    """The documents of a dataset, all different, in the order of its files; no 64 tokens of two are alike."""
    seed = list(DOCUMENTS).index(dataset)
    made = (world.document("train", 20 + seed, number)["text"] for number in itertools.count())
    if dataset == CODE:
        made = (f"def story():\n    return {text!r}" for text in made)
    return tuple(f"{next(made)} ({seed}-{number})" for number in range(DOCUMENTS[dataset]))


def parquet(found: Sequence[str], group: int = 40) -> bytes:
    """Documents as parquet in row groups."""
    return as_parquet(found, group, score=[3.5] * len(found))


def _named(dataset: str, count: int, name: str, packed: Callable[[Sequence[str]], bytes]) -> Files:
    whole = texts(dataset)
    size = len(whole) // count
    return {name.format(i): packed(whole[size * i : size * (i + 1)]) for i in range(count)}


@cache
def _datasets() -> dict[str, Files]:
    def zst(part: Sequence[str]) -> bytes:
        return zstandard.compress(as_lines(part, url="u", bff=[1]))

    def gz(part: Sequence[str]) -> bytes:
        return gzip.compress(as_lines(part, "content", repo_name="r"))

    nested = "global-shard_0{}_of_10/local-shard_{}_of_10/shard_{:08}_processed.jsonl.zst"
    parts = _named(DCLM, 12, "{:02}", zst).values()
    dclm = {nested.format(1 + i // 4, i // 2 % 2, i % 2): part for i, part in enumerate(parts)}
    return {
        FINEWEB: {
            "README.md": fineweb_card("10BT"),
            OTHER: parquet(["of another configuration"]),
            **_named(FINEWEB, 20, "sample/10BT/{:03}_00000.parquet", parquet),
        },
        DCLM: {"README.md": _PLAIN, **dclm},
        CODE: {"README.md": _PLAIN, **_named(CODE, 5, "file-{:012}.json.gz", gz)},
        MATHS: {"README.md": _PLAIN, **_named(MATHS, 3, "data/train-{:05}-of-00003-5a023365406cb9c3.parquet", parquet)},
    }  # fmt: skip


def datasets() -> dict[str, Files]:
    """The four datasets, laid out as the real ones are; a copy that may be changed."""
    return {name: dict(files) for name, files in _datasets().items()}


def turned(files: Files) -> Files:
    """The same documents in files of other names and in another order; what is no data stays."""
    data = [name for name in files if name not in ("README.md", OTHER)]
    kept = {name: content for name, content in files.items() if name not in data}
    return kept | dict(zip(data, [files[name] for name in reversed(data)], strict=True))


def order_of(files: int, seed: int) -> list[int]:
    """The order in which a stream's files are read."""
    return Permutation(files, seed)(np.arange(files)).tolist()


def file_at(place: int, seed: int = SEED) -> str:
    """The file of FineWeb-Edu that is read as number `place`."""
    names = sorted(name for name in _datasets()[FINEWEB] if name.startswith("sample"))
    return names[order_of(len(names), seed)[place]]


class MovingHub(Hub):
    """A hub whose `main` may move on, while older commits are served as before."""

    def __init__(self, datasets: Mapping[str, Files]) -> None:
        super().__init__(datasets)
        self._past: list[Hub] = []
        self._server.RequestHandlerClass.disable_nagle_algorithm = True  # or each answer waits for 40 ms

    @contextmanager
    def moved(self, commit: str, datasets: Mapping[str, Files]) -> Iterator[None]:
        """For a while, `main` is another commit with other files."""
        before = copy.copy(self)
        self._past.append(before)
        self.datasets, self.commit = dict(datasets), commit
        try:
            yield
        finally:
            self.datasets, self.commit = before.datasets, before.commit
            self._past.clear()

    def _answer(self, request: BaseHTTPRequestHandler, path: str, sent: bytes, cut: int | None) -> None:
        Hub._answer(
            next((past for past in self._past if past.commit in path), self), request, path, sent, cut
        )


# --- the recipe ----------------------------------------------------------------------------------


def domains(*, streaming: bool = True, reverse: bool = False, **weights: float) -> str:
    """The recipe's domains again, some of them, with other weights or read whole, as a value to be laid over."""
    named = {
        "web": [({"dataset": FINEWEB, "name": "sample-10BT"}, 50), ({"dataset": DCLM}, 50)],
        "code": [({"dataset": CODE, "text_field": "content"}, 100)],
        "math": [({"dataset": MATHS}, 100)],
    }
    given = {
        name: {"weight": weights.get(name, 87 if name == "web" else 10 if name == "code" else 3),
               "sources": [{**source, "weight": weight, "streaming": streaming} for source, weight in sources]}
        for name, sources in named.items()
    }  # fmt: skip
    if reverse:
        for domain in given.values():
            domain["sources"].reverse()
        given = dict(reversed(given.items()))
    return json.dumps(given)


def overrides(folder: Path, tokenizer: Path, *more: str, **data: object) -> list[str]:
    """What is laid over `smol-160m` so that a test can have it; its datasets and weights stay what they are."""
    small = {
        "sequence_length": LENGTH, "shard_tokens": SHARD, "validation_fraction": FRACTION, "validation_documents": 6,
        "num_workers": 0, "preprocessing_processes": 1, "cache_dir": folder, "cache_gb": 0.01, "retry_minutes": 0.5,
    }  # fmt: skip
    model = {
        "hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2,
        "intermediate_size": 64, "max_position_embeddings": LENGTH, "vocab_size": VOCABULARY,
    }  # fmt: skip
    stage = {
        "duration": "24 steps", "train_batch_size": BATCH, "micro_batch_size": 4, "warmup_steps": 2,
        "logging_steps": 1, "eval_steps": 8, "eval_sequences": 12, "save_steps": 6, "save_minutes": 0,
        "sample_tokens": 0,
    }  # fmt: skip
    hardware = {"device": "cpu", "precision": "fp32", "compile": "false"}
    return [
        "stages=[pretrain]",
        f"tokenizer={tokenizer}",
        *(f"hardware.{key}={value}" for key, value in hardware.items()),
        *(f"model.{key}={value}" for key, value in model.items()),
        *(f"pretrain.{key}={value}" for key, value in stage.items()),
        *(f"pretrain.data.{key}={value}" for key, value in {**small, **data}.items()),
        *more,
    ]  # fmt: skip


@dataclass
class Site:
    """The hub, the program that asks it, and a tokenizer of what it holds."""

    folder: Path
    hub: MovingHub
    program: Program
    tokenizer: Path

    def overrides(self, cache: Path, *more: str, **data: object) -> list[str]:
        """What is laid over the recipe, for a cache."""
        return overrides(cache, self.tokenizer, *more, **data)

    def train(self, run: Path, cache: Path, *more: str, **data: object) -> Process:
        """Begin `linnet train smol-160m`, small."""
        given = self.overrides(cache, *more, **data)
        return self.program.linnet("train", "smol-160m", "--run", run, *given)

    def start(self, name: str, *arguments: object) -> Process:
        """Begin a function of a test module."""
        return self.program.start(name, *arguments)


@contextmanager
def site(folder: Path) -> Iterator[Site]:
    """All that a module of tests needs."""
    from linnet.text import train_tokenizer

    some = [text for name in DOCUMENTS for text in texts(name)[:60]]
    train_tokenizer(some, VOCABULARY).save(folder / "tokenizer")
    with MovingHub(datasets()) as hub, program(hub, folder) as made:
        yield Site(folder, hub, made, folder / "tokenizer")


# --- what is done in processes that know the hub -------------------------------------------------


@contextmanager
def opened(given: list[str], name: str = "smol-160m") -> Iterator[tuple[Any, Any, Any]]:
    """A recipe's corpus: (recipe, tokenizer, corpus)."""
    from linnet.data.opening import open_corpus
    from linnet.data.vocabulary import tokenizer_for
    from linnet.recipe import load_recipe

    recipe = load_recipe(name, given)
    tokenizer = tokenizer_for(recipe.tokenizer, recipe.pretrain.data)
    corpus = open_corpus(recipe.pretrain.data, tokenizer, recipe.seed)
    try:
        yield recipe, tokenizer, corpus
    finally:
        corpus.close()


def digest(row: np.ndarray) -> str:
    """As `linnet data peek --json` tells it."""
    return hashlib.sha256(row.astype("<i8").tobytes()).hexdigest()


def digests(batch: Batch) -> list[str]:
    """Of every sample of a batch."""
    rows = zip(batch.tokens.numpy(), batch.targets.numpy(), strict=True)
    return [digest(np.concatenate((tokens[:1], targets[targets != IGNORE]))) for tokens, targets in rows]
