"""The two kinds of model that judge: one that is asked yes or no, and one with a reward head.

Both are stock folders. The first is any causal language model: of the words that could follow, how much more
likely is yes than no? The second is what reward trainers save (`LlamaForSequenceClassification` and its like with
one label): a vector that turns the hidden state of the last token into a number. transformers is the
oracle of its values in the tests.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from linnet.config import RequestError
from linnet.model import ModelSpec, Transformer, load_model, read_spec
from linnet.model.stock_files import read_weights
from linnet.model.stock_weights import State, from_stock
from linnet.text import Tokenizer
from linnet.text.chat_tokens import ChatEncoder

YES = ("yes", "Yes", "YES")
NO = ("no", "No", "NO")
_HEAD = "score.weight"
_REWARD_CLASS = "ForSequenceClassification"
_MEND = (
    "a verifier model is a causal language model, or a reward model "
    "(LlamaForSequenceClassification and the like) with one label"
)

Ids = Sequence[int]


def is_reward_model(folder: Path) -> bool:
    """Whether a stock folder holds a reward head, by its `config.json`.

    Raises:
        RequestError: when it is neither that nor a causal language model, or its head has several values.
    """
    read_spec(folder)  # says what is wrong with a file that is none
    config = _config(folder)
    named = config.get("architectures")
    name = str(named[0]) if isinstance(named, list) and named else ""
    if name.endswith(_REWARD_CLASS):
        labels = config.get("id2label")
        count = len(labels) if isinstance(labels, dict) else config.get("num_labels", 2)
        if count != 1:
            raise RequestError(f"its head gives {count} values", str(folder), _MEND)
        return True
    if name and not name.endswith(("ForCausalLM", "LMHeadModel")):
        raise RequestError(f"this is a {name}", str(folder), _MEND)
    return False


def _config(folder: Path) -> dict[str, Any]:
    config: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return config


class RewardHead:
    """The value of a reward head at the last token that is not padding, which is transformers' rule.

    A conversation that ends in the padding token (where padding is EOS, say) is judged at the token before it.

    Args:
        folder: see `is_reward_model`.

    Raises:
        RequestError: when the weights are not whole or not the head's.
    """

    longest_answer = 0  # places that an answer of its own takes in the context

    def __init__(self, folder: Path) -> None:
        # There is no output matrix: a tied one is none of its own.
        spec = read_spec(folder).model_copy(update={"tie_word_embeddings": True})
        state = read_weights(folder)
        head = state.pop(_HEAD, None)
        if head is None or head.shape != (1, spec.hidden_size):
            raise RequestError(f"it has no {_HEAD} of shape 1 × {spec.hidden_size}", str(folder), _MEND)
        state.pop("lm_head.weight", None)
        self.model = _network(spec, state, folder)
        self.head = head.float()
        self.pad_id: int | None = _config(folder).get("pad_token_id")

    def to(self, device: torch.device) -> None:
        """Move to a device."""
        self.model.to(device)
        self.head = self.head.to(device)

    def scores(self, rows: Sequence[Ids]) -> Tensor:
        """The value of each row, float32 [B]."""
        hidden = self.model(_padded(rows, self.head.device))  # [B, T, hidden]
        places = torch.tensor([self._last(row) for row in rows], device=hidden.device)
        return hidden[torch.arange(len(rows), device=hidden.device), places].float() @ self.head[0]

    def _last(self, row: Ids) -> int:
        counted = (place for place in reversed(range(len(row))) if row[place] != self.pad_id)
        return next(counted, 0)


class YesOrNo:
    """P(yes) / (P(yes) + P(no)) of what would follow.

    P(yes) is the probability that the next token is, or begins, yes in any of its forms (in small letters, with a
    capital, with a space before it; see `first_tokens`). Where yes and no begin with the same token in this
    vocabulary, the next token tells nothing, and the whole words' probabilities are compared.

    Args:
        folder: a causal language model.
        encoder: for one that was taught to chat; None for one that continues text.

    Raises:
        RequestError: when the weights are not whole.
    """

    def __init__(self, folder: Path, tokenizer: Tokenizer, encoder: ChatEncoder | None) -> None:
        self.model = load_model(folder).requires_grad_(False).eval()
        self.yes, self.no = (answer_words(words, tokenizer, encoder) for words in (YES, NO))
        self.first_yes, self.first_no = first_tokens(self.yes, self.no, tokenizer)
        self.by_first_token = bool(self.first_yes and self.first_no)
        self.longest_answer = 0 if self.by_first_token else max(map(len, (*self.yes, *self.no))) - 1

    def to(self, device: torch.device) -> None:
        """Move to a device."""
        self.model.to(device)

    def scores(self, rows: Sequence[Ids]) -> Tensor:
        """The probability of yes for each row, float32 [B]."""
        return torch.sigmoid(self._by_first_token(rows) if self.by_first_token else self._by_words(rows))

    def _by_first_token(self, rows: Sequence[Ids]) -> Tensor:
        device = self.model.embed_tokens.weight.device
        hidden = self.model(_padded(rows, device))  # [B, T, hidden]
        places = torch.tensor([len(row) - 1 for row in rows], device=device)
        logits = self.model.logits(hidden[torch.arange(len(rows), device=device), places]).float()  # [B, V]
        # The sum over the whole vocabulary is the same for both and falls out.
        yes, no = (logits[:, list(first)].logsumexp(-1) for first in (self.first_yes, self.first_no))
        return yes - no

    def _by_words(self, rows: Sequence[Ids]) -> Tensor:
        found = [self._word_logprobs(rows, word) for word in (*self.yes, *self.no)]
        both = torch.stack(found, -1)  # [B, words]
        count = len(self.yes)
        return both[:, :count].logsumexp(-1) - both[:, count:].logsumexp(-1)

    def _word_logprobs(self, rows: Sequence[Ids], word: Ids) -> Tensor:
        """The log-probability of a word after each row, [B]."""
        device = self.model.embed_tokens.weight.device
        hidden = self.model(_padded([[*row, *word[:-1]] for row in rows], device))
        total = torch.zeros(len(rows), device=device)
        for offset, token in enumerate(word):
            places = torch.tensor([len(row) - 1 + offset for row in rows], device=device)
            logits = self.model.logits(hidden[torch.arange(len(rows), device=device), places]).float()
            total += logits.log_softmax(-1)[:, token]
        return total


def answer_words(
    words: Sequence[str], tokenizer: Tokenizer, encoder: ChatEncoder | None
) -> tuple[tuple[int, ...], ...]:
    """The ids of each word as an answer: where an assistant's turn begins, or after a text and a space."""
    found: dict[tuple[int, ...], None] = {}
    for word in words:
        ids = _after_text(word, tokenizer) if encoder is None else _in_turn(word, tokenizer, encoder)
        found[tuple(ids)] = None
    return tuple(found)


def _in_turn(word: str, tokenizer: Tokenizer, encoder: ChatEncoder) -> Ids:
    talk = [{"role": "user", "content": "Is it so?"}, {"role": "assistant", "content": word}]
    with suppress(RequestError):  # the template writes answers otherwise than it asks for them
        tokens = encoder.learn(talk, [False, True])
        ((begin, end),) = tokens.spans
        if tokens.ids[:begin] == encoder.prompt(talk[:1]):
            said = itertools.takewhile(lambda i: i not in tokenizer.special_ids, tokens.ids[begin:end])
            ids = list(said)
            while ids and not tokenizer.decode(ids[-1:]).strip():  # space before the end of the turn
                ids.pop()
            if ids:
                return ids
    return tokenizer.encode(word)


def _after_text(word: str, tokenizer: Tokenizer) -> Ids:
    before = tokenizer.encode("Verdict:")
    both = tokenizer.encode(f"Verdict: {word}")
    return both[len(before) :] if both[: len(before)] == before else tokenizer.encode(f" {word}")


def first_tokens(
    yes: Sequence[Ids], no: Sequence[Ids], tokenizer: Tokenizer
) -> tuple[frozenset[int], frozenset[int]]:
    """The tokens by which yes and no are told apart at once; empty where they begin alike.

    Beside the answers themselves, the words as they stand alone and after a space. Where an answer is one token, only
    forms of one token count: the first of several ("Y" of "YES") begins other words as well. A token that
    begins both (a space by itself) counts for neither.
    """
    begins: list[set[int]] = []
    every: list[set[int]] = []
    for answers, words in ((yes, YES), (no, NO)):
        forms = [tokenizer.encode(form) for word in words for form in (word, f" {word}")]
        short = 1 if any(len(ids) == 1 for ids in answers) else max(map(len, (*answers, *forms)))
        begins.append({ids[0] for ids in answers if len(ids) <= short})
        every.append(begins[-1] | {ids[0] for ids in forms if len(ids) <= short})
    shared = every[0] & every[1]
    if not (begins[0] - shared and begins[1] - shared):
        return frozenset(), frozenset()
    return frozenset(every[0] - shared), frozenset(every[1] - shared)


def _network(spec: ModelSpec, state: State, folder: Path) -> Transformer:
    ours = from_stock(state, spec, str(folder))
    with torch.device("meta"):
        model = Transformer(spec)
    model.load_state_dict({name: value.float().contiguous() for name, value in ours.items()}, assign=True)
    return model.requires_grad_(False).eval()


def _padded(rows: Sequence[Ids], device: torch.device) -> Tensor:
    """Rows filled up at their end, where a causal model never looks from the tokens before: [B, T]."""
    longest = max(map(len, rows))
    return torch.tensor([[*row, *[0] * (longest - len(row))] for row in rows], device=device)
