"""The mixture as it is served against as it was asked for, and how often each source will be passed.

What was asked is worked out here from the recipe alone, apart from what serves it.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np

from linnet.data.corpus import Corpus
from linnet.data.mixture import block_of, exactly
from linnet.data.training import TrainBatches

_BLOCKS = 3  # looked at, at least
_MOST = 1 << 20  # samples located together


def asked(corpus: Corpus, samples: int) -> list[tuple[int, list[Fraction]]]:
    """(first sample, the components' shares) of the recipe's phases in a run of that many samples."""
    settings = corpus.settings
    weights = {name: domain.weight or 0.0 for name, domain in settings.by_domain.items()}
    phases = [(0, _shares(corpus, weights))]
    for phase in settings.schedule:
        start = max(phases[-1][0] + 1, round(phase.start * samples))
        phases.append((start, _shares(corpus, phase.weights)))
    return phases


def _shares(corpus: Corpus, weights: dict[str, float]) -> list[Fraction]:
    total = sum(map(exactly, weights.values()), Fraction(0))
    return [
        component.weight * (exactly(weights[component.domain]) / total if total else 1)
        for component in corpus.components
    ]


def mixture_report(
    corpus: Corpus,
    train: TrainBatches,
    samples: int,
    total_samples: int,
    tokens: Sequence[int],
    documents: Sequence[int],
) -> dict[str, Any]:
    """The mixture of the first samples, by source and domain.

    Args:
        samples: how many were read; more are located where that costs no reading.
        tokens, documents: that the samples hold, by component.
    """
    phases = asked(corpus, total_samples)
    located = samples
    if train.mixture.when_exhausted == "repeat":
        located = max(samples, _BLOCKS * sum(block_of(phases[0][1])))
    counts, expected, error, blocks = _blocks(train, phases, located)
    total = max(1, int(counts.sum()))
    rows = []
    for number, component in enumerate(corpus.components):
        rows.append({
            "source": component.title, "domain": component.domain,
            "asked": float(expected[number] / total), "served": int(counts[number]) / total,
            "samples": int(counts[number]), "tokens": int(tokens[number]), "documents": int(documents[number]),
            **_plan(corpus, train, phases, number, total_samples),
        })  # fmt: skip
    domains = []
    for name in corpus.settings.by_domain:
        of = [row for row in rows if row["domain"] == name]
        domains.append({
            "domain": name, **{key: sum(row[key] for row in of) for key in ("asked", "served", "samples")},
        })  # fmt: skip
    changes = [
        {"sample": start, "weights": dict(zip((c.title for c in corpus.components), weights, strict=True))}
        for start, weights in train.mixture.changes(located)
    ]
    return {
        "samples": located,
        "blocks": blocks,
        "largest_error": error,
        "when_exhausted": train.mixture.when_exhausted,
        "sources": rows,
        "domains": domains,
        "changes": changes,
    }


def _blocks(
    train: TrainBatches, phases: list[tuple[int, list[Fraction]]], samples: int
) -> tuple[np.ndarray, np.ndarray, float, int]:
    """Samples served and expected of each source, the largest error of a share in a whole block, the blocks.

    Where there is no whole block, the error is that of all the samples.
    """
    kinds = len(train.sources)
    if not samples:
        return np.zeros(kinds, np.int64), np.zeros(kinds), 0.0, 0
    train.mixture.locate(np.array([samples - 1]))  # only then are all changes before it known
    changes = {start for start, _ in (*train.mixture.changes(samples), *phases) if start < samples}
    edges = [*sorted(changes), samples]
    counts, expected = np.zeros(kinds, np.int64), np.zeros(kinds)
    error, blocks = 0.0, 0
    for start, stop in pairwise(edges):
        shares = _without_dry(train, next(s for first, s in reversed(phases) if first <= start), start)
        size = sum(block_of(shares))
        wanted = np.array([float(share) for share in shares])
        for begin in range(start, stop, step := max(1, _MOST // size) * size):
            sources, _ = train.mixture.locate(np.arange(begin, min(stop, begin + step)))
            counts += np.bincount(sources, minlength=kinds)
            expected += wanted * len(sources)
            if whole := len(sources) // size:
                rows = sources[: whole * size].reshape(whole, size)
                found = np.stack([(rows == kind).sum(axis=1) for kind in range(kinds)], axis=1) / size
                error, blocks = max(error, float(np.abs(found - wanted).max())), blocks + whole
    if not blocks and counts.sum():
        error = float(np.abs(counts - expected).max() / counts.sum())
    return counts, expected, error, blocks


def _without_dry(train: TrainBatches, shares: list[Fraction], sample: int) -> list[Fraction]:
    """The shares when those that have run dry have none, as `reweight` asks."""
    if train.mixture.when_exhausted != "reweight":
        return shares
    held = train.mixture.weights_at(sample)
    left = [share if now else Fraction(0) for share, now in zip(shares, held, strict=True)]
    total = sum(left, Fraction(0))
    return [share / total for share in left] if total else shares


def _plan(
    corpus: Corpus, train: TrainBatches, phases: list[tuple[int, list[Fraction]]], number: int, samples: int
) -> dict[str, Any]:
    """How often a source is passed by the end of the run, as far as its size is known, and what follows."""
    edges = [*(min(start, samples) for start, _ in phases), samples]
    wanted = sum(
        float(shares[number]) * (stop - start)
        for (_, shares), (start, stop) in zip(phases, pairwise(edges), strict=True)
    )
    one = train.sources[number].passes(1)
    passes = None if one is None else wanted * one
    allowed = corpus.components[number].epochs
    if passes is None:
        said = "its size is not known yet"
    elif corpus.settings.when_exhausted == "repeat":
        said = "repeats" if passes > 1 else "is not used up"
    elif passes <= allowed:
        said = "is not used up"
    else:
        said = "runs dry: the run stops" if corpus.settings.when_exhausted == "stop" else (
            "runs dry: the others take its place")  # fmt: skip
    return {"passes": passes, "allowed_passes": allowed, "at_the_end": said}
