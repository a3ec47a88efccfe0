"""What checks a completion and gives its reward, as a recipe says it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, Field, PositiveFloat, PositiveInt, model_validator

from linnet.config import Section

KINDS = ("math", "numeric", "exact", "regex", "format", "code", "python", "model")
ANSWER_COLUMNS = ("answer", "solution", "ground_truth")
TEST_COLUMNS = ("test_list", "tests", "test")


class VerifierSettings(Section):
    """One verifier: `kind` is math, numeric, exact, regex:PATTERN, format:think,answer (or format:boxed),
    code, python:path/to/file.py:function, or model:PATH.

    `weight` is its part in the sum of rewards. `timeout_seconds` and `memory_mb` bound the judging of one
    completion (math, code, regex). `answer_column` names the column of expected answers, else the first of
    answer, solution, ground_truth that there is; `test_column` the same for code, else test_list, tests,
    test. `pattern` is regex's, if it does not stand in `kind`. `strict` makes exact compare every
    character. `partial` gives code the share of tests that pass and format the share of tags in place,
    instead of all or nothing. `name` is what messages and metrics call it.

    For model, PATH is a run, a checkpoint or a stock model folder. A language model is asked `question`, in which
    {prompt}, {completion} and the name of any column ({answer}) are filled in, and gives the probability of yes;
    a reward model gives its head's value. `threshold` makes 1 of what reaches it and 0 of the rest.
    """

    kind: str
    weight: float = 1.0
    timeout_seconds: PositiveFloat = 5.0
    memory_mb: PositiveInt = Field(default=512, ge=64)
    answer_column: str | None = None
    test_column: str | None = None
    pattern: str | None = None
    strict: bool = False
    partial: bool = False
    question: str | None = None
    threshold: float | None = None
    name: str | None = None

    habits: ClassVar[Mapping[str, str]] = {
        "type": "write 'kind'",
        "verifier": "write 'kind'",
        "function": "write 'kind: python:path/to/file.py:function'",
        "path": "write 'kind: python:path/to/file.py:function'",
        "reward_funcs": "write a list of verifiers, each with its 'kind'",
        "reward_weight": "write 'weight'",
        "reward_weights": "each verifier has its own 'weight'",
        "timeout": "write 'timeout_seconds'",
        "memory_limit": "write 'memory_mb'",
        "memory": "write 'memory_mb'",
        "regex": "write 'kind: regex' and 'pattern'",
        "answer_key": "write 'answer_column'",
        "solution_column": "write 'answer_column'",
        "ground_truth": "write 'answer_column'",
        "tests": "write 'test_column'",
        "model": "write 'kind: model:PATH'",
        "judge": "write 'kind: model:PATH'",
        "judge_model": "write 'kind: model:PATH'",
        "reward_model": "write 'kind: model:PATH'",
        "reward_model_path": "write 'kind: model:PATH'",
        "template": "write 'question'",
        "prompt_template": "write 'question'",
        "judge_prompt": "write 'question'",
        "cutoff": "write 'threshold'",
    }

    @property
    def word(self) -> str:
        """The kind without what follows its colon."""
        return self.kind.partition(":")[0]

    @property
    def detail(self) -> str:
        """What follows the colon of the kind, or the pattern."""
        return self.kind.partition(":")[2] or self.pattern or ""

    @property
    def title(self) -> str:
        """A short name for messages and metrics."""
        if self.name:
            return self.name
        return self.detail.rpartition(":")[2] or self.word if self.word == "python" else self.word

    @model_validator(mode="after")
    def _fits(self) -> VerifierSettings:
        if self.word not in KINDS:
            known = ", ".join(KINDS)
            raise ValueError(f"there is no verifier {self.kind!r}; known: {known} (regex:PATTERN, "
                             "format:think,answer, python:path/to/file.py:function, model:PATH)")  # fmt: skip
        if not math.isfinite(self.weight):
            raise ValueError("a weight must be a finite number")
        if self.pattern is not None and (self.word != "regex" or ":" in self.kind):
            raise ValueError("pattern belongs to kind: regex, and is said once")
        if self.word in ("regex", "format", "python", "model") and not self.detail:
            example = {"regex": r"regex:\bPATTERN\b", "format": "format:think,answer",
                       "python": "python:rewards.py:my_reward", "model": "model:runs/judge"}[self.word]  # fmt: skip
            raise ValueError(f"{self.word} needs to say what; write for example {example!r}")
        if self.word in ("math", "numeric", "exact", "code") and ":" in self.kind:
            raise ValueError(f"nothing follows a colon for {self.word}; write kind: {self.word}")
        if self.strict and self.word != "exact":
            raise ValueError("strict belongs to kind: exact")
        if self.partial and self.word not in ("code", "format"):
            raise ValueError("partial belongs to the kinds code and format")
        if self.word != "model" and (self.question is not None or self.threshold is not None):
            raise ValueError("question and threshold belong to kind: model:PATH")
        if self.question is not None and "{completion}" not in self.question:
            raise ValueError("a question needs {completion} where the completion is to stand")
        if self.threshold is not None and not math.isfinite(self.threshold):
            raise ValueError("a threshold must be a finite number")
        return self


def _from_word(value: Any) -> Any:
    return {"kind": value} if isinstance(value, str) else value


def _as_tuple(value: Any) -> Any:
    if isinstance(value, (str, dict, VerifierSettings)):
        value = [value]
    return tuple(value) if isinstance(value, list) else value


# In a recipe a word is enough, and one needs no list: `verifiers: [math, {kind: code, weight: 0.5}]`.
VerifiersField = Annotated[
    tuple[Annotated[VerifierSettings, BeforeValidator(_from_word)], ...], BeforeValidator(_as_tuple)
]
