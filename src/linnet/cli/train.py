"""`linnet train`, `linnet quickstart`, `linnet recipes`."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from linnet.cli.progress import BuildLine

if TYPE_CHECKING:
    from linnet.recipe import Recipe

STOPPED = 75
OVERRIDES = typer.Argument(None, metavar="[KEY=VALUE]...", help="Values laid over the recipe.")


def register(app: typer.Typer) -> None:
    """Add the verbs to the program."""
    app.command("quickstart")(quickstart)
    app.command("train")(train)
    app.command("recipes")(recipes)


def train(
    recipe: str = typer.Argument(..., help="A shipped recipe's name, or a recipe file."),
    overrides: list[str] = OVERRIDES,
    run: Path = typer.Option(None, "--run", help="The run folder [default: runs/NAME]."),
    stage: str = typer.Option(
        None, "--stage", metavar="NAME", help="Run this stage alone; those before it must be done."
    ),
    fresh: bool = typer.Option(
        False, "--fresh", help="Set an earlier run of this folder aside and begin again."
    ),
) -> None:
    """Train a recipe's stages in order, in a run folder; the same command again goes on where it stopped.

    Example: linnet train tinystories-30m pretrain.data.sources=stories.txt pretrain.duration="300 steps"
    """
    from linnet.recipe import load_recipe

    _live(load_recipe(recipe, overrides), run, fresh, stage)


def quickstart(
    overrides: list[str] = OVERRIDES,
    run: Path = typer.Option(None, "--run", help="The run folder [default: runs/quickstart]."),
    fresh: bool = typer.Option(
        False, "--fresh", help="Set an earlier run of this folder aside and begin again."
    ),
) -> None:
    """Take a small model through its whole life on built-in data, in minutes on two CPU cores.

    Example: linnet quickstart
    """
    from linnet.recipe import load_recipe

    folder = _live(load_recipe("quickstart", overrides), run, fresh)
    _speak(folder)


def _live(recipe: Recipe, run: Path | None, fresh: bool, stage: str | None = None) -> Path:
    from linnet.observe import Console, effective, read_events
    from linnet.recipe import RunFolder, live, table_of

    folder = run or Path("runs") / recipe.name
    typer.echo(f"{recipe.name} in {folder}")

    def watch(opened: RunFolder) -> list[Console]:
        return [Console(earlier=effective(read_events(opened.events)))]

    colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    with BuildLine() as line:
        outcome = live(recipe, folder, watch, line, fresh, lambda look: typer.echo(look(colour)), stage)
    if outcome == "stopped":
        typer.echo("stopped with everything saved; run the same command again to go on")
        raise typer.Exit(STOPPED)
    board = table_of(RunFolder(folder), recipe.life)
    if board:
        typer.echo(
            f"\nWhat each stage came to on held-out items (▼ worse than before, beyond chance):\n\n{board}\n"
        )
        typer.echo(f"scoreboard: {folder / 'scoreboard.json'}")
    typer.echo(f"curves: {folder / 'curves.png'}")
    talk = "chat" if recipe.life != ["pretrain"] else "generate"
    typer.echo(f"talk to it: linnet {talk} {folder}" + (' --prompt "..."' if talk == "generate" else ""))
    return folder


def _speak(folder: Path) -> None:
    """Show the same prompts answered by every stage."""
    path = folder / "scoreboard.json"
    if not path.exists():  # there was one stage
        return
    board = json.loads(path.read_text(encoding="utf-8"))
    for asked in board["answers"]:
        typer.echo(f"\n  {asked.pop('prompt')}")
        for stage, answer in asked.items():
            typer.echo(f"    {stage:<9} {' '.join((answer or '').split())[:160]}")


def recipes(
    name: str = typer.Argument(None, help="Show this recipe with every default filled in."),
    as_json: bool = typer.Option(False, "--json", help="For programs."),
) -> None:
    """List the recipes that ship, or show one.

    Example: linnet recipes smol-160m
    """
    from linnet.model import count_parameters
    from linnet.recipe import as_yaml, load_recipe, shipped

    if name:
        recipe = load_recipe(name)
        shown = json.dumps(recipe.model_dump(mode="json"), indent=2) if as_json else as_yaml(recipe).rstrip()
        typer.echo(shown)
        return
    rows: list[dict[str, Any]] = []
    for each in shipped():
        recipe = load_recipe(each)
        assert recipe.model is not None  # a recipe that ships begins with fresh weights
        count = count_parameters(recipe.model)
        rows.append({
            "name": each, "architecture": recipe.model.architecture, "parameters": count.total,
            "parameters_without_embeddings": count.without_embeddings, "description": recipe.description,
        })  # fmt: skip
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    for row in rows:
        size = f"{row['parameters'] / 1e6:,.1f}M"
        typer.echo(f"{row['name']:<16} {row['architecture']:<8} {size:>9}  {row['description']}")
