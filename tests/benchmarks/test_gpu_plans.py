"""`make gpu-check` keeps to its time whatever its parts do, and what it found is in a file at once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

GPU = Path(__file__).resolve().parents[2] / "benchmarks" / "gpu"
sys.path.insert(0, str(GPU))

from plans import LIMITS, PLANS  # noqa: E402
from scheduler import Part, Report, Result, run_plan  # noqa: E402

ANSWER = "import json, os; open(os.environ['GPU_CHECK_RESULT'], 'w').write(json.dumps({}))"
PROGRAMS = {
    "good": ANSWER.format({"outcome": "passed", "detail": "as it should", "figures": {"tokens_per_second": 9.0}}),
    "wrong": ANSWER.format({"outcome": "failed", "detail": "an error of 0.5", "figures": {}}),
    "skipped": ANSWER.format({"outcome": "skipped", "detail": "no checkout", "figures": {}}),
    "crash": "raise ValueError('what went wrong')",
    "segfault": "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)",
    "hang": "import time; time.sleep(60)",
    "garbled": "import os; open(os.environ['GPU_CHECK_RESULT'], 'w').write('{')",
    "orphan": "import subprocess, sys, time; subprocess.Popen([sys.executable, '-S', '-c', "
    "'import time; time.sleep(1.5); open(\"orphan\", \"w\")']); time.sleep(60)",
    "answers and hangs": ANSWER.format({"outcome": "passed", "detail": "done", "figures": {}})
    + "; import time; time.sleep(60)",
}  # fmt: skip


def stand_in(part: Part) -> list[str]:
    return [sys.executable, "-S", "-c", PROGRAMS[part.name.split(":")[0]]]


def carried_out(folder: Path, *parts: Part) -> tuple[list[Result], Report, float]:
    report = Report(folder, "trial")
    began = time.monotonic()
    results = run_plan(parts, stand_in, report.add, report.log, os.environ)
    return results, report, time.monotonic() - began


@pytest.mark.parametrize("plan", LIMITS)
def test_the_parts_of_a_plan_fit_its_time(plan: str) -> None:
    assert sum(part.seconds for part in PLANS[plan]) <= LIMITS[plan] <= 600


def test_whatever_a_part_does_the_others_run_and_all_is_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names = [
        "orphan",
        "answers and hangs",
        "good",
        "wrong",
        "skipped",
        "crash",
        "segfault",
        "garbled",
        "good:2",
    ]
    results, report, seconds = carried_out(
        tmp_path / "out", *(Part(name, 1.0 if i < 2 else 3.0) for i, name in enumerate(names))
    )
    outcomes = ["killed", "passed", "passed", "failed", "skipped", "crashed", "crashed", "crashed", "passed"]
    assert [one.outcome for one in results] == outcomes
    assert [one.part for one in results if one.bad] == ["orphan", "wrong", "crash", "segfault", "garbled"]
    assert "ValueError: what went wrong" in results[5].detail
    assert seconds < 23
    lines = [json.loads(line) for line in report.lines.read_text().splitlines()]
    assert [line["outcome"] for line in lines] == outcomes
    page = report.page.read_text()
    assert all(f"| {name} |" in page for name in names)
    time.sleep(max(0.0, 2.0 - seconds))
    assert not Path("orphan").exists(), "a killed part's children go on"


def test_a_hanging_part_takes_only_its_own_time_and_what_was_left_over(tmp_path: Path) -> None:
    results, _, seconds = carried_out(tmp_path, Part("good", 3.0), Part("hang", 0.5), Part("good:2", 3.0))
    assert [one.outcome for one in results] == ["passed", "killed", "passed"]
    assert results[1].seconds <= 3.6
    assert seconds < 7.0


@pytest.mark.parametrize("plan", LIMITS)
def test_a_plan_whose_parts_all_hang_ends_in_time(plan: str, tmp_path: Path) -> None:
    """A dry run at a hundredth of the time."""
    parts = [Part(f"hang:{part.name}", part.seconds / 100) for part in PLANS[plan]]
    results, _, seconds = carried_out(tmp_path, *parts)
    assert {one.outcome for one in results} == {"killed"}
    assert seconds < LIMITS[plan] / 100 + 1.5


def test_a_result_is_in_the_file_before_the_next_part_starts(tmp_path: Path) -> None:
    report = Report(tmp_path, "trial")
    seen: list[int] = []

    def looking(part: Part) -> list[str]:
        seen.append(len(report.lines.read_text().splitlines()) if report.lines.exists() else 0)
        return stand_in(part)

    run_plan(
        [Part("good", 2), Part("crash", 2), Part("good", 2)], looking, report.add, report.log, os.environ
    )
    assert seen == [0, 1, 2]


def test_the_check_needs_nothing_but_the_standard_library_and_keeps_paths(tmp_path: Path) -> None:
    """Without torch, pydantic or an installed Linnet the machine's own Python still runs every part's process."""
    wheel = tmp_path / "elsewhere"
    wheel.mkdir()
    (wheel / "probe.py").write_text("", encoding="utf-8")
    program = (
        "import sys, check, pathlib; sys.modules.pop('torch', None)\n"
        "variables = check.environment(pathlib.Path('packages'))\n"
        "print(variables['PYTHONPATH'])\n"
        "print(check.command(check.PLANS['first'][-3])[2:])"
    )
    command = [sys.executable, "-S", "-c", f"import sys; sys.path.insert(0, {str(GPU)!r})\n{program}"]
    done = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": str(wheel)}, capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    paths = said[-2].split(os.pathsep)
    assert paths[0].endswith("src")
    assert paths[-1] == str(wheel)
    assert said[-1].startswith("['bench', 'recipe=dense-180m'")
