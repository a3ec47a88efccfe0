"""The program `linnet`: its verbs, and how every error becomes one line and an exit code.

Exit codes: 0 done, 1 failed, 2 the request is wrong (nothing was touched), 75 stopped on
request with everything saved.
"""

from __future__ import annotations

import io
import os
import sys
from contextlib import suppress
from typing import Any

import typer

from linnet import __version__
from linnet.cli import bench, checkpoints, data, machine, talk, train
from linnet.config import LinnetError, one_line

TRACEBACK = "LINNET_TRACEBACK"  # set, an error that nothing has explained is shown whole
INTERRUPTED = 130  # what typer makes of Ctrl-C
_QUIET = ("HF_HUB_VERBOSITY", "DATASETS_VERBOSITY")  # what their libraries warn of, a line of ours says
# ClickException: of click, or of the copy of it that newer typers carry.
WrongUsage: Any = typer.BadParameter.__mro__[2]

app = typer.Typer(
    name="linnet",
    help="Train small language models from raw text to a model you can talk to.",
    epilog="Begin with: linnet quickstart",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
train.register(app)
data.register(app)
talk.register(app)
checkpoints.register(app)
machine.register(app)
bench.register(app)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"linnet {__version__}")
        raise typer.Exit


@app.callback()
def _top(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Show the version."
    ),
) -> None:
    """Train small language models from raw text to a model you can talk to."""


def _of_the_machine(error: OSError | UnicodeError | MemoryError) -> str:
    """A failure of the machine that nothing nearer to it has explained, as one line."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return "out of memory" if isinstance(error, MemoryError) else one_line(error)


def main() -> None:
    """Run the program; an error a person can act on is one line on standard error."""
    for name in _QUIET:
        os.environ.setdefault(name, "error")
    _write_what_can_be_written()
    try:
        code = app(sys.argv[1:] or ["--help"], standalone_mode=False)
    except LinnetError as error:
        _tell(error.line())
        code = error.exit_code
    except WrongUsage as error:
        what = " ".join(error.format_message().split()).rstrip(".")
        _tell(f"{what[0].lower()}{what[1:]}; see linnet --help")
        code = 2
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except BrokenPipeError:
        code = 0  # whoever read the output has seen enough
    except (OSError, UnicodeError, MemoryError) as error:
        if os.environ.get(TRACEBACK):
            raise
        _tell(f"{_of_the_machine(error)}; {TRACEBACK}=1 shows where")
        code = 1
    if code == INTERRUPTED:
        _tell("stopped; run the same command again to go on")
        code = train.STOPPED
    _let_go()
    sys.exit(code if isinstance(code, int) else 0)


def _tell(line: str) -> None:
    with suppress(BrokenPipeError):
        print(f"linnet: {line}", file=sys.stderr, flush=True)


def _write_what_can_be_written() -> None:
    """Replace what a terminal's encoding does not have, and what is no text in what a person types."""
    for stream in (sys.stdin, sys.stdout):
        if isinstance(stream, io.TextIOWrapper):
            with suppress(io.UnsupportedOperation):  # something was read from it already
                stream.reconfigure(errors="replace")


def _let_go() -> None:
    """Drop what nobody reads any more, or the interpreter would complain of it at its end."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


if __name__ == "__main__":
    main()
