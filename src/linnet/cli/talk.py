"""`linnet generate`, `linnet chat`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from linnet.infer import Generator, SamplingSettings

CHECKPOINT = typer.Argument(..., help="A run folder, a checkpoint, or a stock model folder.")


def register(app: typer.Typer) -> None:
    """Add the verbs to the program."""
    app.command("generate")(generate)
    app.command("chat")(chat)


def generate(
    checkpoint: Path = CHECKPOINT,
    prompt: list[str] = typer.Option([], "--prompt", help="What to continue; may be given several times."),
    interactive: bool = typer.Option(False, "--interactive", help="Read prompts from the terminal."),
    max_new_tokens: int = typer.Option(128, "--max-new-tokens"),
    temperature: float = typer.Option(0.8, "--temperature", help="0 always takes the likeliest token."),
    top_k: int = typer.Option(50, "--top-k", help="0 keeps all."),
    top_p: float = typer.Option(1.0, "--top-p"),
    min_p: float = typer.Option(0.0, "--min-p"),
    repetition_penalty: float = typer.Option(1.0, "--repetition-penalty"),
    stop: list[str] = typer.Option([], "--stop", help="End before this text; may be given several times."),
    seed: int = typer.Option(0, "--seed"),
    best: bool = typer.Option(False, "--best", help="Of a run folder, the best checkpoint, not the last."),
    as_json: bool = typer.Option(False, "--json", help="For programs: one object a prompt."),
) -> None:
    """Continue text with a trained model.

    Example: linnet generate runs/quickstart --prompt "One morning" --temperature 0.7
    """
    from linnet.infer import SamplingSettings

    settings = _settings(
        SamplingSettings, max_new_tokens=max_new_tokens, temperature=temperature, top_k=top_k, top_p=top_p,
        min_p=min_p, repetition_penalty=repetition_penalty, stop=list(stop), seed=seed,
    )  # fmt: skip
    generator = _load(_model_folder(checkpoint, best))
    if interactive:
        typer.echo("Write the beginning of a text; an empty line or Ctrl-D ends.")
        _converse(lambda line: _stream(generator, line, settings))
        return
    prompts = prompt or [""]
    if as_json:
        for text, done in zip(prompts, generator.generate(prompts, settings), strict=True):
            row = {
                "prompt": text,
                "text": done.text,
                "finish_reason": done.finish_reason,
                "ids": list(done.ids),
            }
            typer.echo(json.dumps(row, ensure_ascii=False))
        return
    for text in prompts:
        _stream(generator, text, settings, echo=text)


def chat(
    checkpoint: Path = CHECKPOINT,
    max_new_tokens: int = typer.Option(256, "--max-new-tokens"),
    temperature: float = typer.Option(0.7, "--temperature"),
    top_p: float = typer.Option(0.95, "--top-p"),
    seed: int = typer.Option(0, "--seed"),
    best: bool = typer.Option(False, "--best", help="Of a run folder, the best checkpoint, not the last."),
) -> None:
    """Talk with a trained model; it remembers the conversation until its context is full.

    A model that has a chat template is spoken to in turns. One that has none only continues
    text: your lines and its own make one growing text.

    Example: linnet chat runs/quickstart
    """
    from linnet.infer import SamplingSettings
    from linnet.infer.conversation import open_conversation
    from linnet.text import Tokenizer
    from linnet.text.chat_template import ChatTemplate

    settings = _settings(
        SamplingSettings, max_new_tokens=max_new_tokens, temperature=temperature, top_p=top_p, seed=seed
    )
    folder = _model_folder(checkpoint, best)
    tokenizer, template = Tokenizer.load(folder), ChatTemplate.load(folder)
    conversation = open_conversation(_load(folder), tokenizer, template, settings)
    typer.echo(f"{conversation.description} An empty line or Ctrl-D ends.")

    def reply(line: str) -> None:
        for piece in conversation.say(line):
            sys.stdout.write(piece)
            sys.stdout.flush()
        typer.echo("")

    _converse(reply)


def _model_folder(checkpoint: Path, best: bool) -> Path:
    from linnet.infer import find_model

    return find_model(checkpoint, "best" if best else "last")


def _load(folder: Path) -> Generator:
    from linnet.hardware import HardwareSettings, choose, detect
    from linnet.infer import load_generator

    return load_generator(folder, device=choose(HardwareSettings(), detect()).device.value)


def _settings(section: type[SamplingSettings], **values: object) -> SamplingSettings:
    from linnet.config import Layers, validate

    places: dict[tuple[str, ...], str] = {(name,): f"--{name.replace('_', '-')}" for name in values}
    return validate(section, Layers(dict(values), places))


def _converse(reply: Callable[[str], None]) -> None:
    while True:
        try:
            line = input("> ")
        except (EOFError, KeyboardInterrupt):
            typer.echo("")
            return
        if not line.strip():
            return
        reply(line)


def _stream(generator: Generator, prompt: str, settings: SamplingSettings, echo: str = "") -> None:
    pieces = generator.stream(prompt, settings)  # a prompt that is refused is refused before it is shown
    typer.echo(echo, nl=False)
    for piece in pieces:
        sys.stdout.write(piece)
        sys.stdout.flush()
    typer.echo("")
