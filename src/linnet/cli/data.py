"""`linnet data build`, `linnet data peek`, `linnet data tokenizer`."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import typer

from linnet.cli.progress import BuildLine
from linnet.cli.train import OVERRIDES

RECIPE = typer.Argument(..., help="A shipped recipe's name, or a recipe file.")


def register(app: typer.Typer) -> None:
    """Add the verbs to the program."""
    group = typer.Typer(help="Build token shards, look at what the model will see, train a tokenizer.")
    group.command("build")(build)
    group.command("peek")(peek)
    group.command("tokenizer")(tokenizer)
    app.add_typer(group, name="data")


def build(
    recipe: str = RECIPE,
    overrides: list[str] = OVERRIDES,
    as_json: bool = typer.Option(False, "--json", help="For programs."),
) -> None:
    """Tokenise a recipe's documents into shards; finds them again when nothing has changed.

    Example: linnet data build tinystories-30m pretrain.data.sources=stories.txt
    """
    from linnet.data.shards.store import damaged_shards
    from linnet.recipe import load_recipe, prepare_pretraining

    with BuildLine() as line:
        ready = prepare_pretraining(load_recipe(recipe, overrides), line)
    store = ready.store
    damaged = [str(path) for path in damaged_shards(store)] if store.folder else []
    facts = {
        "folder": str(store.folder) if store.folder else None,
        "tokenizer": ready.tokenizer.name,
        "fingerprint": store.fingerprint,
        "train_tokens": store.train.tokens,
        "train_documents": store.train.documents,
        "validation_tokens": store.validation.tokens,
        "validation_documents": store.validation.documents,
        "damaged": damaged,
    }
    if as_json:
        typer.echo(json.dumps(facts, indent=2))
    else:
        for name, value in facts.items():
            if name != "damaged":
                typer.echo(f"{name:<22} {value:,}" if isinstance(value, int) else f"{name:<22} {value}")
    if damaged:
        from linnet.config import RunError

        raise RunError("these shards are damaged: " + ", ".join(damaged), str(store.folder),
                       "delete the folder and build again")  # fmt: skip


def peek(
    recipe: str = RECIPE,
    overrides: list[str] = OVERRIDES,
    samples: str = typer.Option("0:2", "--range", help="Global samples, FIRST:LAST (last left out)."),
    as_json: bool = typer.Option(
        False, "--json", help="Each sample's index, source and sha256 of its token ids."
    ),
    tokens: int = typer.Option(96, "--tokens", min=1, help="How many tokens of each sample to show."),
) -> None:
    """Show batches as the model sees them: tokens, document borders, targets.

    Example: linnet data peek quickstart --range 0:64 --json
    """
    from linnet.config import RequestError
    from linnet.data.peek import describe, show
    from linnet.recipe import load_recipe, prepare_pretraining

    first, _, last = samples.partition(":")
    if not (first.isdigit() and last.isdigit() and int(first) < int(last)):
        raise RequestError(f"{samples!r} is not a range", "--range", "write for example 0:64")
    with BuildLine() as line:
        ready = prepare_pretraining(load_recipe(recipe, overrides), line)
    colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    for index in range(int(first), int(last)):
        if as_json:
            typer.echo(json.dumps(describe(ready.train, index)))
        else:
            typer.echo(show(ready.train, ready.tokenizer, index, tokens, colour))


def tokenizer(
    files: list[str] = typer.Argument(..., help="Text files, folders or globs (or builtin:world)."),
    vocab_size: int = typer.Option(..., "--vocab-size", help="Tokens in all, special ones included."),
    out: Path = typer.Option(..., "--out", help="Folder for tokenizer.json and its companions."),
    text_field: str = typer.Option("text", "--text-field", help="Field or column that holds the text."),
    megabytes: float = typer.Option(256.0, "--megabytes", min=0.001, help="Read at most this much text."),
) -> None:
    """Train a byte-level BPE tokenizer on your own text.

    Example: linnet data tokenizer stories/*.txt --vocab-size 4096 --out my-tokenizer
    """
    from linnet.config import RequestError
    from linnet.data.settings import source_of
    from linnet.data.sources.documents import texts
    from linnet.text import train_tokenizer

    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise RequestError("this is there already", str(out), "give another --out")

    sources = [source_of(word, text_field) for word in files]

    def documents() -> Iterator[str]:
        left = megabytes * 1e6
        for text in chain.from_iterable(map(texts, sources)):
            yield text
            left -= len(text.encode())
            if left <= 0:
                return

    trained = train_tokenizer(documents(), vocab_size)
    try:
        out.mkdir(parents=True, exist_ok=True)
        trained.save(out)
    except OSError as error:
        raise RequestError(f"cannot be written ({error.strerror})", str(out), "give another --out") from None
    typer.echo(
        f"{out}: {trained.vocab_size:,} tokens; use it with tokenizer={out} model.vocab_size={trained.vocab_size}"
    )
