"""`linnet data build`, `linnet data peek`, `linnet data tokenizer`."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from linnet.cli.audit import audit
from linnet.cli.progress import BuildLine
from linnet.cli.scale import destination, part_facts, part_lines, send_stores
from linnet.cli.train import OVERRIDES

if TYPE_CHECKING:
    from linnet.data.corpus import Corpus

RECIPE = typer.Argument(..., help="A shipped recipe's name, or a recipe file.")


def register(app: typer.Typer) -> None:
    """Add the verbs to the program."""
    group = typer.Typer(help="Build token shards, look at what the model will see, train a tokenizer.")
    group.command("build")(build)
    group.command("audit")(audit)
    group.command("peek")(peek)
    group.command("tokenizer")(tokenizer)
    app.add_typer(group, name="data")


def build(
    recipe: str = RECIPE,
    overrides: list[str] = OVERRIDES,
    part: str = typer.Option(
        None, "--part", metavar="K/N", help="Make only every Nth piece, from the Kth; 0/N only prepares."
    ),
    out: str = typer.Option(None, "--out", help="Copy the finished stores to this folder, s3:// or gs://."),
    as_json: bool = typer.Option(False, "--json", help="For programs."),
) -> None:
    """Tokenise a recipe's documents into shards; finds them again when nothing has changed.

    Example: linnet data build tinystories-30m pretrain.data.sources=stories.txt
    """
    from linnet.config import RequestError, RunError
    from linnet.data.shards.store import damaged_shards
    from linnet.recipe import load_recipe, prepare_pretraining

    found = load_recipe(recipe, overrides)
    if part:
        if out:
            raise RequestError("a part of a build has no stores to copy", "--out",
                               "give it to the build that comes after all parts")  # fmt: skip
        made = part_facts(found, part)
        typer.echo(json.dumps(made, indent=2) if as_json else part_lines(made, recipe))
        return
    to = destination(found, out) if out else None
    with BuildLine() as line:
        ready = prepare_pretraining(found, line)
    corpus = ready.corpus
    damaged = [str(path) for store in corpus.stores if store.folder for path in damaged_shards(store)]
    facts = {
        "tokenizer": ready.tokenizer.name,
        "fingerprint": corpus.fingerprint,
        "sources": [component.facts() for component in corpus.components],
        "validation": {
            name: {"tokens": windows.split.tokens, "documents": windows.split.documents}
            for name, windows in corpus.validation.items()
        },
        **_totals(corpus),
        "damaged": damaged,
    }
    if to and not damaged:
        facts["sent"] = send_stores(ready, to)
    typer.echo(json.dumps(facts, indent=2) if as_json else _as_lines(facts))
    if damaged:
        raise RunError("these shards are damaged: " + ", ".join(damaged), "",
                       "delete their folders and build again")  # fmt: skip


def _totals(corpus: Corpus) -> dict[str, int | None]:
    """Tokens and documents of both splits; what is streamed is not known beforehand."""
    trained = [component.split for component in corpus.components]
    held_out = [windows.split for windows in corpus.validation.values()]
    whole = all(trained)
    return {
        "train_tokens": sum(split.tokens for split in trained if split) if whole else None,
        "train_documents": sum(split.documents for split in trained if split) if whole else None,
        "validation_tokens": sum(split.tokens for split in held_out),
        "validation_documents": sum(split.documents for split in held_out),
    }


def _as_lines(facts: dict[str, Any]) -> str:
    lines = [f"tokenizer    {facts['tokenizer']}", f"fingerprint  {facts['fingerprint']}"]
    for source in facts["sources"]:
        size = "streamed: its shards are made when they are read"
        if not source["streamed"]:
            size = f"{source['tokens']:,} tokens in {source['documents']:,} documents"
        lines.append(f"{source['domain']:<12} {source['title']}: {size}")
        lines += [f"{'':<12} {folder}" for folder in source["folders"]]
        left_out = {k: v for k, v in source["left_out"].items() if v and k != "rows"}
        if left_out:
            said = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in left_out.items())
            lines.append(f"{'':<12} left out of {source['left_out']['rows']:,} rows: {said}")
    for name, held in facts["validation"].items():
        lines.append(f"held out     {name}: {held['tokens']:,} tokens in {held['documents']:,} documents")
    for sent in facts.get("sent", []):
        lines.append(f"copied       {sent['place']}: {sent['files']} files, {sent['sent']} of them now")
    return "\n".join(lines)


def peek(
    recipe: str = RECIPE,
    overrides: list[str] = OVERRIDES,
    samples: str = typer.Option("0:2", "--range", help="Global samples, FIRST:LAST (last left out)."),
    as_json: bool = typer.Option(
        False, "--json", help="Each sample's index, source and sha256 of its token ids."
    ),
    tokens: int = typer.Option(96, "--tokens", min=1, help="How many tokens of each sample to show."),
    stage: str = typer.Option(
        "pretrain", "--stage", metavar="NAME", help="Of a later stage: examples, masks and counts."
    ),
) -> None:
    """Show batches as the model sees them: tokens, document borders, targets.

    Example: linnet data peek quickstart --range 0:64 --json
    """
    from linnet.config import RequestError
    from linnet.data.peek import describe, show
    from linnet.recipe import load_recipe, look_at_stage, prepare_pretraining

    colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    if stage != "pretrain":
        look_at_stage(load_recipe(recipe, overrides), stage, lambda look: typer.echo(look(colour)))
        return

    first, _, last = samples.partition(":")
    if not (first.isdigit() and last.isdigit() and int(first) < int(last)):
        raise RequestError(f"{samples!r} is not a range", "--range", "write for example 0:64")
    with BuildLine() as line:
        ready = prepare_pretraining(load_recipe(recipe, overrides), line)
    try:
        for index in range(int(first), int(last)):
            if as_json:
                typer.echo(json.dumps(describe(ready.train, index)))
            else:
                typer.echo(show(ready.train, ready.tokenizer, index, tokens, colour))
    except IndexError:
        raise RequestError("the sources are used up before it", "--range", "give a smaller one") from None
    finally:
        ready.corpus.close()


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
