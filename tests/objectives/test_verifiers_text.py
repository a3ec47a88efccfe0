"""exact, regex, format, functions of the user's own, and how a recipe's words are resolved."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from linnet.config import RequestError, Section, from_text, validate
from linnet.objectives.verifiers import Budget, VerifierSettings, VerifiersField, resolve


def test_exact_is_normalised_or_strict() -> None:
    completions = ["The answer is PARIS.", "paris", "  Paris \n", "London", "", "the capital\nParis"]
    assert resolve("exact")(completions, answer=["Paris"] * 6) == [1.0, 1.0, 1.0, 0.0, 0.0, 1.0]
    strict = resolve(VerifierSettings(kind="exact", strict=True))
    assert strict(["Paris", "paris", "Paris "], answer=["Paris"] * 3) == [1.0, 0.0, 0.0]
    assert resolve("exact")(["yes", "x"], answer=[["Yes", "y"], None]) == [1.0, None]


def test_regex_searches_and_cannot_hang() -> None:
    assert resolve(r"regex:\bfour(ty)?\b")(["a four", "fourty!", "fourteen"]) == [1.0, 1.0, 0.0]
    assert resolve(VerifierSettings(kind="regex", pattern="a:b"))(["a:b", "ab"]) == [1.0, 0.0]
    told: list[str] = []
    hanging = resolve(VerifierSettings(kind="regex:(?:a|aa)+$", timeout_seconds=0.2))
    begun = time.monotonic()
    assert hanging.rewards(["a" * 40 + "b", "aa"], {}, Budget(tell=told.append)) == [None, 1.0]
    assert time.monotonic() - begun < 5
    assert len(told) == 1
    with pytest.raises(RequestError, match="not a regular expression"):
        resolve("regex:(")


FORMS = [
    ("<think>a</think><answer>b</answer>", 1.0, 1.0),
    ("<think>a</think>\n<answer>b</answer>\n", 1.0, 1.0),
    ("<think>a</think> so <answer>b</answer>", 0.0, 1.0),
    ("<answer>b</answer><think>a</think>", 0.0, 1.0),
    ("<think>a</think>", 0.0, 0.5),
    ("<think>a</think><answer></answer>", 0.0, 0.5),
    ("<think>a</think><answer>b", 0.0, 0.5),
    ("<think>a</think><answer>b</answer><answer>c</answer>", 0.0, 0.5),
    ("<think><think>a</think><answer>b</answer>", 0.0, 0.5),
    ("</think>a<think></answer>b<answer>", 0.0, 0.0),
    ("42", 0.0, 0.0),
]


def test_format_asks_for_tags_in_order() -> None:
    texts = [text for text, _, _ in FORMS]
    assert resolve("format:think,answer")(texts) == [whole for _, whole, _ in FORMS]
    partial = resolve(VerifierSettings(kind="format:think,answer", partial=True))
    assert partial(texts) == [share for _, _, share in FORMS]
    assert resolve("format:boxed")(["\\boxed{4}", "\\boxed{}", "4"]) == [1.0, 0.0, 0.0]


REWARDS = '''
loads = []
loads.append(1)

def length(completions, **kwargs):
    """TRL's signature."""
    return [len(c) / 10 for c in completions]

def matches(completions, answer):
    return [None if a is None else c == a for c, a in zip(completions, answer)]

def with_prompts(prompts, completions, completion_ids=None, **columns):
    return [float(p in c) for p, c in zip(prompts, completions)]

def fails(completions, **kwargs):
    return [1 / 0 for _ in completions]

def short(completions, **kwargs):
    return [1.0]

def words(completions, **kwargs):
    return ["good" for _ in completions]

def leaves(completions, **kwargs):
    raise SystemExit(3)

def infinite(completions, **kwargs):
    return [float("inf"), float("nan")]

def array(completions, **kwargs):
    import numpy
    return numpy.array([1, 0])

def alone(completions):
    return 1.0
'''


@pytest.fixture
def rewards_file(tmp_path: Path) -> str:
    file = tmp_path / "rewards.py"
    file.write_text(REWARDS)
    return str(file)


def test_a_function_of_the_users_own(rewards_file: str) -> None:
    assert resolve(f"python:{rewards_file}:length")(["abcde", ""], prompts=["", ""], other=[1, 2]) == [
        0.5,
        0.0,
    ]
    assert resolve(f"python:{rewards_file}:matches")(["a", "b", "c"], answer=["a", "x", None], n=[1] * 3) == [
        1,
        0,
        None,
    ]
    assert resolve(f"python:{rewards_file}:with_prompts")(["ab", "b"], prompts=["a", "a"]) == [1.0, 0.0]
    assert resolve(f"python:{rewards_file}:array")(["", ""]) == [1.0, 0.0]
    assert resolve(f"python:{rewards_file}:infinite").name == "infinite"


@pytest.mark.parametrize(
    ("function", "line"),
    [
        ("fails", ":16: ZeroDivisionError: division by zero"),
        ("leaves", "SystemExit: 3"),
        ("short", "it returned 1 rewards for 2 completions"),
        ("words", "'good' where a number belongs"),
        ("infinite", "an infinite reward"),
        ("alone", "it returned float, not a list"),
        ("matches", "takes 'answer', which is no column; there are: completions, prompts"),
    ],
)
def test_a_function_that_goes_wrong_gives_one_line_and_no_reward(
    rewards_file: str, function: str, line: str
) -> None:
    told: list[str] = []
    verifier = resolve(f"python:{rewards_file}:{function}")
    for _ in range(3):
        assert verifier.rewards(["a", "b"], {"prompts": ["", ""]}, Budget(tell=told.append)) == [None, None]
    assert len(told) == 1
    assert line in told[0]
    assert "\n" not in told[0]


def test_a_file_is_loaded_once_and_its_errors_say_where(tmp_path: Path, rewards_file: str) -> None:
    first, second = resolve(f"python:{rewards_file}:length"), resolve(f"python:{rewards_file}:short")
    assert first._function.__globals__ is second._function.__globals__  # type: ignore[union-attr]
    with pytest.raises(RequestError, match=r"no function 'nothing'.*length, matches"):
        resolve(f"python:{rewards_file}:nothing")
    with pytest.raises(RequestError, match="no such file"):
        resolve("python:nowhere.py:reward")
    for text, place in (
        ("def f(:\n", r"bad0\.py:1: SyntaxError"),
        ("x = 1\nimport nowhere_at_all\n", r"bad1\.py:2: ModuleNotFoundError"),
    ):
        bad = tmp_path / f"bad{'nowhere' in text:d}.py"
        bad.write_text(text)
        with pytest.raises(RequestError, match=place):
            resolve(f"python:{bad}:f")


class Recipe(Section):
    verifiers: VerifiersField


def test_a_recipe_names_verifiers_by_word_or_section() -> None:
    text = "verifiers: [math, 'format:think,answer', {kind: code, weight: 0.5, partial: true}]"
    assert [v.word for v in read("verifiers: math").verifiers] == ["math"]
    found = read(text).verifiers
    assert [v.word for v in found] == ["math", "format", "code"]
    assert [v.weight for v in found] == [1.0, 1.0, 0.5]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("verifiers: [maths]", "there is no verifier 'maths'; known: math, numeric"),
        ("verifiers: [regex]", "regex needs to say what"),
        ("verifiers: ['code:fast']", "nothing follows a colon"),
        ("verifiers: [{type: math}]", "write 'kind'"),
        ("verifiers: [{kind: math, reward_weight: 2}]", "write 'weight'"),
        ("verifiers: [{kind: math, strict: true}]", "strict belongs to kind: exact"),
        ("verifiers: [{kind: math, weight: .nan}]", "finite"),
        ("verifiers: [{kind: 'regex:a', pattern: b}]", "is said once"),
        ("verifiers: [{kind: code, timeout_seconds: 0.0}]", "greater than 0"),
    ],
)
def test_a_wrong_section_is_told_in_one_line(text: str, line: str) -> None:
    with pytest.raises(RequestError) as error:
        read(text)
    assert line in error.value.line()


def read(text: str) -> Recipe:
    return validate(Recipe, from_text(text, "recipe.yaml"))


def test_a_wrong_word_and_missing_columns_are_told() -> None:
    with pytest.raises(RequestError, match="there is no verifier 'maths'"):
        resolve("maths")
    with pytest.raises(
        RequestError, match="needs a column answer or solution or ground_truth; there are: question"
    ):
        resolve("numeric").check_columns(["question"])
    with pytest.raises(RequestError, match="needs a column gold"):
        resolve(VerifierSettings(kind="numeric", answer_column="gold")).check_columns(["answer"])
    with pytest.raises(RequestError, match="test_list or tests or test"):
        resolve("code").check_columns(["answer"])
    resolve("numeric").check_columns(["ground_truth"])


def test_math_without_math_verify_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(RequestError, match=r"pip install 'linnet\[math\]'"):
        resolve("math")
    assert resolve("numeric")(["4"], answer=["4"]) == [1.0]
