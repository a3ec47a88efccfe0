"""Rollouts beside transformers' `generate`: the same weights, prompts and greedy tokens, in turns.

    python benchmarks/rollouts.py --recipes quickstart tinystories-30m

Three kinds of work, from prompts of uneven length (left-padded for transformers, whose `generate` has
its cache of keys and values and its fused attention, and no gradients on either side):

- even: one batch, every row writes as many tokens as are allowed. What a step costs.
- own ends: some batches of prompts, every row ends where its own end comes. What rollouts of a language
  model look like; transformers runs a batch until its last row is done.
- groups: the same, but eight samples of each prompt, drawn at temperature 1. What GRPO asks for. Only
  here do the two draw different tokens, from the same distribution.

Where greedy tokens differ, the program fails. Weights are random, and so wide that greedy text does not
repeat itself; some tokens taken at random are ends, as many as make a text last about 50 tokens.
Tokens count up to and with their end; reading the prompts is part of the time.
"""

from __future__ import annotations

import argparse
import platform
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from linnet.hardware import describe, detect
from linnet.infer import Generator, SamplingSettings
from linnet.model import Transformer, count_parameters, initialize, load_model, save_model
from linnet.recipe import load_recipe

HERE = Path(__file__).parent
GROUP = 8
TOKENS_TO_AN_END = 48
Rows = list[list[int]]
OURS, PLAIN, THEIRS = "linnet", "linnet, one batch after another", "transformers"


class NoText:
    """Stands in for a tokenizer, because random tokens have no text."""

    def feed(self, token_id: int) -> str:
        return ""

    def finish(self) -> str:
        return ""


class Ids:
    """A vocabulary of ids, some of which are ends."""

    def __init__(self, vocab_size: int, ends: list[int]) -> None:
        self.vocab_size, self.eos_id, self.stop_ids = vocab_size, 0, ends

    def encode(self, text: str) -> list[int]:
        raise NotImplementedError(text)

    def stream_decoder(self, prompt: Any = ()) -> NoText:
        return NoText()


@dataclass
class Work:
    """Prompts to continue."""

    name: str
    prompts: Rows
    ends: list[int]
    new_tokens: int
    batch: int
    temperature: float = 0.0


def network(recipe: str, length: int) -> Transformer:
    """The recipe's shape with room for `length` tokens, and weights that give text without end."""
    spec = load_recipe(recipe).model
    assert spec is not None, f"{recipe} takes its model from elsewhere"
    spec = spec.model_copy(
        update={"max_position_embeddings": max(length, spec.max_position_embeddings), "dropout": 0.0,
                "attention_dropout": 0.0, "scale_embeddings": False, "initialization": "normal"}
    )  # fmt: skip
    model = Transformer(spec)
    initialize(model, 1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1 and "embed" not in name:
                parameter.mul_(8)
    return model


def works(vocab_size: int, batch: int, batches: int, new_tokens: int) -> list[Work]:
    """What is measured."""
    draw = random.Random(1)
    count = batch * batches
    prompts = [[draw.randrange(1, vocab_size) for _ in range(draw.randint(8, 64))] for _ in range(count)]
    ends = draw.sample(range(1, vocab_size), vocab_size // TOKENS_TO_AN_END)
    samples = [prompt for prompt in prompts[: len(prompts) // GROUP] for _ in range(GROUP)]
    return [
        Work("even", prompts[:batch], [], new_tokens, batch),
        Work("own ends", prompts, ends, new_tokens, batch),
        Work("groups", samples, ends, new_tokens, batch, 1.0),
    ]


def ours(model: Transformer, work: Work, slots: int | None, draw: int) -> Rows:
    """By our sampler: `slots` rows at once, or (None) one batch after another."""
    generator = Generator(model, Ids(model.spec.vocab_size, work.ends))
    settings = SamplingSettings(temperature=work.temperature, max_new_tokens=work.new_tokens, seed=draw)
    if slots:
        return [said.ids for said in generator.generate(work.prompts, settings, slots=slots)]
    found: Rows = []
    for start in range(0, len(work.prompts), work.batch):
        prompts = work.prompts[start : start + work.batch]
        numbers = range(start, start + len(prompts))
        found += [said.ids for said in generator.generate(prompts, settings, samples=numbers)]
    return found


def theirs(model: Any, work: Work, draw: int) -> Rows:
    """By transformers, one batch after another, padded on the left."""
    torch.manual_seed(draw)
    found: Rows = []
    for start in range(0, len(work.prompts), work.batch):
        prompts = work.prompts[start : start + work.batch]
        longest = max(map(len, prompts))
        gaps = [longest - len(prompt) for prompt in prompts]
        made = model.generate(
            torch.tensor([[0] * gap + prompt for gap, prompt in zip(gaps, prompts, strict=True)]),
            attention_mask=torch.tensor([[0] * gap + [1] * (longest - gap) for gap in gaps]),
            max_new_tokens=work.new_tokens,
            do_sample=work.temperature > 0,
            temperature=work.temperature or None,
            top_k=0 if work.temperature else None,
            eos_token_id=work.ends or None,
            pad_token_id=0,
        )
        found += [to_end(row, set(work.ends)) for row in made[:, longest:].tolist()]
    return found


def to_end(row: list[int], ends: set[int]) -> list[int]:
    """A row up to and with its end."""
    return row[: next((place for place, token in enumerate(row) if token in ends), len(row)) + 1]


def measure(
    work: Work, ways: dict[str, Callable[[int], Rows]], rounds: int
) -> dict[str, list[dict[str, float]]]:
    """Tokens a second of wall and of processor time of each way, in turns.

    Raises:
        SystemExit: when greedy tokens differ.
    """
    found: dict[str, list[dict[str, float]]] = {name: [] for name in ways}
    for number in range(1, rounds + 1):
        said: dict[str, Rows] = {}
        for name, way in ways.items():
            wall, processor = time.perf_counter(), time.process_time()
            said[name] = way(number)
            wall, processor = time.perf_counter() - wall, time.process_time() - processor
            tokens = sum(map(len, said[name]))
            found[name].append({"wall": tokens / wall, "processor": tokens / processor, "tokens": tokens})
            print(f"{work.name}, round {number}: {name}: {tokens / wall:,.0f} tokens/s", file=sys.stderr)
        if work.temperature == 0 and any(rows != said[THEIRS] for rows in said.values()):
            wrong = sum(a != b for a, b in zip(said[OURS], said[THEIRS], strict=True))
            raise SystemExit(f"{work.name}: {wrong} of {len(work.prompts)} rows have other tokens")
    return found


def lines(work: Work, found: dict[str, list[dict[str, float]]]) -> list[str]:
    """A table's rows: best speed, and how much faster Linnet was in the same round."""
    made = []
    for name, rounds in found.items():
        cells = []
        for clock in ("wall", "processor"):
            ratios = [a[clock] / b[clock] for a, b in zip(found[OURS], rounds, strict=True)]
            cells.append(f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
        best = max(one["wall"] for one in rounds)
        tokens = statistics.mean(one["tokens"] for one in rounds)
        each = tokens / len(work.prompts)
        made.append(
            f"| {work.name} | {name} | {len(work.prompts)} × {each:.0f} | {best:,.0f} | {' | '.join(cells)} |"
        )
    return made


def compare(recipe: str, args: argparse.Namespace) -> str:
    """One recipe's table."""
    from transformers import AutoModelForCausalLM

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save_model(network(recipe, 64 + args.new_tokens), folder, eos_id=0)
        model, stock = load_model(folder), AutoModelForCausalLM.from_pretrained(folder).eval()
    stock.generation_config.eos_token_id = None
    spec = model.spec
    made = [
        f"## `{recipe}`: {spec.architecture}, {count_parameters(spec).total / 1e6:.1f}M parameters, "
        f"{spec.num_hidden_layers} layers, {spec.vocab_size:,} tokens\n",
        "| work | program | rows × tokens | tokens/s, best | Linnet is faster by, median (spread) "
        "| by processor time |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    small = Work("warming up", [[1, 2]] * 2, [], 4, 2)
    ours(model, small, 1, 0), theirs(stock, small, 0)
    for work in works(spec.vocab_size, args.batch, args.batches, args.new_tokens):
        if work.name not in args.works:
            continue
        ways: dict[str, Callable[[int], Rows]] = {
            OURS: lambda draw, work=work: ours(model, work, work.batch, draw),  # type: ignore[misc]
            PLAIN: lambda draw, work=work: ours(model, work, None, draw),  # type: ignore[misc]
            THEIRS: lambda draw, work=work: theirs(stock, work, draw),  # type: ignore[misc]
        }
        if len(work.prompts) == work.batch:
            del ways[PLAIN]  # the same
        made += lines(work, measure(work, ways, args.rounds))
    return "\n".join(made)


def main() -> None:
    """Measure recipe after recipe; write the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--recipes", nargs="+", default=["quickstart", "tinystories-30m"])
    parser.add_argument("--works", nargs="+", default=["even", "own ends", "groups"])
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--batches", type=int, default=8)
    parser.add_argument(
        "--new-tokens", type=int, default=192, help="by default what a context of 256 has room for"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--out", default="", help="the file to write the tables to")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    import transformers

    made = [
        f"# Rollouts, {args.batch} rows at once\n\n{time.strftime('%Y-%m-%d')}, {describe(detect())}, Python "
        f"{platform.python_version()}, torch {torch.__version__}, transformers {transformers.__version__}; FP32, "
        f"{torch.get_num_threads()} thread(s); {args.rounds} rounds, each program in turn. Prompts of 8 to 64 "
        f"tokens, at most {args.new_tokens} new ones.\nGreedy tokens (even, own ends) were the same in every "
        "row; `benchmarks/rollouts.py` says what the works are."
    ]
    made += [compare(recipe, args) for recipe in args.recipes]
    text = "\n\n".join(made) + "\n"
    print(text)
    if args.out:
        Path(args.out).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
