"""score: rewards of several verifiers at once, what is late or fails is left out, and nothing crashes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from linnet.objectives.verifiers import VerifierSettings, processes, resolve, score

PROMPTS = ["What is 6 * 7?"] * 3
COMPLETIONS = [
    "<think>6*7</think><answer>42</answer>",
    "The answer is 42.",
    "<think>a</think><answer>41</answer>",
]


def test_rewards_of_several_verifiers_and_their_weighted_sum() -> None:
    verifiers = [resolve("numeric"), resolve(VerifierSettings(kind="format:think,answer", weight=0.25))]
    scores = score(verifiers, PROMPTS, COMPLETIONS, {"answer": ["42", "42", "42"]})
    np.testing.assert_array_equal(scores.rewards, [[1, 1], [1, 0], [0, 1]])
    np.testing.assert_array_equal(scores.weights, [1, 0.25])
    np.testing.assert_allclose(scores.total, [1.25, 1, 0.25])
    assert scores.names == ("numeric", "format")
    assert scores.anomalies == ()


def test_a_reward_that_does_not_apply_is_left_out_of_the_sum() -> None:
    verifiers = [resolve("numeric"), resolve("regex:answer")]
    scores = score(verifiers, PROMPTS, COMPLETIONS, {"answer": [None, "42", None]})
    np.testing.assert_array_equal(scores.rewards, [[np.nan, 1], [1, 1], [np.nan, 1]])
    np.testing.assert_array_equal(scores.total, [1, 2, 1])
    alone = score([resolve("numeric")], PROMPTS, COMPLETIONS, {"answer": [None, "42", None]})
    np.testing.assert_array_equal(alone.total, [np.nan, 1, np.nan])


def test_the_sum_is_trls() -> None:
    torch = pytest.importorskip("torch")
    rewards = np.array([[1.0, np.nan], [0.5, 2.0]])
    verifiers = [resolve("regex:a"), resolve(VerifierSettings(kind="regex:b", weight=-0.5))]
    scores = score(verifiers, ["", ""], ["a", "b"], {})
    given = type(scores)(rewards, scores.weights, scores.names, (), scores.seconds)
    trl = (torch.tensor(rewards) * torch.tensor([1.0, -0.5])).nansum(dim=1)
    np.testing.assert_allclose(given.total, trl.numpy())


def test_a_verifier_that_fails_is_told_once_and_the_others_count(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("def broken(completions, **kwargs):\n    raise RuntimeError('no luck')\n")
    verifiers = [resolve(f"python:{file}:broken"), resolve("numeric"), resolve("code")]
    told: list[str] = []
    for _ in range(2):
        scores = score(verifiers, PROMPTS, COMPLETIONS, {"answer": ["42"] * 3}, tell=told.append)
        np.testing.assert_array_equal(scores.rewards[:, 1], [1, 1, 0])
        assert np.isnan(scores.rewards[:, [0, 2]]).all()
    assert len(told) == 2
    assert any("mine.py:2: RuntimeError: no luck" in line for line in told)
    assert any("needs a column test_list or tests or test" in line for line in told)


def test_the_deadline_holds_and_what_was_judged_by_then_counts(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("import time\ndef slow(completions, **kwargs):\n    time.sleep(60)\n")
    hangs = "def f(x):\n    while True: pass"
    square = "def f(x): return x * x"
    verifiers = [resolve(f"python:{file}:slow"), resolve(VerifierSettings(kind="code", timeout_seconds=30.0))]
    begun = time.monotonic()
    scores = score(verifiers, ["", ""], [square, hangs], {"tests": [["assert f(3) == 9"]] * 2},
                   workers=2, deadline_seconds=2.5)  # fmt: skip
    assert time.monotonic() - begun < 10
    np.testing.assert_array_equal(scores.rewards, [[np.nan, 1], [np.nan, np.nan]])
    assert len(scores.anomalies) == 2
    time.sleep(0.5)
    assert not [
        p for p in processes._running if "run_tests.py" in str(p.args)
    ]  # none runs on behind the deadline


def test_an_empty_batch_and_a_wrong_one() -> None:
    assert score([resolve("numeric")], [], [], {"answer": []}).rewards.shape == (0, 1)
    with pytest.raises(ValueError, match="1 prompts and 0 completions"):
        score([], ["a"], [], {})


PROGRAM = """
from linnet.objectives.verifiers import VerifierSettings, resolve
written = [r"\\boxed{\\sqrt{12}}", r"\\boxed{\\sqrt{3}}"] * 4
answers = resolve("math")(written, answer=[r"2\\sqrt{3}"] * 8)
code = resolve(VerifierSettings(kind="code", timeout_seconds=1.0))
programs = code(["def f(x): return x * x", "while True: pass"] * 2, tests=[["assert f(3) == 9"]] * 4)
import os
os.write(1, repr((answers, programs)).encode())
"""


@pytest.mark.slow
def test_several_runs_on_one_machine_do_not_disturb_each_other() -> None:
    pytest.importorskip("math_verify")
    runs = [subprocess.Popen([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, env=dict(os.environ))
            for _ in range(2)]  # fmt: skip
    for run in runs:
        out, _ = run.communicate(timeout=120)
        assert out.decode() == repr(([1.0, 0.0] * 4, [1.0, 0.0] * 2))
