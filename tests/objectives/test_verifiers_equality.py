"""math and numeric: the table of hard equalities, what hangs, from any thread, and how long a verdict takes."""

from __future__ import annotations

import gzip
import json
import os
import threading
import time
from pathlib import Path

import pytest
from equalities import ANSWERS, COMPLETIONS, SYMBOLIC
from hypothesis import given, settings
from hypothesis import strategies as st

from linnet.objectives.verifiers import Budget, fast_verdict, final_answer, resolve
from linnet.objectives.verifiers import math_workers as pool

REAL = Path(os.environ.get("LINNET_REAL_DATA", ""))
TOWER = "9^{9^{9^{9^{9}}}}"  # sympy does not come back from it


def boxed(rows: list[tuple[str, str, bool]]) -> list[tuple[str, str, bool]]:
    return [(expected, "\\boxed{" + answer + "}", right) for expected, answer, right in rows]


def needs_sympy() -> None:
    pytest.importorskip("math_verify")


def wrong(kind: str, rows: list[tuple[str, str, bool]]) -> list[tuple[str, str, bool]]:
    rewards = resolve(kind)([completion for _, completion, _ in rows], answer=[row[0] for row in rows])
    return [row for row, reward in zip(rows, rewards, strict=True) if reward != float(row[2])]


def test_the_table_of_hard_equalities() -> None:
    needs_sympy()
    rows = boxed(ANSWERS) + boxed(SYMBOLIC) + COMPLETIONS
    assert len({(expected, completion) for expected, completion, _ in rows}) >= 200
    assert wrong("math", boxed(ANSWERS) + COMPLETIONS) == []  # one rule each: none of them may slip
    mistakes = wrong("math", rows)
    assert len(mistakes) <= 0.01 * len(rows), mistakes


def test_plain_answers_are_decided_without_sympy(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> bool:
        raise AssertionError("sympy was asked")

    monkeypatch.setattr(pool.MathWorkers, "equal", never)
    undecided = [row for row in boxed(ANSWERS) if fast_verdict(row[0], row[1]) is None]
    assert undecided == []


def test_numeric_gives_nothing_where_the_expected_answer_is_no_number() -> None:
    told: list[str] = []
    verifier = resolve("numeric")
    rewards = verifier.rewards(
        ["\\boxed{x+1}", "7", "6"], {"answer": ["x+1", "7", "7"]}, Budget(tell=told.append)
    )
    assert rewards[1:] == [1.0, 0.0]
    assert len(told) == 0 or rewards[0] is None
    assert verifier(["\\boxed{x-1}"], answer=["x+1"]) == [None]


def test_the_rule_of_what_counts_as_the_answer() -> None:
    shown = {
        "\\boxed{1} and \\boxed{2}\n#### 3\nThe answer is 4. 5": ("2", "boxed"),
        "#### 3\nThe answer is 4. 5": ("3", "marker"),
        "The answer is 4. But 5": ("4", "phrase"),
        "First 4, then 5": ("5", "number"),
        "nothing here": ("", "none"),
        "<think>\\boxed{1}</think> 2": ("2", "number"),
    }
    for completion, (text, how) in shown.items():
        assert final_answer(completion) == (text, how)


@pytest.mark.parametrize("gold", [7, 42, 99])
def test_listing_every_number_never_passes(gold: int) -> None:
    """Whatever the form of the list and wherever the right number stands in it."""
    numbers = [str(n) for n in range(100)]
    for gap in (" ", ", ", "\n", " or ", " and ", "; ", " / "):
        listed = gap.join(numbers)
        for form in ("{}", "The answer is {}.", "#### {}", "\\boxed{{{}}}", "Answer: {}", "$${}$$"):
            assert fast_verdict(str(gold), form.format(listed)) is False, (gap, form)


def test_a_list_of_expected_answers_accepts_each() -> None:
    assert resolve("numeric")(["2", "3", "4"], answer=[["2", "3"]] * 3) == [1.0, 1.0, 0.0]


def test_numbers_in_columns_and_rows_without_an_answer() -> None:
    assert resolve("numeric")(["42", "0.5", "1"], answer=[42, 0.5, None]) == [1.0, 1.0, None]


def test_messages_are_read_as_trl_passes_them() -> None:
    completion = [
        {"role": "assistant", "content": "hm"},
        {"role": "assistant", "content": "The answer is 42."},
    ]
    verifier = resolve("numeric")
    assert verifier(prompts=["?"], completions=[completion], completion_ids=[[1]], solution=["42"]) == [1.0]


@settings(max_examples=200, deadline=None)
@given(
    st.text(max_size=80),
    st.text(alphabet="0123456789.,-+/*^%$\\{}()[] =exfracboxedanswer is#\n", max_size=80),
)
def test_no_text_makes_the_fast_reading_fail(gold: str, completion: str) -> None:
    assert fast_verdict(gold, completion) in (True, False, None)
    assert fast_verdict(completion, gold) in (True, False, None)


@settings(max_examples=200, deadline=None)
@given(st.integers(-(10**12), 10**12), st.integers(-(10**12), 10**12))
def test_integers_equal_themselves_and_nothing_else(number: int, other: int) -> None:
    for form in ("{}", "{:,}", "The answer is {}.", "#### {:,}", "\\boxed{{{}}}", "x = {}", "It is {} km."):
        assert fast_verdict(str(number), form.format(number)) is True
        assert fast_verdict(str(number), form.format(other)) is (number == other)


def test_enormous_numbers_cost_nothing() -> None:
    begun = time.perf_counter()
    for text in (
        "9" * 100_000,
        "1e999999999",
        "10^{999999}",
        "1/" + "9" * 5000,
        "\\boxed{" * 20_000,
        "=" * 50_000,
    ):
        assert fast_verdict("42", text) is not True
    assert time.perf_counter() - begun < 5


def test_a_fast_verdict_takes_microseconds() -> None:
    completions = [
        "The answer is 42.",
        "6*7=<<6*7=42>>42\n#### 42",
        "so \\boxed{42}",
        "It costs $1,234.50 in all.",
    ]
    best = min(_seconds(completions) for _ in range(20)) / len(completions)
    assert best < 200e-6  # measured 10 to 40; a busy machine gets some room


def _seconds(completions: list[str]) -> float:
    begun = time.perf_counter()
    for completion in completions:
        fast_verdict("42", completion)
    return time.perf_counter() - begun


def test_what_hangs_sympy_is_killed_and_counts_as_wrong() -> None:
    needs_sympy()
    told: list[str] = []
    from linnet.objectives.verifiers import VerifierSettings

    verifier = resolve(VerifierSettings(kind="math", timeout_seconds=1.0))
    completions = ["\\boxed{" + TOWER + "}", "\\boxed{2^{1/2}}", "\\boxed{" + TOWER + "+1}"]
    begun = time.monotonic()
    rewards = verifier.rewards(
        completions, {"answer": ["\\sqrt{2}"] * 3}, Budget(workers=3, tell=told.append)
    )
    assert rewards == [0.0, 1.0, 0.0]
    assert time.monotonic() - begun < 30  # 1 s each, and the start of workers on a busy machine
    assert len(told) == 1
    assert "more than 1 seconds" in told[0]
    assert verifier(["\\boxed{\\sqrt{2}/1}"], answer=["\\sqrt{2}"]) == [1.0]


def test_a_worker_is_reused_and_replaced_when_it_dies() -> None:
    needs_sympy()
    workers = pool.MathWorkers(1024)
    try:
        assert workers.equal("2x", "x+x", 10)
        first = workers._idle[0].process.pid
        assert not workers.equal("2x", "x", 10)
        assert [worker.process.pid for worker in workers._idle] == [first]
        workers._idle[0].process.kill()
        workers._idle[0].process.wait()
        assert workers.equal("2x", "x+x", 10)
        with pytest.raises(pool.TookTooLong):
            workers.equal("\\sqrt{2}", TOWER, 0.5)
        assert workers._idle == []
    finally:
        workers.close()


def test_it_works_from_many_threads_at_once() -> None:
    """math-verify's own limit of time rings in the main thread alone; elsewhere it scores 0."""
    needs_sympy()
    verifier = resolve("math")
    found: dict[int, list[float | None]] = {}

    def work(number: int) -> None:
        rows = boxed(SYMBOLIC)[:8]
        found[number] = verifier([row[1] for row in rows], answer=[row[0] for row in rows])

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    wanted = [float(right) for _, _, right in SYMBOLIC[:8]]
    assert found == dict.fromkeys(range(4), wanted)


@pytest.mark.realdata
@pytest.mark.skipif(not (REAL / "math").is_dir(), reason="LINNET_REAL_DATA is not set")
def test_every_published_answer_of_gsm8k_equals_itself_and_no_other() -> None:
    rows = [
        json.loads(line)
        for file in sorted((REAL / "math").glob("gsm8k_*.jsonl.gz"))
        for line in gzip.decompress(file.read_bytes()).splitlines()
    ]
    assert len(rows) > 7000
    for row in rows:
        solution, number = row["answer"], int(row["final"].replace(",", ""))
        assert fast_verdict(solution, solution) is True
        for form in (f"#### {number}", f"The answer is {number}.", f"\\boxed{{{number:,}}}", f"${number:,}"):
            assert fast_verdict(solution, form) is True
        assert fast_verdict(solution, f"{solution.rpartition('####')[0]}#### {number + 1}") is False
