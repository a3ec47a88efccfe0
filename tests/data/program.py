"""The program, and functions of the tests, in processes that know one hub and no other place.

The libraries read which hub to ask when they are imported, so none of it can happen in the process of the
tests. One process imports everything once, with the hub's variables set, and forks at every request: a start
then costs a tenth of a second.
"""

from __future__ import annotations

import importlib
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hub import Hub

_SERVER = """
import json, sys
import torch
torch.set_num_threads(1)
import datasets, program, pyarrow.parquet, zstandard
import linnet.cli.main, linnet.hardware, linnet.infer, linnet.recipe
linnet.hardware.detect()  # tries a compiler; the answer is kept
for line in sys.stdin:
    program.fork(**json.loads(line))
"""
# The hub's own library asks again for up to half a minute before it says that a place does not answer; and
# documents are tokenised together by the megabyte, which would be all that the hub holds.
_IMPATIENT = """
import functools
from linnet.data.shards import tokenising
tokenising.BATCH_CHARACTERS = 1 << 13
from huggingface_hub import hf_file_system as fs
for name in ("http_backoff", "http_stream_backoff"):
    waits = {"base_wait_time": 0.01, "max_wait_time": 0.02, "max_retries": 2}
    setattr(fs, name, functools.partial(getattr(fs, name), **waits))
"""


def fork(name: str, arguments: list[Any], folder: str) -> None:
    """In the server: a process that calls `linnet ARGUMENTS`, or `module.function`; told by files in a folder."""
    if os.fork():
        return
    at = Path(folder)
    child = os.fork()
    if child:
        (at / "pid.part").write_text(str(child))
        (at / "pid.part").rename(at / "pid")
        _, status = os.waitpid(child, 0)
        (at / "code.part").write_text(str(os.waitstatus_to_exitcode(status)))
        (at / "code.part").rename(at / "code")
        os._exit(0)
    os.setsid()
    for stream, file in ((1, "out"), (2, "err")):
        os.dup2(os.open(at / file, os.O_WRONLY | os.O_CREAT), stream)
    code: Any = 0
    try:
        _call(name, arguments)
    except SystemExit as ended:
        code = ended.code or 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
        code = 99
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _call(name: str, arguments: list[Any]) -> None:
    if name == "linnet":
        from linnet.cli.main import main

        sys.argv = ["linnet", *arguments]
        main()
    else:
        module, _, function = name.rpartition(".")
        print(json.dumps(getattr(importlib.import_module(module), function)(*arguments)))


def wait_for(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    """Wait until a condition comes true."""
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends, "this takes too long"
        time.sleep(0.005)


@dataclass
class Process:
    """A process of the server's, watched from afar."""

    folder: Path

    @property
    def code(self) -> int | None:
        """Its exit code, once it has ended."""
        path = self.folder / "code"
        return int(path.read_text()) if path.exists() else None

    @property
    def out(self) -> str:
        """What it printed."""
        return (self.folder / "out").read_text()

    @property
    def err(self) -> str:
        """What it printed of errors."""
        return (self.folder / "err").read_text()

    def signal(self, number: int = signal.SIGKILL) -> None:
        """Send it a signal."""
        wait_for((self.folder / "pid").exists)
        os.kill(int((self.folder / "pid").read_text()), number)

    def until(self, condition: Callable[[], bool], seconds: float = 60.0) -> None:
        """Wait for a condition that must come true before it ends."""
        wait_for(lambda: condition() or self.code is not None, seconds)
        assert condition(), f"it ended with {self.code}: {self.err}"

    def ended(self, code: int = 0, seconds: float = 120.0) -> Process:
        """Wait for it, and see that it ended as it should."""
        wait_for(lambda: self.code is not None, seconds)
        assert self.code == code, f"{self.code}: {self.out}\n{self.err}"
        return self

    def answer(self) -> Any:
        """What a function gave back."""
        return json.loads(self.ended().out.splitlines()[-1])

    def lines(self) -> list[Any]:
        """What was printed for programs, a line each."""
        return [json.loads(line) for line in self.ended().out.splitlines()]

    def refusal(self, code: int) -> str:
        """The one line of an error, and nothing else."""
        self.ended(code)
        assert len(self.err.strip().splitlines()) == 1, self.err
        assert self.err.startswith("linnet: ")
        assert "Traceback" not in self.out + self.err
        return self.err.strip()


@dataclass
class Program:
    """Starts `linnet`, and functions of the tests, where one hub is all there is."""

    folder: Path
    server: Any
    _count: Iterator[int] = field(default_factory=itertools.count)

    def start(self, name: str, *arguments: object) -> Process:
        """Begin a process: `linnet` with its arguments, or module.function with its own."""
        folder = self.folder / f"process-{next(self._count)}"
        folder.mkdir()
        given = [value if isinstance(value, (dict, list, int, float)) else str(value) for value in arguments]
        told = {"name": name, "arguments": given, "folder": str(folder)}
        self.server.stdin.write(json.dumps(told) + "\n")
        self.server.stdin.flush()
        return Process(folder)

    def linnet(self, *arguments: object) -> Process:
        """Begin `linnet ARGUMENTS`."""
        return self.start("linnet", *arguments)


@contextmanager
def program(hub: Hub, folder: Path) -> Iterator[Program]:
    """A program that asks one hub."""
    patch = folder / "patch"
    patch.mkdir(parents=True)
    (patch / "sitecustomize.py").write_text(_IMPATIENT)
    here = Path(__file__).parent
    paths = (str(patch), str(here), str(here.parent), os.environ.get("PYTHONPATH"))
    variables = {"PYTHONPATH": os.pathsep.join(filter(None, paths)), "LINNET_CACHE": str(folder / "cache")}
    with (folder / "server.log").open("wb") as log:
        server = subprocess.Popen([sys.executable, "-c", _SERVER], stdin=subprocess.PIPE, text=True,
                                  env=hub.environment(folder / "home") | variables, stdout=log, stderr=log)  # fmt: skip
        try:
            yield Program(folder, server)
        finally:
            for left in folder.glob("process-*/pid"):  # of a test that failed
                if not left.with_name("code").exists():
                    os.kill(int(left.read_text()), signal.SIGKILL)
            assert server.stdin is not None
            server.stdin.close()
            server.wait()
