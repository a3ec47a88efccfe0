"""Runs one completion's program against its tests, confined; or runs it as a script on given input.

Standard input holds one line of JSON, the job, and after it the input of a script. The verdict of tests
goes to a pipe of its own as `NONCE passed total end detail`; the nonce is made anew for each job, so a
program cannot print a verdict, and a program that leaves before the tests leaves none. Tests are compiled
before the program runs. After it ran, Python's built-in functions are put back and the tests see
none of the program's names that hide one of them.
"""

from __future__ import annotations

import builtins
import json
import os
import sys
from typing import Any

FOLDER = os.path.dirname(os.path.abspath(__file__))
sys.path.append(FOLDER)  # last, so that no neighbour hides a module of Python's own
import confine  # noqa: E402
import honest  # noqa: E402

sys.path.remove(FOLDER)
DETAIL = 300  # characters of an error that are passed on


def read_job() -> dict[str, Any]:
    """The job; what follows it stays to be read as standard input."""
    line = b""
    while b"\n" not in line:
        part = os.read(0, 1 << 16)
        if not part:
            raise EOFError("no job")
        line += part
    line, _, rest = line.partition(b"\n")
    if rest:
        os.lseek(0, -len(rest), os.SEEK_CUR)
    job: dict[str, Any] = json.loads(line)
    return job


def silence() -> None:
    """Standard input is read to its end: the job must not be read a second time."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)


def told(error: BaseException) -> str:
    """An error in one short line, with nothing of the program's own called."""
    kind = type(error)
    if kind is not confine.Refused and type.__dict__["__module__"].__get__(kind) != "builtins":
        return "an error of the program's own"
    reason = next((str(a) for a in BaseException.__dict__["args"].__get__(error) if type(a) is str), "")
    return " ".join(f"{type.__dict__['__name__'].__get__(kind)}: {reason}"[:DETAIL].split())


def run_all(job: dict[str, Any], tests: list[Any]) -> tuple[int, str, str]:
    """Run the program and its tests: how many passed, how it ended, and the first failure."""
    kept = dict(vars(builtins))
    bound = vars(builtins)
    run, update = exec, dict.update
    same = honest.same
    space: dict[str, Any] = {"__name__": "completion"}
    try:
        for part in ("setup_first", "code"):
            if job.get(part):
                run(compile(job[part], f"<{part}>", "exec"), space)
    except BaseException as error:
        update(bound, kept)
        return 0, "exited" if isinstance(error, SystemExit) else "error", told(error)
    passed, first = 0, ""
    update(bound, kept)
    seen: dict[str, Any] = {name: value for name, value in space.items() if name not in kept}
    for test in tests:
        update(bound, kept)
        seen["__builtins__"], seen[honest.NAME] = builtins, same
        try:
            run(test, seen)
            passed += 1
        except BaseException as error:
            update(bound, kept)
            first = first or told(error)
    return passed, "passed" if passed == len(tests) else "failed", first


def judge(job: dict[str, Any]) -> None:
    """Judge by tests; write the verdict and leave at once, whatever the program left to be done at exit."""
    setup = [job["setup"]] if job.get("setup") else []
    write, leave, report = os.write, os._exit, job["report"]
    try:
        tests = [
            honest.compiled("\n".join((*setup, test)), f"<test {i}>") for i, test in enumerate(job["tests"])
        ]
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        write(report, f"{job['nonce']} 0 0 unusable {told(error)}\n".encode("utf-8", "replace"))
        leave(0)
    silence()
    nonce = job.pop("nonce")
    passed, end, detail = run_all(job, tests)
    write(report, f"{nonce} {passed} {len(tests)} {end} {detail}\n".encode("utf-8", "replace"))
    leave(0)


def main() -> None:
    """Read the job, give up every right, and run it."""
    job = read_job()
    rules = confine.confine(job["seconds"], job["memory_mb"])
    os.write(job["report"], f"confined {rules}\n".encode())
    if job["tests"] is not None:
        judge(job)
    os.close(job["report"])
    exec(compile(job["code"], "<code>", "exec"), {"__name__": "__main__", "__builtins__": builtins})


if __name__ == "__main__":
    main()
