"""The verifier code: a completion's program against its row's tests.

Tests as the known sets have them: MBPP's `test_list` (assert lines, `test_setup_code` before them), HumanEval's
`test` with its `entry_point` (and the prompt, which the completion continues), a list of source texts in
`tests`, or pairs of input and output (`[{"input": …, "output": …}]`, or `{"inputs": […], "outputs": […]}`), for
which the program runs as a script and its output is compared here.

The program is the last fenced block that defines something (or the entry point, where there is one), else the
last block, else the whole completion; an unclosed fence reaches to the end.

What is rewarded wrongly, and can only be told by reading: a program that knows the tests' answers by heart; an
object that plays a number in an approximate test (`abs(f(x) - 3.14) < 0.01` calls its `__sub__`); a method
`__eq__` of a class that the program itself was asked to define; and, since program and tests share one
interpreter, a program written to look for the runner's variables. `child/honest.py` and `child/run_tests.py`
close the cheap ways: leaving before the tests, printing a verdict, `__eq__` that is always true, replaced or
hidden built-in functions. Input and output pairs share nothing with the program; prefer them where the
reward is worth cheating for.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from linnet.objectives.verifiers.completions import Columns, column_named, row_values
from linnet.objectives.verifiers.parallel import Budget, each
from linnet.objectives.verifiers.sandbox import Outcome, run_script, run_tests
from linnet.objectives.verifiers.settings import TEST_COLUMNS, VerifierSettings

_FENCE = re.compile(
    r"^[ \t]*(`{3,}|~{3,})[ \t]*([\w+#-]*)[^\n]*\n(.*?)(?:^[ \t]*\1[ \t]*$|\Z)", re.DOTALL | re.MULTILINE
)
_PYTHON = frozenset(("", "python", "py", "python3", "py3"))


class OutOfTime(Exception):
    """The deadline of the batch ended a program before its own limit did; it is not judged."""


class Task(NamedTuple):
    """A program's tests: sources that must raise nothing, or (input, output) pairs."""

    asserts: tuple[str, ...] = ()
    pairs: tuple[tuple[str, str], ...] = ()
    setup: str = ""
    entry_point: str = ""
    prompt: str = ""


def judge(
    completions: Sequence[str], columns: Columns, settings: VerifierSettings, budget: Budget
) -> list[float | None]:
    """Verdicts: 1 or 0 (with `partial` the share of tests passed); None where a row has no usable tests."""
    tasks = tasks_of(columns, len(completions), settings)
    rows = [row for row, task in enumerate(tasks) if task is not None]

    def run(row: int) -> float | None:
        task = tasks[row]
        assert task is not None
        return _reward(completions[row], task, settings, budget)

    rewards: list[float | None] = [None] * len(completions)
    for row, done in zip(rows, each(rows, run, budget.workers, budget.deadline), strict=True):
        if done is None or isinstance(done.error, OutOfTime):
            budget.tell(f"verifier {settings.title}: not every program was run before the deadline")
        elif done.error is not None:
            budget.tell(f"verifier {settings.title}: a program could not be run ({done.error})")
        else:
            rewards[row] = done.result
    return rewards


def _reward(completion: str, task: Task, settings: VerifierSettings, budget: Budget) -> float | None:
    code = program_of(completion, task.entry_point, task.prompt)
    if not code.strip():
        return 0.0
    if task.pairs:
        passed = _pairs_passed(code, task, settings, budget)
        total = len(task.pairs)
    else:
        seconds = min(settings.timeout_seconds, budget.left)
        ran = run_tests(code, list(task.asserts), task.setup, seconds, settings.memory_mb)
        if ran.end == "timeout" and budget.left <= 0:
            raise OutOfTime
        if ran.end == "unusable":
            budget.tell(f"verifier {settings.title}: a row's tests cannot be read ({ran.detail})")
            return None
        passed, total = ran.passed, len(task.asserts)
    return passed / total if settings.partial else float(passed == total)


def _pairs_passed(code: str, task: Task, settings: VerifierSettings, budget: Budget) -> int:
    passed = 0
    for given, wanted in task.pairs:
        seconds = min(settings.timeout_seconds, budget.left)
        ran: Outcome = run_script(code, given, seconds, settings.memory_mb)
        if ran.end == "timeout" and budget.left <= 0:
            raise OutOfTime
        if ran.end == "passed" and _lines(ran.output.decode("utf-8", "replace")) == _lines(wanted):
            passed += 1
        elif not settings.partial:
            break
    return passed


def _lines(text: str) -> list[str]:
    """Lines without white space at their ends, and without empty lines at the end, as judges compare."""
    lines = [line.rstrip() for line in text.splitlines()]
    while lines and not lines[-1]:
        lines.pop()
    return lines


def program_of(completion: str, entry_point: str = "", prompt: str = "") -> str:
    """The program in a completion.

    Args:
        completion: what a model wrote.
        entry_point: the function that the tests call, if it is known.
        prompt: code that the completion continues if it does not define the entry point itself.
    """
    text = completion.rpartition("</think>")[2]
    blocks = [found[3] for found in _FENCE.finditer(text) if found[2].lower() in _PYTHON]
    if entry_point:
        named = [block for block in blocks if _defines(block, entry_point)]
        chosen = (named or blocks or [text])[-1]
        if prompt and not _defines(chosen, entry_point):
            return prompt + chosen
        return chosen
    defining = [
        block for block in blocks if re.search(r"^\s*(?:async\s+)?(?:def|class)\s", block, re.MULTILINE)
    ]
    return (defining or blocks or [text])[-1]


def _defines(code: str, name: str) -> bool:
    return re.search(rf"^\s*(?:async\s+)?(?:def|class)\s+{re.escape(name)}\b|^{re.escape(name)}\s*=", code,
                     re.MULTILINE) is not None  # fmt: skip


def tasks_of(columns: Columns, count: int, settings: VerifierSettings) -> list[Task | None]:
    """Each row's tests; None for a row without.

    Raises:
        RequestError: when no column holds tests.
    """
    name = column_named(columns, settings.test_column, TEST_COLUMNS, settings.title, "test_column")
    tests = row_values(columns, name, count)

    def other(*names: str) -> list[Any]:
        found = next((n for n in names if n in columns), None)
        return row_values(columns, found, count) if found else [None] * count

    setups, entries = other("test_setup_code", "test_setup"), other("entry_point")
    prompts = other("prompts", "prompt")
    return [_task(*row) for row in zip(tests, setups, entries, prompts, strict=True)]


def _task(tests: Any, setup: Any, entry_point: Any, prompt: Any) -> Task | None:
    if isinstance(tests, str):
        tests = _decoded(tests)
    asserts: list[str] = []
    pairs: list[tuple[str, str]] = []
    if isinstance(tests, Mapping):
        inputs, outputs = (
            tests.get("inputs") or tests.get("input"),
            tests.get("outputs") or tests.get("output"),
        )
        if isinstance(inputs, list) and isinstance(outputs, list) and len(inputs) == len(outputs):
            pairs = [(str(given), str(wanted)) for given, wanted in zip(inputs, outputs, strict=True)]
    elif isinstance(tests, str):
        asserts = [tests]
    elif isinstance(tests, Sequence):
        for test in tests:
            if isinstance(test, str) and test.strip():
                asserts.append(test)
            elif isinstance(test, Mapping) and "output" in test:
                pairs.append((str(test.get("input") or ""), str(test["output"])))
    if not asserts and not pairs:
        return None
    name = str(entry_point or "")
    if name:
        asserts = [f"{test}\ncheck({name})" if re.search(r"^def check\b", test, re.MULTILINE) else test
                   for test in asserts]  # fmt: skip
    text = prompt if isinstance(prompt, str) and _is_code(prompt, name) else ""
    return Task(tuple(asserts), tuple(pairs), str(setup or ""), name, text)


def _decoded(tests: str) -> Any:
    """Tests that were stored as JSON, or one source text; an empty text is none."""
    if tests.lstrip().startswith(("[", "{")):
        try:
            return json.loads(tests)
        except ValueError:
            return tests
    return tests if tests.strip() else None


def _is_code(prompt: str, entry_point: str) -> bool:
    """Whether a prompt is code that a completion continues: HumanEval's is, a question is not."""
    if not entry_point or not _defines(prompt, entry_point):
        return False
    try:
        ast.parse(prompt + "\n    pass\n")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True
