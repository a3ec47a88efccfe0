"""The verifier `model:PATH`: a language model says how good a completion is.

For what no rule can check: is the explanation clear, is the tone kind, does the answer fit the question. The folder
decides the form (judging_models.py): a causal language model is asked the recipe's `question` and gives the
probability of yes; a reward model reads the conversation and gives its head's value, which has no bounds. With
`threshold` either becomes 0 or 1.

What is judged was written by a model in training that gains by being judged well, so nothing in it may act:
names of special tokens in it are text, and "{answer}" in it is not filled in. It is judged frozen, in FP32, and
what does not fit the context loses the beginning of its prompt. Judged in an order of length, so that under a
deadline the longest are those left without a reward.
"""

from __future__ import annotations

import datetime
import re
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from linnet.config import LinnetError, RequestError
from linnet.infer import find_model
from linnet.model import check_weights, read_spec
from linnet.model.stock_files import weight_files
from linnet.objectives.verifiers.completions import Columns, row_values, text_of
from linnet.objectives.verifiers.judging_models import RewardHead, YesOrNo, is_reward_model
from linnet.objectives.verifiers.parallel import Budget
from linnet.objectives.verifiers.settings import VerifierSettings
from linnet.text.chat_tokens import ChatEncoder, template_for
from linnet.text.fitting import tokenizer_of

QUESTION = "Question: {prompt}\nAnswer: {completion}\nIs the answer right? Answer yes or no."
TEXT_ENDING = "\nVerdict:"  # makes the question a text that a yes or no continues
TOKENS_A_BATCH = {"cpu": 2048, "cuda": 65536}  # between two looks at the deadline
MOST_CHARACTERS = 64  # of a token, for cutting what can never fit before it is encoded
CUTS = 8  # a text that is cut by tokens may come out some tokens longer; so it is tried again
_PLACEHOLDER = re.compile(r"\{\{|\}\}|\{([A-Za-z_]\w*)\}")
# A judge's words may not change from one day of a run to the next.
_TODAY = datetime.date(2025, 1, 1)

Turn = dict[str, str]


class ModelJudge:
    """Judges completions by a model; called as every judge of a `Verifier` is.

    The weights are read at the first call, and are no part of a pickle or a checkpoint.

    Args:
        settings: what the recipe says.
        device: where to compute; by default CUDA where there is one, else the CPU.

    Raises:
        RequestError: when there is no model that can judge, or the settings do not fit its form.
    """

    def __init__(self, settings: VerifierSettings, device: torch.device | str | None = None) -> None:
        self.settings = settings
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.folder = find_model(Path(settings.detail).expanduser())
        self.is_reward_model = is_reward_model(self.folder)
        spec = read_spec(self.folder)
        self.tokenizer = tokenizer_of(self.folder, spec.vocab_size)
        self.context = spec.max_position_embeddings
        if self.is_reward_model:
            weight_files(self.folder)
        else:
            check_weights(self.folder, spec)
        self._check_form()
        self.encoder = self._chat_encoder()
        ending = "" if self.encoder is not None else TEXT_ENDING
        self.question = settings.question or QUESTION + ending
        self._network: RewardHead | YesOrNo | None = None
        self._loading = threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        return ModelJudge, (self.settings, self.device)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that it reads."""
        if self.is_reward_model:
            return ("prompts",)
        names = [name for name in _PLACEHOLDER.findall(self.question) if name]
        return tuple(dict.fromkeys("prompts" if n == "prompt" else n for n in names if n != "completion"))

    def __call__(self, texts: Sequence[str], columns: Columns, budget: Budget) -> list[float | None]:
        """The score of each text; None where it could not be judged, or not in time."""
        rewards: list[float | None] = [None] * len(texts)
        network = self._loaded()
        rows = self._rows(texts, columns, budget)
        order = sorted((row for row in range(len(rows)) if rows[row]), key=lambda row: len(rows[row]))
        for batch in self._batches(order, rows):
            if budget.left <= 0:
                budget.tell(
                    f"verifier {self.settings.title}: not every completion was judged before the deadline"
                )
                break
            # Threads of their own judge: what a training loop switched on for its own does not hold here.
            with torch.inference_mode(), torch.autocast(self.device.type, enabled=False):
                scores = network.scores([rows[row] for row in batch]).tolist()
            for row, score in zip(batch, scores, strict=True):
                rewards[row] = self._reward(score, budget)
        return rewards

    def _reward(self, score: float, budget: Budget) -> float | None:
        if score != score or abs(score) == float("inf"):
            budget.tell(f"verifier {self.settings.title}: the model's output is not finite")
            return None
        threshold = self.settings.threshold
        return score if threshold is None else float(score >= threshold)

    def _check_form(self) -> None:
        where = f"verifier {self.settings.title}"
        if self.is_reward_model and self.settings.question is not None:
            raise RequestError("a reward model is not asked a question", where, "leave out 'question'")
        threshold = self.settings.threshold
        if not self.is_reward_model and threshold is not None and not 0 < threshold < 1:
            raise RequestError(
                f"threshold is {threshold:g}, and a probability lies between 0 and 1", where,
                "write for example 'threshold: 0.5'",
            )  # fmt: skip

    def _chat_encoder(self) -> ChatEncoder | None:
        if self.tokenizer.chat_template is None:
            return None
        template = template_for(self.tokenizer, where=str(self.folder))
        template.today = _TODAY
        return ChatEncoder(template, self.tokenizer)

    def _loaded(self) -> RewardHead | YesOrNo:
        with self._loading:
            if self._network is None:
                if self.is_reward_model:
                    network: RewardHead | YesOrNo = RewardHead(self.folder)
                else:
                    network = YesOrNo(self.folder, self.tokenizer, self.encoder)
                network.to(self.device)
                self._network = network
            return self._network

    def _batches(self, order: Sequence[int], rows: Sequence[list[int]]) -> Iterator[list[int]]:
        """Rows of about one length together; with padding, at most TOKENS_A_BATCH tokens, or one row."""
        most = TOKENS_A_BATCH.get(self.device.type, TOKENS_A_BATCH["cpu"])
        batch: list[int] = []
        for row in order:
            if batch and len(rows[row]) * (len(batch) + 1) > most:
                yield batch
                batch = []
            batch.append(row)
        if batch:
            yield batch

    def _rows(self, texts: Sequence[str], columns: Columns, budget: Budget) -> list[list[int]]:
        """The ids that the model reads for each text; none where there is nothing to read."""
        values = {name: self._column(columns, name, len(texts)) for name in self.columns}
        prompts = values.pop("prompts", [""] * len(texts))
        rows: list[list[int]] = []
        for place, text in enumerate(texts):
            given = {name: column[place] for name, column in values.items()}
            if prompts[place] is None or any(value is None for value in given.values()):
                rows.append([])
                continue
            filled = {name: _as_text(value) for name, value in given.items()}
            try:
                rows.append(self._fitted(_turns(prompts[place]), text, filled, budget))
            except LinnetError as error:
                budget.tell(f"verifier {self.settings.title}: a completion was left out ({error.what})")
                rows.append([])
        return rows

    def _column(self, columns: Columns, name: str, count: int) -> list[Any]:
        if name not in columns:
            there = ", ".join(sorted(columns)) or "none"
            raise RequestError(f"it reads the column {name}, and there are: {there}",
                               f"verifier {self.settings.title}")  # fmt: skip
        return row_values(columns, name, count)

    def _fitted(self, turns: list[Turn], text: str, filled: dict[str, str], budget: Budget) -> list[int]:
        """The ids, without the beginning of the prompt where they are too many."""
        assert self._network is not None
        room = self.context - self._network.longest_answer
        text = text[-room * MOST_CHARACTERS :]
        turns = [{**turn, "content": turn["content"][-room * MOST_CHARACTERS :]} for turn in turns]
        ids = self._ids(turns, text, filled)
        if len(ids) > room:
            budget.tell(f"verifier {self.settings.title}: with its prompt a completion is longer than the "
                        f"{room} tokens of the model's context; the prompt's beginning is left out")  # fmt: skip
            for _ in range(CUTS):
                if len(ids) <= room or not any(turn["content"] for turn in turns):
                    break
                turns = self._without_first(turns, len(ids) - room)
                ids = self._ids(turns, text, filled)
        return ids[-room:]

    def _ids(self, turns: list[Turn], text: str, filled: dict[str, str]) -> list[int]:
        if self.is_reward_model:
            return self._conversation(turns, text)
        question = fill(self.question, {**filled, "prompt": _said(turns), "completion": text})
        if self.encoder is not None:
            return self.encoder.prompt([{"role": "user", "content": question}])
        return self.tokenizer.encode_prompt(question) or [self.tokenizer.eos_id]

    def _conversation(self, turns: list[Turn], text: str) -> list[int]:
        if self.encoder is not None:
            talk = [*turns, {"role": "assistant", "content": text}]
            return self.encoder.learn(talk, [False] * len(talk)).ids
        return self.tokenizer.encode_prompt(_said(turns) + text) or [self.tokenizer.eos_id]

    def _without_first(self, turns: list[Turn], count: int) -> list[Turn]:
        """Turns without their first `count` tokens; an emptied one goes, but for the last."""
        left: list[Turn] = []
        for place, turn in enumerate(turns):
            ids = self.tokenizer.encode(turn["content"]) if count else []
            content = self.tokenizer.decode(ids[count:], skip_special=False) if count else turn["content"]
            count = max(0, count - len(ids))
            if content or place == len(turns) - 1:
                left.append({**turn, "content": content})
        return left


def fill(question: str, values: dict[str, str]) -> str:
    """`question` with its placeholders filled, each once: what they are filled with is not looked at.

    `{{` and `}}` are braces, as in Python; other braces stay.
    """

    def value(found: re.Match[str]) -> str:
        return found[0][0] if found[1] is None else values.get(found[1], found[0])

    return _PLACEHOLDER.sub(value, question)


def _turns(prompt: Any) -> list[Turn]:
    """A prompt's messages; a text is the user's."""
    if isinstance(prompt, str):
        return [{"role": "user", "content": prompt}]
    return [{"role": str(turn.get("role", "user")), "content": text_of([turn])} for turn in prompt]


def _said(turns: Sequence[Turn]) -> str:
    """The turns as one text; who speaks is said where there are several."""
    if len(turns) == 1:
        return turns[0]["content"]
    return "\n".join(f"{turn['role'].capitalize()}: {turn['content']}" for turn in turns)


def _as_text(value: Any) -> str:
    """A column's value; of a list of answers, any of them."""
    return " or ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
