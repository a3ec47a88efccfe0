"""Parts of a plan, each a process with its own time limit, and results on disk the moment they are known.

A machine with a GPU may be there for minutes only. So a part that hangs is killed, one that crashes is
recorded and the next one starts, and whatever is known when the machine goes is in a file. Only the
standard library is used: this must run before anything is installed.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

RESULT_FILE = "GPU_CHECK_RESULT"  # environment variable: where a part writes what it found


@dataclass(frozen=True)
class Part:
    """One part of a plan.

    seconds: what is set aside for it. Time that earlier parts left over is added, so a plan never
    takes longer than the sum over its parts.
    """

    name: str
    seconds: float
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Result:
    """What came of a part.

    outcome: passed, failed (a check did not hold), skipped (it cannot run on this machine), crashed or
    killed (its time was up). figures: what was measured, as JSON takes it.
    """

    part: str
    outcome: str
    seconds: float
    detail: str = ""
    figures: Mapping[str, Any] = field(default_factory=dict)

    @property
    def bad(self) -> bool:
        """Whether it says that something is wrong."""
        return self.outcome not in ("passed", "skipped")


Command = Callable[[Part], Sequence[str]]


def run_plan(
    parts: Sequence[Part],
    command: Command,
    record: Callable[[Result], None],
    log: Path,
    environment: Mapping[str, str],
    patience: float = 1.0,
    began: float | None = None,
) -> list[Result]:
    """Run every part in turn and hand each result to `record` at once.

    Args:
        command: the command line of a part; it writes a JSON object with `outcome`, `detail` and
            `figures` to the file that the environment variable GPU_CHECK_RESULT names.
        log: takes what parts print, on stdout and stderr.
        patience: factor on all times, for machines that rehearse slowly.
        began: when the plan's time began, by `time.monotonic`; None: now.
    """
    results = []
    deadline = time.monotonic() if began is None else began
    for part in parts:
        deadline += part.seconds * patience
        result = _run(part, command(part), deadline, log, environment)
        record(result)
        results.append(result)
    return results


def _run(
    part: Part, command: Sequence[str], deadline: float, log: Path, environment: Mapping[str, str]
) -> Result:
    began = time.monotonic()
    answer = log.with_suffix(".answer")
    answer.unlink(missing_ok=True)
    with log.open("ab") as output:
        output.write(f"\n--- {part.name}\n".encode())
        output.flush()
        start = output.tell()
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**environment, RESULT_FILE: str(answer)},
            start_new_session=True,  # so that its children can be killed with it
        )
        try:
            process.wait(timeout=max(0.0, deadline - began))
            timed_out = False
        except subprocess.TimeoutExpired:
            timed_out = True
        finally:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    seconds = round(time.monotonic() - began, 1)
    found = _answer(answer)
    answer.unlink(missing_ok=True)
    if found is not None:  # a part that has answered and then hangs or crashes has answered all the same
        return Result(part.name, seconds=seconds, **found)
    if timed_out:
        return Result(part.name, "killed", seconds, f"not done after {seconds:.0f} s")
    return Result(
        part.name, "crashed", seconds, _last_line(log, start) or f"exit status {process.returncode}"
    )


def _answer(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return {name: found[name] for name in ("outcome", "detail", "figures")}
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _last_line(log: Path, start: int) -> str:
    with log.open("rb") as file:
        file.seek(start)
        lines = file.read().decode("utf-8", "replace").split("\n")
    return next((line.strip()[:300] for line in reversed(lines) if line.strip()), "")


class Report:
    """Results in a folder: JSON lines, appended and synced one by one, and a page that is rewritten."""

    def __init__(self, folder: Path, plan: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.plan = plan
        self.lines, self.page, self.log = (folder / f"{plan}.{kind}" for kind in ("jsonl", "md", "log"))
        for path in (self.lines, self.page, self.log):
            path.unlink(missing_ok=True)
        self.results: list[Result] = []

    def add(self, result: Result) -> None:
        """Write a result down and show it."""
        self.results.append(result)
        with self.lines.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(result)) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self.page.write_text(self.text(), encoding="utf-8")
        print(f"{result.outcome:<8} {result.part} ({result.seconds:.1f} s) {result.detail}", flush=True)

    def text(self) -> str:
        """All results so far as a page."""
        machine = next((one.figures for one in self.results if one.part == "machine"), {})
        lines = [f"# GPU check, plan `{self.plan}`", "", time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())]
        lines += ["", *(f"- {name}: {value}" for name, value in machine.items())]
        lines += ["", "| part | outcome | seconds | detail |", "| --- | --- | --- | --- |"]
        lines += [
            f"| {one.part} | {one.outcome} | {one.seconds:.1f} | {one.detail.replace('|', '/')} |"
            for one in self.results
        ]
        steps = [(one.part, one.figures) for one in self.results if "tokens_per_second" in one.figures]
        if steps:
            lines += ["", "| step | tokens/s | MFU | MFU, causal documents | of own matrix rate | memory |"]
            lines.append("| --- | --- | --- | --- | --- | --- |")
        for name, row in steps:
            shares = [row.get(key) for key in ("mfu", "mfu_causal_documents", "share_of_matrix_rate")]
            percents = " | ".join(f"{100 * share:.1f}%" if share else "" for share in shares)
            memory = f"{row['peak_memory_bytes'] / 1e9:.1f} GB" if "peak_memory_bytes" in row else ""
            lines.append(f"| {name} | {row['tokens_per_second']:,.0f} | {percents} | {memory} |")
        for one in self.results:
            lines += (
                ["", f"## {one.part}", "", "```", one.figures["table"], "```"]
                if "table" in one.figures
                else []
            )
        return "\n".join(lines) + "\n"
