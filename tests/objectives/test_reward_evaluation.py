"""Held-out problems, pass@k, the look before training, and completions that should be read."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from rewarding import EOS, PROBLEMS, Counting, LetterTokenizer, network, problem, settings, verifier

import tiny
from linnet.data.conversations.kinds import Problem
from linnet.infer import Completion, Generator
from linnet.objectives.reward import check_solvable, evaluate_problems, pass_at_k
from linnet.objectives.reward.rollouts import Group, columns_of, solved
from linnet.objectives.reward.suspects import lines, suspects
from linnet.objectives.verifiers import Verifier, VerifierSettings

NAN = float("nan")


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with tiny.one_thread():
        yield


def generator() -> Generator:
    return Generator(network(), LetterTokenizer())


def judging(judge: Any, **more: Any) -> Verifier:
    """A verifier that gives what `judge(text)` says."""
    return Verifier(
        VerifierSettings.model_validate({"kind": "regex:.", **more}),
        judge=lambda texts, columns, budget: [judge(text) for text in texts],
    )


# --- pass@k -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("tries", "right", "k"), [(5, 2, 1), (5, 2, 3), (6, 1, 4), (4, 4, 2), (6, 0, 6)])
def test_pass_at_k_is_the_share_of_draws_with_a_right_one(tries: int, right: int, k: int) -> None:
    draws = list(itertools.combinations(range(tries), k))
    assert pass_at_k(tries, right, k) == pytest.approx(sum(min(d) < right for d in draws) / len(draws))


def test_pass_at_more_than_was_tried_is_no_number() -> None:
    with pytest.raises(ValueError, match="pass@9 cannot be told from 8"):
        pass_at_k(8, 1, 9)


def test_right_is_what_every_verifier_of_answers_says() -> None:
    verifiers = [verifier("exact"), verifier("format:think,answer"), judging(len, name="b")]
    each = np.array([[1, 0, 1], [1, 1, 0], [1, 0, NAN], [NAN, 1, NAN], [0, 1, 1]], dtype=float)
    assert solved(each, verifiers).tolist() == [True, False, True, False, False]
    assert solved(each[:, 1:2], verifiers[1:2]).tolist() == [False, True, False, True, True]
    fine = [verifier("exact"), verifier("regex:x", weight=-1.0)]
    assert solved(np.array([[1.0, 0.0], [0.0, 1.0]]), fine).tolist() == [True, False]


# --- evaluation -------------------------------------------------------------------------------------------


def test_an_evaluation_is_the_same_whenever_it_is_asked_for() -> None:
    some = generator()
    one, again, other = (
        evaluate_problems(
            some, PROBLEMS, [Counting()], samples=3, temperature=1.0, max_new_tokens=8, seed=seed
        )
        for seed in (1, 1, 2)
    )
    assert one.rewards.shape == (8, 3)
    np.testing.assert_array_equal(one.rewards, again.rewards)
    assert not np.array_equal(one.rewards, other.rewards)
    assert one.reward == pytest.approx(np.nanmean(one.rewards, axis=1).mean())
    part, slowly = (
        evaluate_problems(
            some, few, [Counting()], samples=3, temperature=1.0, max_new_tokens=8, seed=1, slots=slots
        )
        for few, slots in ((PROBLEMS[:2], None), (PROBLEMS, 5))
    )
    np.testing.assert_array_equal(part.rewards, one.rewards[:2])
    np.testing.assert_array_equal(slowly.rewards, one.rewards)


def test_metrics_of_an_evaluation() -> None:
    judges = [
        judging(lambda text: float("a" in text), name="a"),
        judging(lambda text: 1.0, name="b", weight=2.0),
    ]
    found = evaluate_problems(generator(), PROBLEMS, judges, samples=2, temperature=1.0, max_new_tokens=8)
    share = np.mean([["a" in c.text for c in group.completions] for group in found.rollouts.groups])
    metrics = found.metrics()
    assert metrics["val/reward"] == pytest.approx(share + 2)
    assert metrics["val/reward/a"] == metrics["val/solved"] == pytest.approx(share)
    assert metrics["val/reward/b"] == 1
    assert metrics["val/pass_at_2"] >= metrics["val/solved"]
    assert len(found.per_problem) == 8


def test_greedy_is_one_answer() -> None:
    found = evaluate_problems(generator(), PROBLEMS, [Counting()], max_new_tokens=4)
    assert found.rewards.shape == (8, 1)
    assert "val/pass_at_1" not in found.metrics()


def test_what_is_right_is_the_problems_answer_and_not_a_column_of_its_name() -> None:
    turns = problem("ab", "a").problem.prompt
    rows = [
        Problem(turns, "C", {"answer": 2}),
        Problem(turns, None, {"answer": ["x", "y"]}),
        Problem(turns, "d"),
    ]
    assert columns_of(rows)["answer"] == ["C", ["x", "y"], "d"]


def test_columns_of_mixed_sources_are_one_table() -> None:
    mixed = [problem("a", "x", level=3), problem("b"), problem("c")]
    mixed[2] = type(mixed[2])(
        mixed[2].ids, type(mixed[2].problem)(mixed[2].problem.prompt, "z", {"solution": "z"})
    )
    assert columns_of([one.problem for one in mixed]) == {
        "answer": ["x", None, "z"],
        "level": [3, None, None],
        "solution": [None, None, "z"],
    }


# --- the look before training -----------------------------------------------------------------------------


def checked(*verifiers: Verifier, **changes: Any) -> Any:
    return check_solvable(generator(), PROBLEMS, verifiers, settings(check_samples=4, **changes), seed=3)


def test_problems_that_are_solved_now_and_then_pass() -> None:
    found = checked(judging(lambda text: float("a" in text)))
    assert found.refusal is None
    assert found.warnings == ()
    assert (found.problems, found.tries) == (8, 4)
    assert 0 < found.solved <= 8
    assert 0 < found.varied <= 8
    assert f"{found.solved} of 8 problems solved in 4 tries each" in str(found)
    assert found.metrics()["rlvr/pass_at_1"] <= found.metrics()["rlvr/pass_at_4"]


def test_problems_that_are_never_solved_are_refused_with_what_to_try() -> None:
    found = checked(judging(lambda text: 0.0), verifier("format:think,answer"), max_completion_length=2)
    line = found.refusal.line()
    assert "0 of 8 problems solved in 4 tries each: this cannot be learned here" in line
    assert "completions were cut off: raise max_completion_length above 2" in line
    assert "no completion has the form 'format:think,answer': teach it by SFT first" in line
    assert "give easier ones" in line


def test_problems_without_a_verdict_are_refused_with_the_reason() -> None:
    def broken(text: str) -> float:
        raise RuntimeError("out of order")

    assert "no verifier could judge any of 32 completions: " in checked(judging(broken)).refusal.line()
    assert "out of order" in checked(judging(broken)).refusal.line()


def test_problems_that_are_always_solved_are_said_to_teach_little() -> None:
    found = checked(judging(lambda text: 1.0))
    assert found.refusal is None
    assert "8 of 8 problems are solved at every one of 4 tries" in found.warnings[0]


def test_rewards_for_something_else_than_answers_are_said() -> None:
    found = checked(
        judging(lambda text: 0.0, name="answer"), judging(lambda text: float("a" in text) / 4, name="b")
    )
    assert found.refusal is None
    assert "0 of 8 problems solved" in found.warnings[0]


def test_the_look_takes_some_problems_and_draws_as_training_does() -> None:
    found = checked(Counting(), check_problems=3, temperature=0.5, max_completion_length=5)
    assert found.problems == 3
    assert found.found.rollouts.lengths.max() == 5


# --- suspects ---------------------------------------------------------------------------------------------


def group(rewards: list[Any], texts: list[str], lengths: list[int] | None = None) -> Group:
    """A group of completions; each reward one number a verifier."""
    each = np.array(rewards, dtype=float).reshape(len(texts), -1)
    sizes = lengths or [10] * len(texts)
    done = [Completion([EOS], [0] * size, text, "eos") for text, size in zip(texts, sizes, strict=True)]
    return Group(problem("ab"), done, np.nansum(each, axis=1), each)


ONE = [judging(len)]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("The answer is 4. " * 40, "repeats itself"),
        ("The answer is 3. Or the answer is 4, or the answer is 5.", "states several answers"),
        (r"\boxed{1} \boxed{2} \boxed{3}", "states several answers"),
    ],
)
def test_tricks_that_are_rewarded_are_found(text: str, why: str) -> None:
    plain = "Two and two are four, so the answer is 4."
    found = suspects([group([1, 0, 0, 0], [text, plain, plain, plain])], ONE)
    assert [suspect.why for suspect in found] == [why]
    assert suspects([group([0, 1, 0, 0], [text, plain, plain, plain])], ONE) == []


def test_a_rewarded_length_far_from_its_group_is_found() -> None:
    texts = ["a", "b", "c", "d"]
    short = suspects([group([1, 0, 0, 0], texts, [5, 50, 60, 70])], ONE)
    assert [suspect.why for suspect in short] == ["is much shorter than its group"]
    long = suspects([group([1, 0, 0, 0], texts, [200, 20, 30, 25])], ONE)
    assert [suspect.why for suspect in long] == ["is much longer than its group"]
    assert suspects([group([1, 0, 0, 0], texts, [40, 50, 60, 70])], ONE) == []


def test_a_reward_that_another_verifier_denies_is_found() -> None:
    two = [judging(len, name="numeric"), judging(len, name="judge"), verifier("format:boxed")]
    found = suspects([group([[0, 2, 0], [1, 1, 0], [0, 0, 1]], ["a", "b", "c"])], two)
    assert [suspect.why for suspect in found] == ["pleases judge and not numeric"]


def test_honest_completions_and_equal_rewards_are_no_suspects() -> None:
    prose = (
        "A train that leaves at noon and runs for three hours at ninety kilometres an hour has come two hundred "
        "and seventy kilometres by then, and since the way back is as long as the way there, it needs three more "
        "hours for it; so it is six o'clock when it stands where it began, which was asked."
    )
    assert suspects([group([1, 0, 0], [prose, "no", "no"])], ONE) == []
    assert suspects([group([1, 1, 1], ["x " * 300] * 3)], ONE) == []


def test_suspects_are_told_one_of_a_kind() -> None:
    trick = "The answer is 4. " * 40
    found = suspects([group([1, 1, 0, 0], [trick, trick, "a", "b"])], ONE)
    (line,) = lines(found)
    assert line.startswith("a completion with reward 1 repeats itself: 'The answer is 4.")
    assert line.endswith("(one of 2 such)")
    assert len(line) < 200
