"""The house stands: rooms import from the floors below them, and only the front door talks to a terminal."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import linnet

SOURCE = Path(linnet.__file__).parent
FLOORS = (
    ("config",), ("hardware", "storage"),  # all on floor 0, which has two steps
    ("model", "text", "observe"), ("data", "infer"), ("objectives",), ("train",),
    ("plan", "evaluate", "export", "serve", "report"), ("recipe",), ("cli",),
)  # fmt: skip
HEIGHT = {room: height for height, rooms in enumerate(FLOORS) for room in rooms}
FILES = sorted(SOURCE.rglob("*.py"))


def room_of(path: Path) -> str | None:
    """The room of a file; None for the package's own `__init__`."""
    parts = path.relative_to(SOURCE).parts
    return parts[0] if len(parts) > 1 else None


def imports(path: Path) -> set[tuple[str, ...]]:
    """Every module that a file imports, wherever it stands in it, split at its dots."""
    found: set[tuple[str, ...]] = set()
    package = ("linnet", *path.relative_to(SOURCE).parts[:-1])
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {tuple(alias.name.split(".")) for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            module = (*above, *(node.module.split(".") if node.module else ()))
            found |= {(*module, alias.name) for alias in node.names}
    return found


def rooms_used(path: Path) -> set[str]:
    return {name[1] for name in imports(path) if name[0] == "linnet" and len(name) > 1 and name[1] in HEIGHT}


def test_every_room_has_a_floor() -> None:
    rooms = {path.parent.relative_to(SOURCE).parts[0] for path in FILES if path.parent != SOURCE}
    assert rooms <= HEIGHT.keys()
    assert len(FILES) > 50


def test_rooms_import_only_from_below() -> None:
    """Neither upwards nor across a floor; so there are no circles either."""
    wrong = [
        f"{path.relative_to(SOURCE)} imports linnet.{used}"
        for path in FILES
        if (room := room_of(path)) is not None
        for used in rooms_used(path)
        if used != room and HEIGHT[used] >= HEIGHT[room]
    ]
    assert not wrong


def test_the_check_sees_imports_of_every_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forms = {
        "import linnet.train.trainer": "train",
        "from linnet.train import Trainer": "train",
        "from linnet import recipe": "recipe",
        "def f():\n    from linnet.cli.main import app": "cli",
        "from ..recipe import live": "recipe",
        "from .. import data": "data",
    }
    monkeypatch.setattr("test_floors.SOURCE", tmp_path)
    (tmp_path / "config").mkdir()
    for text, room in forms.items():
        file = tmp_path / "config" / "some.py"
        file.write_text(text)
        assert rooms_used(file) == {room}, text


def calls_and_names(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id in ("print", "input")
        ):
            to = [keyword for keyword in node.keywords if keyword.arg == "file"]
            found.add("print to a given stream" if to else node.func.id)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "sys":
            found.add(f"sys.{node.attr}")
    return found


def test_nobody_below_the_command_line_talks_to_a_terminal() -> None:
    forbidden = {"print", "input", "sys.argv", "sys.stdin", "sys.stdout", "sys.exit"}
    wrong = [
        f"{path.relative_to(SOURCE)} uses {word}"
        for path in FILES
        if room_of(path) not in ("cli", None)
        for word in sorted(calls_and_names(path) & forbidden)
        if not (path == SOURCE / "observe" / "console.py" and word == "sys.stdout")
    ]
    assert not wrong


def test_only_engines_know_of_other_ranks() -> None:
    """Checkpoints may use torch.distributed.checkpoint, which needs no ranks."""
    wrong = [
        f"{path.relative_to(SOURCE)} imports {'.'.join(name)}"
        for path in FILES
        if not path.is_relative_to(SOURCE / "train" / "engines")
        for name in imports(path)
        if name[:2] == ("torch", "distributed") and name[2:3] != ("checkpoint",)
    ]
    assert not wrong


def test_only_the_command_line_knows_exit_codes_and_typer() -> None:
    wrong = [
        str(path.relative_to(SOURCE))
        for path in FILES
        if room_of(path) != "cli" and any(name[0] in ("typer", "click", "argparse") for name in imports(path))
    ]
    assert not wrong
