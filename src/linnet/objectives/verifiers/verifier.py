"""A verifier: what a recipe's word stands for, called as TRL calls a reward function.

The built-in kinds judge strings and know a budget (workers, deadline); a function of the user's own is given
exactly what TRL would give it. Both are called the same way, so a verifier of ours can be handed to TRL and
a function written for TRL to us.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from linnet.config import LinnetError, RequestError
from linnet.objectives.verifiers import code_tests, math_judge
from linnet.objectives.verifiers.completions import Columns, Completion, column_named, row_values, text_of
from linnet.objectives.verifiers.math_workers import missing_library
from linnet.objectives.verifiers.model_judge import ModelJudge
from linnet.objectives.verifiers.parallel import Budget
from linnet.objectives.verifiers.settings import ANSWER_COLUMNS, TEST_COLUMNS, VerifierSettings
from linnet.objectives.verifiers.text_judges import exact, format_judge, regex_judge
from linnet.objectives.verifiers.user_function import accepted, as_rewards, described, load_function, place

Rewards = list[float | None]
Judge = Callable[[list[str], Columns, Budget], Rewards]


class Verifier:
    """Gives completions their rewards: `verifier(completions, **columns) -> list[float | None]`.

    Made by `resolve`. None means that the verifier does not apply to a completion, or could not judge it.
    Nothing that a completion holds makes a call raise; what goes wrong is told once, in one line.

    Args:
        settings: what the recipe says.
        judge: for the built-in kinds; judges texts.
        function: for the user's own; takes TRL's arguments.
        needs: columns that `judge` reads whatever the settings say.
    """

    def __init__(
        self,
        settings: VerifierSettings,
        judge: Judge | None = None,
        function: Callable[..., Any] | None = None,
        needs: Sequence[str] = (),
    ) -> None:
        self.settings, self._judge, self._function, self._needs = settings, judge, function, needs
        self._told: set[str] = set()
        self._telling = threading.Lock()
        self.__name__ = settings.title  # what TRL names its metrics after

    @property
    def name(self) -> str:
        """What messages and metrics call it."""
        return self.settings.title

    @property
    def weight(self) -> float:
        """Its part in the sum of rewards."""
        return self.settings.weight

    def check_columns(self, columns: Sequence[str]) -> None:
        """Say before a run what would be missing in it.

        Raises:
            RequestError: when a column that it needs is not among `columns`.
        """
        there = dict.fromkeys((*columns, "prompts", "completions"))
        kind = self.settings.word
        if kind in ("math", "numeric", "exact"):
            column_named(there, self.settings.answer_column, ANSWER_COLUMNS, self.name, "answer_column")
        elif kind == "code":
            column_named(there, self.settings.test_column, TEST_COLUMNS, self.name, "test_column")
        elif self._function is not None:
            accepted(self._function, {**there, "completion_ids": None})
        for name in self._needs:
            if name not in there:
                there_are = ", ".join(sorted(columns)) or "none"
                raise RequestError(f"verifier {self.name} reads the column {name}; there are: {there_are}",
                                   "", "name one of these in its question")  # fmt: skip

    def __call__(self, completions: Sequence[Completion], **columns: Any) -> Rewards:
        """The reward of each completion, within a budget of all cores and no deadline."""
        return self.rewards(completions, columns, Budget())

    def rewards(self, completions: Sequence[Completion], columns: Columns, budget: Budget) -> Rewards:
        """The reward of each completion; never raises for what completions or columns hold.

        Args:
            completions: strings, or lists of messages.
            columns: a list for each column of the data, with one value a completion.
            budget: workers, deadline, and whom to tell what went wrong (each thing once).
        """
        quiet = Budget(budget.workers, budget.deadline, lambda line: self._tell(line, budget))
        try:
            if self._function is not None:
                return self._call(completions, columns)
            assert self._judge is not None
            return self._judge([text_of(completion) for completion in completions], columns, quiet)
        except LinnetError as error:
            quiet.tell(f"verifier {self.name} gave no reward: {error.line()}")
        except (Exception, SystemExit) as error:
            quiet.tell(f"verifier {self.name} gave no reward: {self._where(error)}{described(error)}")
        return [None] * len(completions)

    def _call(self, completions: Sequence[Completion], columns: Columns) -> Rewards:
        assert self._function is not None
        given = accepted(self._function, {**columns, "completions": list(completions)})
        return as_rewards(self._function(**given), len(completions))

    def _where(self, error: BaseException) -> str:
        if self.settings.word != "python":
            return ""
        path = self.settings.detail.rpartition(":")[0]
        return f"{place(error, Path(path).expanduser().resolve(), path)}: "

    def _tell(self, line: str, budget: Budget) -> None:
        with self._telling:
            if line in self._told:
                return
            self._told.add(line)
        budget.tell(line)


def resolve(settings: VerifierSettings | str, device: torch.device | str | None = None) -> Verifier:
    """The verifier that a recipe's word or section stands for.

    Args:
        device: where a verifier model computes; by default CUDA where there is one, else the CPU. Whoever
            has a GPU of its own among several gives it here: verifiers run in threads, and a thread
            does not know which one that is.

    Raises:
        RequestError: when there is none such, its pattern, file or model is wrong, or math-verify is missing.
    """
    if isinstance(settings, str):
        try:
            settings = VerifierSettings(kind=settings)
        except ValueError as error:
            reason = (
                error.errors()[0].get("ctx", {}).get("error", error) if hasattr(error, "errors") else error
            )
            raise RequestError(str(reason), "verifiers") from None
    word = settings.word
    if word == "python":
        return Verifier(settings, function=load_function(settings.detail))
    if word == "model":
        judge = ModelJudge(settings, device)
        return Verifier(settings, judge=judge, needs=judge.columns)
    if word == "math":
        _need_math_verify()
    return Verifier(settings, judge=_judge_of(settings))


def _need_math_verify() -> None:
    from importlib.util import find_spec

    if find_spec("math_verify") is None:
        raise missing_library()


def _judge_of(settings: VerifierSettings) -> Judge:
    word = settings.word
    if word == "code":
        return lambda texts, columns, budget: code_tests.judge(texts, columns, settings, budget)
    if word == "regex":
        search = regex_judge(settings.detail, settings.timeout_seconds, settings.title)
        return lambda texts, columns, budget: [search(text, budget) for text in texts]
    if word == "format":
        form = format_judge(settings.detail, settings.partial, settings.title)
        return lambda texts, columns, budget: [form(text) for text in texts]

    def with_answers(texts: list[str], columns: Columns, budget: Budget) -> Rewards:
        name = column_named(columns, settings.answer_column, ANSWER_COLUMNS, settings.title, "answer_column")
        expected = row_values(columns, name, len(texts))
        if word == "exact":
            return [None if wanted is None else exact(text, wanted, settings.strict)
                    for text, wanted in zip(texts, expected, strict=True)]  # fmt: skip
        return math_judge.judge(texts, expected, settings, budget)

    return with_answers
