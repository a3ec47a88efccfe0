"""An audit from end to end: everything about a corpus that a rule or a person may ask for, measured.

What it finds is one plain value, which the page and the JSON are made of. Two audits of one corpus are
equal, so it holds no times and no places of the cache. Its keys, all shares between 0 and 1:

    kind, format            what the file is, and the number of this layout
    recipe, data            what was audited: name; tokenizer, fingerprint, sequence_length, …
    passed, rules           the verdict; each rule with name, label, asked, found, passed, mend
    sequences               samples read by every reader: share repeated, different, same_place, readers
    documents               exact duplicates: documents, distinct, share, within, across, most_repeated
    validation              held-out documents in training: share, domains, examples; near: shared word runs
    evaluation              each evaluation set: items, too_short, contaminated, share, examples
    tokens                  total, vocabulary, never_used, unknown, byte, commonest, ranks (rank, share)
    sources                 each source: tokens, documents, bytes_per_token, lengths, cut_share, left_out
    mixture                 asked and served by source and domain, largest_error, passes until the run's end
    packing                 padding_share, documents_per_sequence, cut_share of documents
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from linnet.config import RequestError
from linnet.data.audit.counting import Counted, Counter
from linnet.data.audit.duplicates import duplicates, excerpts, overlap
from linnet.data.audit.lines import Line, training_lines, validation_lines
from linnet.data.audit.overlap import Contamination, Items
from linnet.data.audit.rules import findings
from linnet.data.audit.sequences import RANKS, WORKERS, Served, read_samples
from linnet.data.audit.served import mixture_report
from linnet.data.audit.tokens import Kinds, source_report, token_report
from linnet.data.audit.words import Spelling
from linnet.data.corpus import Corpus
from linnet.data.sources.documents import texts
from linnet.data.training import TrainBatches
from linnet.text import Tokenizer

KIND, FORMAT = "linnet data audit", 1
LEAST_STEPS = 100
_NEAR = 1000  # held-out documents of a domain whose word runs are looked for in training
_NEAR_TOKENS = 1 << 21


@dataclass(frozen=True)
class AuditProgress:
    """How far an audit is: what it reads, and how many tokens of how many are done."""

    doing: str
    tokens: int
    of: int


Progress = Callable[[AuditProgress], None]


def audit(
    corpus: Corpus,
    train: TrainBatches,
    tokenizer: Tokenizer,
    *,
    recipe: str,
    seed: int,
    total_steps: int,
    samples: int | None = None,
    progress: Progress = lambda _: None,
) -> dict[str, Any]:
    """Measure everything about a stage's data.

    Args:
        samples: how many to read, in every way of reading; whole batches, LEAST_STEPS of them unless said.
        progress: hears how far it is.

    Raises:
        RequestError: an evaluation set is missing or not what it claims to be.
        LinnetError: a source cannot be read.
    """
    settings = corpus.settings
    sets = _evaluation_sets(corpus)
    steps = LEAST_STEPS if samples is None else -(-samples // train.batch_size)
    whole = sum(component.split.tokens for component in corpus.components if component.split)
    reading = _Reading(progress, steps, train.batch_size * train.length)
    reading.plan(whole)

    def reopen(part: tuple[int, int]) -> TrainBatches:
        return corpus.batches(train.batch_size, seed, total_steps, part)

    sequences, served = read_samples(train, reopen, steps, reading.sampled)
    reading.sampled(steps)
    lines = training_lines(corpus, _served(train, served.samples))
    reading.plan(sum(line.tokens for line in lines) - whole)
    spelling, kinds = Spelling(tokenizer), Kinds(tokenizer)
    counter = Counter(tokenizer.vocab_size, tokenizer.eos_id, train.length)
    held_out = [counter.count(line) for line in validation_lines(corpus)]
    near = [_as_items(one, tokenizer) for one in held_out]
    contamination = Contamination([*sets, *near], settings.audit.ngram, spelling)
    sources = [_counted(counter, line, contamination, reading) for line in lines]
    excerpt = excerpts(lambda ids: tokenizer.decode(ids.tolist()))
    found = contamination.report(sources, excerpt)
    left_out = _left_out(corpus)
    rows = [
        source_report(source, kinds, spelling, train.length, replaced, left_out.get(source.line.title))
        for source, replaced in zip(sources, contamination.replaced, strict=True)
    ]
    facts: dict[str, Any] = {
        "kind": KIND,
        "format": FORMAT,
        "recipe": recipe,
        "data": {
            "fingerprint": corpus.fingerprint, "tokenizer": tokenizer.name, "vocab_size": tokenizer.vocab_size,
            "sequence_length": train.length, "batch_size": train.batch_size, "seed": seed,
            "total_steps": total_steps,
        },
        "sequences": sequences,
        "documents": duplicates(sources, excerpt),
        "validation": {**overlap(sources, held_out, excerpt), "near": found[len(sets) :]},
        "evaluation": {
            "ngram": settings.audit.ngram, "sets": found[: len(sets)],
            "contaminated_documents": {
                line.title: count for line, count in zip(lines, contamination.documents, strict=True)
            },
        },
        "tokens": token_report(sources, tokenizer, kinds),
        "sources": rows,
        "mixture": mixture_report(
            corpus, train, served.samples, total_steps * train.batch_size, served.targets.tolist(),
            served.documents.tolist(),
        ),
        "packing": _packing(served, sources),
    }  # fmt: skip
    rules = findings(settings.audit, facts)
    return {**facts, "passed": all(rule.passed for rule in rules), "rules": [rule.facts() for rule in rules]}


def _evaluation_sets(corpus: Corpus) -> list[Items]:
    """The items of the sets, each the text that the source's text_field or text_template makes of a row."""
    sets = [Items(source.title, list(texts(source))) for source in corpus.settings.audit.evaluation_sets]
    for one in sets:
        if not one.texts:
            raise RequestError("there is no text in it", one.title, "check audit.evaluation_sets")
    return sets


def _served(train: TrainBatches, samples: int) -> list[int]:
    return list(train.mixture.served(samples)) if samples else [0] * len(train.sources)


def _as_items(held_out: Counted, tokenizer: Tokenizer) -> Items:
    """The first held-out documents as texts."""
    ends = np.cumsum(held_out.lengths[:_NEAR], dtype=np.int64)
    count = max(1, int(np.searchsorted(ends, _NEAR_TOKENS, side="right")))
    some = (
        held_out.line.read(0, min(held_out.line.tokens, int(ends[count - 1]) + count)) if len(ends) else ends
    )
    parts = np.split(some, np.flatnonzero(some == tokenizer.eos_id) + 1)
    found = [tokenizer.decode(part.tolist()) for part in parts[:count]]
    return Items(held_out.line.domain, found, counts=False)


def _counted(counter: Counter, line: Line, contamination: Contamination, reading: _Reading) -> Counted:
    contamination.begin()

    def look(tokens: np.ndarray, document: int, last: bool) -> None:
        contamination.look(tokens, document, last)
        reading.read(line.title, len(tokens))

    return counter.count(line, look)


def _left_out(corpus: Corpus) -> dict[str, dict[str, int] | None]:
    """By source, why rows are no documents."""
    found: dict[str, dict[str, int] | None] = {}
    for component in corpus.components:
        spans = component.split.spans if component.split else ()
        for span, store in zip(spans, component.stores, strict=False):
            found[span.label] = store.facts.get("left_out")
    return found


def _packing(served: Served, sources: Sequence[Counted]) -> dict[str, Any]:
    documents = sum(source.documents for source in sources)
    counted = int(served.targets.sum())
    return {
        "sequences": served.samples,
        "padding_share": 1 - counted / served.places if served.places else 0.0,
        "documents_per_sequence": int(served.documents.sum()) / max(1, served.samples),
        "cut_share": sum(source.cut for source in sources) / max(1, documents),
    }


class _Reading:
    """Progress in tokens over both parts: samples in every way of reading, then documents."""

    def __init__(self, progress: Progress, steps: int, step_tokens: int) -> None:
        self._progress = progress
        self._step = step_tokens * (len(WORKERS) + len(RANKS) - 1)
        self._done, self._of = 0, steps * self._step

    def sampled(self, steps: int) -> None:
        """So many steps have been read by every reader."""
        self._done = steps * self._step
        self._progress(AuditProgress("reading samples", self._done, self._of))

    def plan(self, tokens: int) -> None:
        """So many more tokens than were known of have to be read."""
        self._of += tokens

    def read(self, title: str, tokens: int) -> None:
        """So many tokens of a source's documents have been read."""
        self._done += tokens
        self._progress(AuditProgress(f"reading {title}", self._done, self._of))
