"""Whatever file of a command fails, the command ends in one line: unreadable, not text, or JSON of another type."""

from __future__ import annotations

import builtins
import errno
import os
import shutil
import sys
from pathlib import Path

import pytest

import faults
import lives
from linnet.cli.main import TRACEBACK, main

LIFE = (
    "stages=[pretrain, sft]", "pretrain.duration=1 steps", "pretrain.warmup_steps=0", "sft.duration=1 steps",
    "sft.sample_tokens=0", "scoreboard.prompts=[]", "scoreboard.items=2",
)  # fmt: skip
COMMANDS: dict[str, list[str]] = {
    "recipes": ["recipes", "life.yaml"],
    "generate": ["generate", "run", "--prompt", "The", "--max-new-tokens", "2"],
    "chat": ["chat", "run", "--max-new-tokens", "2"],
    "checkpoints list": ["checkpoints", "list", "run"],
    "checkpoints verify": ["checkpoints", "verify", "run"],
    "data peek": ["data", "peek", "life.yaml", "--range", "0:1"],
    "data peek of conversations": ["data", "peek", "life.yaml", "--stage", "sft"],
    "data build": ["data", "build", "life.yaml"],
    "data tokenizer": ["data", "tokenizer", "text.txt", "--vocab-size", "300", "--out", "made"],
    "bench": ["bench", "life.yaml", "--steps", "1", "--warmup", "1"],
    "train": ["train", "life.yaml", "--run", "run", *LIFE],
}
READING = ("generate", "chat", "checkpoints list", "checkpoints verify", "recipes")  # they change no file
LAST_DOOR = ("best.json", ".best.json.part", "end.json", "end.json.part", "2-sft", "chat_template.jinja")
"""Files whose failures are not explained where they are read or written, but by the program's last door."""


def call(*arguments: str) -> int:
    """`linnet ARGUMENTS` in this process, with a line typed where it reads one."""
    sys.argv = ["linnet", *arguments]
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr(sys, "argv", sys.argv)


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a recipe, its data, and a finished run of two stages."""
    folder = tmp_path_factory.mktemp("faults") / "pristine"
    folder.mkdir()
    lives.recipe_file(folder)
    _rename(folder, "pristine", "work")
    work = folder.rename(folder.with_name("work"))
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(work)
        patched.setattr(sys, "argv", sys.argv)
        patched.setattr(
            sys.modules["linnet.recipe.live"], "draw", lambda events, picture, stage=None: picture
        )
        assert call("train", "life.yaml", "--run", "run", *LIFE) == 0
    shutil.copytree(work, folder)
    return folder


def _rename(folder: Path, old: str, new: str) -> None:
    file = folder / "life.yaml"
    file.write_text(file.read_text().replace(f"/{old}/", f"/{new}/"))


@pytest.mark.parametrize(
    "name", [n if n != "train" else pytest.param(n, marks=pytest.mark.slow) for n in COMMANDS]
)
def test_a_file_that_fails_ends_in_one_line(
    name: str, pristine: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    work, holes = pristine.with_name("work"), list[str]()

    def typed() -> None:
        lines = iter(["The fox", ""])
        monkeypatch.setattr(builtins, "input", lambda _="": next(lines))

    def fresh() -> None:
        os.chdir(pristine)
        shutil.rmtree(work)
        shutil.copytree(pristine, work)
        os.chdir(work)

    def end(fault: str, path: Path) -> None:
        """Run the command, and note when it does not end as it should."""
        if path.name in LAST_DOOR:
            monkeypatch.delenv(TRACEBACK, raising=False)
        else:
            monkeypatch.setenv(TRACEBACK, "1")
        typed()
        capsys.readouterr()
        try:
            code = call(*COMMANDS[name])
        except BaseException as error:
            holes.append(f"{fault}: {type(error).__name__}: {error}")
            return
        said = capsys.readouterr()
        lines = [line for line in said.err.splitlines() if line.startswith("linnet: ")]
        if code not in (0, 1, 2) or (code and len(lines) != 1) or "Traceback" in said.err + said.out:
            holes.append(f"{fault}: exit {code}, {said.err!r}")
        elif name in READING and code and said.err.count("\n") != 1:
            holes.append(f"{fault}: {said.err!r}")

    with monkeypatch.context() as patched:
        patched.chdir(pristine)
        fresh()
        typed()
        with faults.noted(work) as touched:
            assert call(*COMMANDS[name]) == 0
        assert touched
        for kind, path in touched:
            if name not in READING:
                fresh()
            with faults.failing(kind, path, errno.EACCES if kind == "open" else errno.ENOSPC):
                end(f"{kind} {path.relative_to(work)}", path)
        for path in dict.fromkeys(
            path for kind, path in touched if (pristine / path.relative_to(work)).is_file()
        ):
            for label in ("not UTF-8", "a list", "of wrong types"):
                if name not in READING:
                    fresh()
                before = path.read_bytes()
                path.write_bytes(faults.CONTENTS[label])
                end(f"{label} in {path.relative_to(work)}", path)
                path.write_bytes(before)
    assert not holes, "\n".join([f"{len(holes)} holes", *holes])


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "some/file"), "some/file: No space left on device"),
        (OSError("odd"), "OSError: odd"),
        (MemoryError(), "out of memory"),
        (
            UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
            "UnicodeDecodeError: 'utf-8' codec",
        ),
    ],
)
def test_what_nothing_explains_is_one_line_at_last(
    error: Exception, line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(*_: object) -> None:
        raise error

    monkeypatch.setattr("linnet.recipe.shipped", fails)
    monkeypatch.delenv(TRACEBACK, raising=False)
    assert call("recipes") == 1
    said = capsys.readouterr().err
    assert said.startswith(f"linnet: {line}")
    assert said.endswith(f"; {TRACEBACK}=1 shows where\n")
    assert said.count("\n") == 1
    monkeypatch.setenv(TRACEBACK, "1")
    with pytest.raises(type(error)):
        main()
