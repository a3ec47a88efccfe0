"""`linnet checkpoints list`, `linnet checkpoints verify`."""

from __future__ import annotations

import json
from pathlib import Path

import typer

RUN = typer.Argument(..., help="A run folder, or one checkpoint.")


def register(app: typer.Typer) -> None:
    """Add the verbs to the program."""
    group = typer.Typer(help="List a run's checkpoints and check that their bytes are what was saved.")
    group.command("list")(list_)
    group.command("verify")(verify)
    app.add_typer(group, name="checkpoints")


def list_(run: Path = RUN, as_json: bool = typer.Option(False, "--json", help="For programs.")) -> None:
    """List checkpoints with their step, tokens and the best that was measured.

    Example: linnet checkpoints list runs/quickstart
    """
    rows = [
        {
            "path": str(found.path),
            "stage": found.manifest.get("stage"),
            "step": found.step,
            "tokens": found.manifest.get("tokens"),
            "best": found.manifest.get("best") or {},
            "bytes": sum(f["size"] for f in found.manifest["files"].values()),
        }
        for found in _found(run)
    ]
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    for row in rows:
        best = "".join(f"  best {name} so far {value:.4f}" for name, value in row["best"].items())
        typer.echo(
            f"{row['path']}  step {row['step']:,}  {row['tokens']:,} tokens  {row['bytes'] / 1e6:,.1f} MB{best}"
        )


def verify(run: Path = RUN) -> None:
    """Check every file of every checkpoint against the sha256 it was saved with.

    Example: linnet checkpoints verify runs/quickstart
    """
    from linnet.train import verify as check

    for found in _found(run):
        check(found)
        typer.echo(f"{found.path}: whole")


def _found(run: Path):  # type: ignore[no-untyped-def]
    from linnet.config import RequestError
    from linnet.train import CheckpointFolder, open_checkpoint

    if (run / "manifest.json").exists():
        return [open_checkpoint(run)]
    folders = sorted(run.glob("stages/*/checkpoints"))
    found = [checkpoint for folder in folders for checkpoint in CheckpointFolder(folder).all()]
    if not found:
        raise RequestError("there is no checkpoint here", str(run), "give a run folder or a step-… folder")
    return found
