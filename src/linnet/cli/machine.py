"""`linnet doctor`: what this machine is and what a run would pick for it."""

from __future__ import annotations

import json

import typer


def register(app: typer.Typer) -> None:
    """Add the verb to the program."""
    app.command("doctor")(doctor)


def doctor(as_json: bool = typer.Option(False, "--json", help="For programs.")) -> None:
    """Say what this machine is, what a run would pick for it, and why.

    Example: linnet doctor
    """
    import sys

    import torch

    from linnet import __version__
    from linnet.hardware import HardwareSettings, choose, describe, detect

    device = detect()
    picks = choose(HardwareSettings(), device).lines()
    facts = {
        "linnet": __version__,
        "python": sys.version.split()[0],
        "torch": torch.__version__,
        "machine": describe(device),
        **picks,
    }
    if as_json:
        typer.echo(json.dumps(facts, indent=2))
        return
    for name, value in facts.items():
        typer.echo(f"{name:<14} {value}")
