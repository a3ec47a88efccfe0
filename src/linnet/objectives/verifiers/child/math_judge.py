"""Answers whether two mathematical expressions are equal, one line of JSON after another, with math-verify.

It is a process because sympy may take any time and memory on what a model writes, and math-verify's own
limit is an alarm, which rings in a main thread alone. Whoever asks keeps the time and kills; this process
limits its memory, and its CPU time anew for each question, so that it also ends when nobody is left to
kill it. The first line names the limit of memory.
"""

from __future__ import annotations

import json
import os
import resource
import time
from typing import Any


def answers_go_to() -> int:
    """A descriptor of the pipe to who asks; what libraries print goes nowhere."""
    kept = os.dup(1)
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
    return kept


def limit_time(seconds: float) -> None:
    """Let this process use so many more seconds of CPU time, and then be ended by the system."""
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    resource.setrlimit(resource.RLIMIT_CPU, (int(time.process_time() + seconds) + 2, hard))


def expression(text: str) -> list[Any]:
    """What math-verify reads in an answer: the expression, and its text."""
    from math_verify import parse

    # Boxed, because it then reads the whole and does not go looking for the last number in it.
    found: list[Any] = parse("\\boxed{" + text + "}", parsing_timeout=None)
    return found


def equal(gold: str, answer: str) -> bool:
    """Whether math-verify holds the two for equal."""
    from math_verify import verify

    return bool(verify(expression(gold), expression(answer), timeout_seconds=None))


def main() -> None:
    """Answer until nobody asks any more."""
    out = answers_go_to()
    limit_time(60)
    with os.fdopen(0, "rb", closefd=False) as questions:
        memory = json.loads(questions.readline())["memory_mb"] << 20
        try:
            equal("x", "\\frac{1}{2}")  # the first parse makes tables
        except ImportError:
            os.write(out, b'{"missing": "math-verify"}\n')
            return
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.write(out, b'{"ready": true}\n')
        for line in questions:
            asked = json.loads(line)
            limit_time(asked["seconds"])
            try:
                said: dict[str, Any] = {"equal": equal(asked["gold"], asked["answer"])}
            except BaseException as error:
                said = {"error": type(error).__name__}
            os.write(out, json.dumps(said).encode() + b"\n")


if __name__ == "__main__":
    main()
