"""Why this exists: a model can be trained, tuned and verified from the first command on, without a download.

A small invented village, Fernhollow, in many documents. Everything is a pure function of (split, seed, i),
the same bytes on every machine and Python. What is held out is held out by content, not by chance: a story's
plot, cast and thing, the facts of an article, a sum's numbers, a question's fact, a request's wish and target
belong to one split whatever the seed. Facts themselves are told in all splits; questions about them are not.

    document(split, seed, i)         {"text", "kind"}; kinds: story, article, conversation, sums, kindness, game
    instruction(split, seed, i)      {"messages", "kind", "answer"}
    preference(split, seed, i)       {"prompt", "chosen", "rejected", "reason"}
    request(split, seed, i)          {"prompt", "response", "label", "pair", "kind", "messages"}
    problem(split, seed, i)          {"messages", "answer", "solution", "kind", "level"}
    domain_document(split, seed, i)  {"text", "kind"}; kind: logbook

Splits are "train", "validation" and "test"; any other raises RequestError.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path

from linnet.config import RequestError
from linnet.data.world import articles, games, harbour, requests, stories, sums
from linnet.data.world.draw import SPLITS, Draw, check_split
from linnet.data.world.talks import instruction, preference, problem, request

__all__ = [
    "SPLITS",
    "document",
    "documents",
    "domain_document",
    "instruction",
    "preference",
    "problem",
    "request",
    "write_text",
]

# kind, its share of the documents added to those before it, and what writes it
_MIX = (
    ("story", 0.50, stories.document),
    ("article", 0.64, articles.article),
    ("sums", 0.70, sums.document),
    ("conversation", 0.78, articles.conversation),
    ("kindness", 0.84, requests.document),
    ("game", 1.00, games.document),
)


def document(split: str, seed: int, i: int) -> dict[str, str]:
    """Pretraining document `i`, 30 to 250 words. Keys: text, kind."""
    at = Draw("kind", check_split(split), seed, i).random()
    kind, write = next((kind, write) for kind, up_to, write in _MIX if at < up_to)
    return {"text": write(split, seed, i), "kind": kind}


def documents(split: str, seed: int = 0, start: int = 0) -> Iterator[dict[str, str]]:
    """The endless stream of documents from number `start` on."""
    check_split(split)
    return (document(split, seed, i) for i in count(start))


def domain_document(split: str, seed: int, i: int) -> dict[str, str]:
    """Entry `i` of the harbour's logbook. Keys: text, kind."""
    return {"text": harbour.document(split, seed, i), "kind": "logbook"}


def write_text(path: str | Path, split: str, seed: int = 0, megabytes: float = 1.0) -> int:
    """Write at least `megabytes` (of 1e6 bytes) of documents to a text file, a blank line between two.

    Returns the number of documents. Raises RequestError when the amount is not positive.
    """
    if megabytes <= 0:
        raise RequestError(
            f"{megabytes} megabytes of text cannot be written", str(path), "ask for more than 0"
        )
    written = number = 0
    with Path(path).open("w", encoding="utf-8", newline="\n") as file:
        while written < megabytes * 1e6:
            text = document(split, seed, number)["text"] + "\n\n"
            file.write(text)
            written += len(text.encode())
            number += 1
    return number
