"""`linnet checkpoints list`, `linnet checkpoints verify`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from linnet.config import LinnetError
    from linnet.train import Checkpoint

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
    found, damaged = _found(run)
    rows = [
        {
            "path": str(checkpoint.path),
            "stage": checkpoint.manifest.get("stage"),
            "step": checkpoint.step,
            "tokens": checkpoint.manifest.get("tokens"),
            "best": checkpoint.manifest.get("best") or {},
            "bytes": sum(f["size"] for f in checkpoint.manifest["files"].values()),
        }
        for checkpoint in found
    ]
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        _report(damaged)
        return
    for row in rows:
        best = "".join(f"  best {name} so far {value:.4f}" for name, value in row["best"].items())
        typer.echo(
            f"{row['path']}  step {row['step']:,}  {row['tokens']:,} tokens  {row['bytes'] / 1e6:,.1f} MB{best}"
        )
    _report(damaged)


def verify(run: Path = RUN) -> None:
    """Check every file of every checkpoint against the sha256 it was saved with.

    Example: linnet checkpoints verify runs/quickstart
    """
    from linnet.config import LinnetError
    from linnet.train import verify as check

    found, damaged = _found(run)
    for checkpoint in found:
        try:
            check(checkpoint)
        except LinnetError as error:
            damaged.append(error)
        else:
            typer.echo(f"{checkpoint.path}: whole")
    _report(damaged)


def _found(run: Path) -> tuple[list[Checkpoint], list[LinnetError]]:
    """The checkpoints that can be opened, and why others cannot."""
    from linnet.config import LinnetError, RequestError
    from linnet.train import open_checkpoint

    one = (run / "manifest.json").exists()
    folders = (
        [run] if one else sorted(path for path in run.glob("stages/*/checkpoints/step-*") if path.is_dir())
    )
    found: list[Checkpoint] = []
    damaged: list[LinnetError] = []
    for path in folders:
        try:
            found.append(open_checkpoint(path))
        except LinnetError as error:
            damaged.append(error)
    if not found and not damaged:
        raise RequestError("there is no checkpoint here", str(run), "give a run folder or a step-… folder")
    return found, damaged


def _report(damaged: list[LinnetError]) -> None:
    """Print a line for each damaged checkpoint; the last one is raised."""
    for error in damaged[:-1]:
        typer.echo(f"linnet: {error}", err=True)
    if damaged:
        raise damaged[-1]
