"""Runs so small that a test can have many: a language of a few words, a model of a few thousand weights."""

from __future__ import annotations

import multiprocessing
import os
import random
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import torch
import yaml

from linnet.data.batches import IGNORE, Batch
from linnet.hardware import HardwareSettings, choose, detect_cpu
from linnet.model import ModelSpec, Transformer, initialize
from linnet.observe import Evaluated, Event, Sampled, StepDone, effective, read_events
from linnet.recipe import Recipe, load_recipe
from linnet.train import TrainSettings
from linnet.train.engines import LocalEngine

CREATURES = {"fox": "red", "owl": "grey", "frog": "green", "crow": "black", "swan": "white", "bee": "yellow"}
PLACES = ("the river", "the hill", "the old mill", "the garden", "the barn", "the forest")
VERBS = ("walked to", "looked at", "sang about", "dreamt of", "flew over", "hid behind")


def document(draw: random.Random) -> str:
    """A few sentences; a creature has its own colour and stays the same, so much can be foretold."""
    creature = draw.choice(sorted(CREATURES))
    lines = [f"There was a {CREATURES[creature]} {creature}."]
    for _ in range(draw.randint(2, 4)):
        lines.append(f"The {CREATURES[creature]} {creature} {draw.choice(VERBS)} {draw.choice(PLACES)}.")
    return " ".join([*lines, f"Good night, {CREATURES[creature]} {creature}."])


def write_corpus(path: Path, documents: int = 400, seed: int = 7) -> Path:
    """A text file of documents parted by the separator line."""
    draw = random.Random(seed)
    path.write_text("\n<|endoftext|>\n".join(document(draw) for _ in range(documents)), encoding="utf-8")
    return path


def values(corpus: Path) -> dict[str, Any]:
    """A recipe as plain values: a two-layer Llama with dropout and a tokenizer of the corpus's own."""
    return {
        "name": "tiny",
        "seed": 5,
        "tokenizer": {"name": "trained", "vocab_size": 320},
        "model": {
            "architecture": "llama",
            "vocab_size": 320,
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "intermediate_size": 64,
            "max_position_embeddings": 64,
            "tie_word_embeddings": True,
            "dropout": 0.1,
        },
        "hardware": {"device": "cpu", "precision": "fp32", "compile": False},
        "pretrain": {
            "duration": "30 steps",
            "train_batch_size": 8,
            "micro_batch_size": 4,
            "learning_rate": 0.01,
            "warmup_steps": 3,
            "logging_steps": 1,
            "eval_steps": 5,
            "eval_sequences": 8,
            "save_steps": 4,
            "save_total_limit": 2,
            "sample_tokens": 0,
            "data": {
                "sources": [{"path": str(corpus)}],
                "validation_fraction": 0.1,
                "sequence_length": 32,
                "preprocessing_processes": 1,
                "cache_dir": str(corpus.parent / "cache"),
            },
        },
    }


def recipe_file(corpus: Path, folder: Path) -> Path:
    """The tiny recipe as a file."""
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(values(corpus)), encoding="utf-8")
    return path


def recipe(corpus: Path, folder: Path, *overrides: str) -> Recipe:
    """The tiny recipe with KEY=VALUE laid over it."""
    return load_recipe(str(recipe_file(corpus, folder)), list(overrides))


# --- what a run has said -------------------------------------------------------------------------


def told(run: Path) -> list[Event]:
    """The history of a run as if it had never been interrupted."""
    return effective(read_events(run / "events.jsonl"))


def losses(run: Path) -> dict[int, tuple[float, float]]:
    """Loss and gradient norm of every step."""
    steps = [event for event in told(run) if isinstance(event, StepDone)]
    assert len({event.step for event in steps}) == len(steps), "a step is told twice"
    return {event.step: (event.metrics["train/loss"], event.metrics["train/grad_norm"]) for event in steps}


def evaluations(run: Path) -> dict[int, float]:
    """Validation loss of every evaluation."""
    return {event.step: event.metrics["val/loss"] for event in told(run) if isinstance(event, Evaluated)}


def samples(run: Path) -> list[tuple[int, str]]:
    """Text written at evaluations."""
    return [(event.step, event.text) for event in told(run) if isinstance(event, Sampled)]


def checkpoints(run: Path) -> Path:
    return run / "stages" / "1-pretrain" / "checkpoints"


def weights(run: Path, step: int) -> bytes:
    """The bytes of a checkpoint's weights."""
    return (checkpoints(run) / f"step-{step:08d}" / "model" / "model.safetensors").read_bytes()


def assert_same_run(one: Path, other: Path, steps: int) -> None:
    """Both runs told the same to the last bit and ended in the same weights."""
    assert sorted(losses(one)) == list(range(1, steps + 1))
    assert losses(one) == losses(other)
    assert evaluations(one) == evaluations(other)
    assert samples(one) == samples(other)
    assert weights(one, steps) == weights(other, steps)
    best = "best.json"
    assert (checkpoints(one) / best).read_text() == (checkpoints(other) / best).read_text()


# --- ways to end a run ---------------------------------------------------------------------------


class Killed(BaseException):
    """Ends a run on the spot: nothing catches it, nothing is saved."""


class At:
    """An observer that does something at a step's event of a kind, once."""

    def __init__(self, step: int, action: Callable[[], None], kind: type[Event] = StepDone) -> None:
        self.step, self.action, self.kind = step, action, kind

    def __call__(self, event: Event) -> None:
        if isinstance(event, self.kind) and event.step == self.step:
            self.action()


def kill() -> None:
    raise Killed


# --- the real program in processes of its own ----------------------------------------------------


def _context() -> Any:
    """Forks from a process that has imported everything once: a start then costs a tenth of a second."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["warm"])
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(Path(__file__).parent), before)))
    forkserver.ensure_running()  # finds `warm` by it
    if before is None:
        del os.environ["PYTHONPATH"]
    else:
        os.environ["PYTHONPATH"] = before
    return context


def _program(arguments: list[str], output: str) -> None:
    os.setsid()
    handle = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    import torch

    torch.set_num_threads(1)
    from linnet.cli.main import main

    sys.argv = ["linnet", *arguments]
    main()


def start(arguments: list[str], output: Path) -> Any:
    """`linnet ARGUMENTS` in a process of its own; its words go to a file."""
    process = _context().Process(target=_program, args=(arguments, str(output)), daemon=False)
    process.start()
    return process


def lines_of(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def wait_until(condition: Callable[[], bool], process: Any, seconds: float = 60.0) -> bool:
    """Whether the condition came true before the process ended."""
    ends = time.monotonic() + seconds
    while not condition():
        if not process.is_alive():
            return condition()
        assert time.monotonic() < ends, "this takes too long"
        time.sleep(0.001)
    return True


@contextmanager
def one_thread() -> Iterator[None]:
    """For models so small that a second thread costs more than it brings."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def everything_in(folder: Path) -> dict[str, bytes]:
    """Every file of a folder and its bytes."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in _files(folder)}


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file())


# --- an engine without a run ---------------------------------------------------------------------


def settings(**changes: Any) -> TrainSettings:
    """Training settings with little to say."""
    some = {"duration": "100 steps", "train_batch_size": 8, "micro_batch_size": 8, "learning_rate": 1e-2}
    return TrainSettings.model_validate(some | changes)


def spec(**changes: Any) -> ModelSpec:
    """The tiny Llama's shape, without dropout."""
    shape = values(Path("."))["model"] | {"dropout": 0.0, "vocab_size": 97}
    return ModelSpec.model_validate(shape | changes)


def engine(precision: str = "fp32", model: ModelSpec | None = None, **changes: Any) -> LocalEngine:
    """A local engine on the CPU with a freshly initialised model."""
    hardware = HardwareSettings.model_validate({"device": "cpu", "precision": precision, "compile": False})
    network = Transformer(model or spec())
    initialize(network, 3)
    return LocalEngine(network, settings(**changes), choose(hardware, detect_cpu()), 24, seed=5)


def batch(rows: int = 8, length: int = 24, seed: int = 0, vocab_size: int = 97) -> Batch:
    """Rows that count upwards, each by its own stride; the first targets of each row are not counted."""
    draw = torch.Generator().manual_seed(seed)
    start, stride = torch.randint(vocab_size, (2, rows, 1), generator=draw)
    tokens = (start + (stride % 5 + 1) * torch.arange(length + 1)) % vocab_size
    targets = tokens[:, 1:].clone()
    for row in range(rows):
        targets[row, : (5 * row) % length] = IGNORE
    return Batch(tokens[:, :-1].contiguous(), targets)


def never() -> bool:
    return False


def gradients(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def state_of(engine: LocalEngine) -> dict[str, torch.Tensor]:
    """A copy of all weights and of all optimizer state."""
    weights = {name: p.detach().clone() for name, p in engine.model.named_parameters()}
    return weights | {name: value.clone() for name, value in engine.optimizer_state().items()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
