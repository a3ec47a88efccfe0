"""`linnet bench`: what a recipe's training step does on this machine."""

from __future__ import annotations

import dataclasses
import json

import typer

from linnet.cli.train import OVERRIDES


def register(app: typer.Typer) -> None:
    """Add the verb to the program."""
    app.command("bench")(bench)


def bench(
    recipe: str = typer.Argument(..., help="A shipped recipe's name, or a recipe file."),
    overrides: list[str] = OVERRIDES,
    steps: int = typer.Option(10, "--steps", min=1, help="Steps to time."),
    warmup: int = typer.Option(2, "--warmup", min=1, help="Steps before, not timed; the first one compiles."),
    as_json: bool = typer.Option(False, "--json", help="For programs."),
) -> None:
    """Measure a recipe's training step: speed, share of the machine's matrix rate, memory, data wait.

    Example: linnet bench tinystories-30m pretrain.train_batch_size=32 --steps 5
    """
    from linnet.hardware import choose, describe, detect
    from linnet.plan import measure_step
    from linnet.recipe import document_stage, load_recipe

    chosen = load_recipe(recipe, overrides)
    stage = document_stage(chosen)
    assert chosen.model is not None  # a recipe of fresh weights has one
    choices = choose(chosen.hardware, detect(), stage.data.sequence_length, chosen.model.attention_dropout)
    found = measure_step(chosen.model, stage, stage.data, choices, steps, warmup, chosen.seed)
    if as_json:
        typer.echo(json.dumps({"recipe": chosen.name, **dataclasses.asdict(found)}, indent=2))
        return
    of_peak = ""
    if found.mfu and found.peak_flops:
        of_peak = (
            f", {100 * found.mfu:.1f}% of the datasheet's {found.peak_flops / 1e12:,.0f} "
            f"({100 * (found.mfu_causal_documents or 0):.1f}% without what masks leave out)"
        )
    rows = {
        "machine": describe(choices.machine),
        "model": f"{found.parameters / 1e6:,.1f}M parameters, {found.precision}, {found.attention} attention, "
        + ("compiled" if found.compiled else "not compiled"),
        "step": f"{found.train_batch_size} × {found.sequence_length} tokens, {found.micro_batch_size} rows at a time",
        "tokens/s": f"{found.tokens_per_second:,.0f} best, {found.tokens_per_second_median:,.0f} median of {steps}",
        "matrix products": f"{found.model_flops_per_second / 1e12:,.3f} TFLOP/s, "
        f"{100 * found.share_of_matrix_rate:.0f}% of this machine's own {found.matrix_rate / 1e12:,.3f}{of_peak}",
        "peak memory": f"{found.peak_memory_bytes / 1e9:,.2f} GB",
        "waiting for data": f"{found.data_wait_percent:.1f}%",
        "first step": f"{found.first_step_seconds:.1f} s (compilation included)",
    }
    for name, value in rows.items():
        typer.echo(f"{name:<17} {value}")
