"""`linnet data audit`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from linnet.cli.progress import BuildLine, ProgressLine
from linnet.cli.train import OVERRIDES
from linnet.observe import counted, duration

if TYPE_CHECKING:
    from linnet.data.audit import AuditProgress


def audit(
    recipe: str = typer.Argument(..., help="A shipped recipe's name, or a recipe file."),
    overrides: list[str] = OVERRIDES,
    out: Path = typer.Option(
        None, "--out", help="Folder for audit.html and audit.json [default: audit-NAME]."
    ),
    samples: int = typer.Option(None, "--samples", min=1, help="Samples to read [default: of 100 batches]."),
    as_json: bool = typer.Option(False, "--json", help="For programs: what audit.json holds."),
) -> None:
    """Look for what is wrong with a recipe's data; fails when a rule of its data.audit is broken.

    Example: linnet data audit tinystories-30m pretrain.data.sources=stories.txt
    """
    from linnet.config import RunError
    from linnet.data.audit import audit as audited
    from linnet.data.audit import page
    from linnet.recipe import load_recipe, prepare_pretraining

    chosen = load_recipe(recipe, overrides)
    folder = out or Path(f"audit-{chosen.name}")
    _check(folder)
    with BuildLine() as line:
        ready = prepare_pretraining(chosen, line)
    try:
        with _AuditLine() as told:
            facts = audited(
                ready.corpus, ready.train, ready.tokenizer, recipe=chosen.name, seed=chosen.seed,
                total_steps=ready.total_steps, samples=samples, progress=told,
            )  # fmt: skip
    finally:
        ready.corpus.close()
    text = json.dumps(facts, indent=2)
    _write(folder, {"audit.html": page(facts), "audit.json": text + "\n"})
    typer.echo(text if as_json else _as_lines(facts, folder))
    broken = [rule for rule in facts["rules"] if not rule["passed"]]
    if broken:
        raise RunError(_broken(broken), "", f"{folder / 'audit.html'} says what to do")


def _broken(rules: list[dict[str, Any]]) -> str:
    """The first broken rule, and how many more there are."""
    from linnet.data.audit import percent

    first, more = rules[0], len(rules) - 1
    allowed = f" and {first['name']} allows {percent(first['asked'])}"
    rest = f"; {more} more {'rule is' if more == 1 else 'rules are'} broken" if more else ""
    return f"{first['label']}: {percent(first['found'])},{allowed}{rest}"


def _check(folder: Path) -> None:
    """Refuse to overwrite what is not an audit."""
    from linnet.config import RequestError
    from linnet.data.audit import KIND

    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    try:
        kind = json.loads((folder / "audit.json").read_text(encoding="utf-8"))["kind"]
    except (OSError, ValueError, KeyError, TypeError):
        kind = None
    if kind != KIND:
        raise RequestError("something that is not an audit is there", str(folder), "give another --out")


def _write(folder: Path, files: dict[str, str]) -> None:
    from linnet.config import RunError
    from linnet.storage import write_durably

    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            write_durably(folder / name, text.encode("utf-8", "replace"))
    except OSError as error:
        raise RunError(f"cannot be written ({error.strerror})", str(folder), "give another --out") from None


def _as_lines(facts: dict[str, Any], folder: Path) -> str:
    from linnet.data.audit import limit, percent

    documents, data = facts["documents"]["documents"], facts["data"]
    lines = [
        f"{facts['recipe']}: {counted(facts['tokens']['total'])} tokens in {documents:,} documents; "
        f"{facts['sequences']['samples']:,} samples of {data['sequence_length']:,}",
        "",
    ]
    for rule in facts["rules"]:
        said = "ok" if rule["passed"] else "BROKEN"
        lines.append(f"{said:<8}{rule['label']:<42} {percent(rule['found']):>15}  {limit(rule['asked'])}")
    lines.append("")
    for row in facts["sources"]:
        size = f"{counted(row['tokens'])} tokens, {row['documents']:,} documents"
        each = f"{row['bytes_per_token']:.2f} bytes a token"
        lines.append(f"{row['domain']:<10} {row['source']}: {size}, {each}")
    return "\n".join([*lines, "", f"{folder / 'audit.html'}"])


class _AuditLine(ProgressLine["AuditProgress"]):
    """How an audit goes."""

    def text(self, progress: AuditProgress, first: AuditProgress, seconds: float) -> str:
        """See ProgressLine."""
        line = f"{progress.doing}: {counted(progress.tokens)} of {counted(progress.of)} tokens"
        done = progress.tokens - first.tokens
        if done and seconds:
            left = duration(seconds * (progress.of - progress.tokens) / done)
            line += f", {counted(done / seconds)} tokens/s, {left} left"
        return line
