"""All that a stage reads: its sources as sequences, the mixture that draws from them, what is held out by domain."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from linnet.config import Length, RequestError
from linnet.data.batches import Windows
from linnet.data.mixture import Mixture, shares
from linnet.data.sequences import Sequences, StreamedSequences, WholeSequences
from linnet.data.settings import DataSettings
from linnet.data.shards.maker import Trouble
from linnet.data.shards.store import Split, Store
from linnet.data.shards.stream import Stream
from linnet.data.training import Part, TrainBatches


@dataclass(frozen=True)
class Component:
    """What the mixture draws from: a source, or the sources of a domain that are read as one long text.

    weight: its part of the domain. fingerprint: what decides its bytes. stores: of what was built
    whole or lies here as tokens; a stream has none.
    """

    title: str
    domain: str
    weight: Fraction
    epochs: int
    fingerprint: str
    split: Split | None = None
    stores: tuple[Store, ...] = ()
    stream: Stream | None = None

    def facts(self) -> dict[str, Any]:
        """What a person may want to know, as plain values; sizes of a stream are not known beforehand."""
        whole = Counter[str]()
        for store in self.stores:
            whole.update(store.facts.get("left_out", {}))
        return {
            "title": self.title,
            "domain": self.domain,
            "weight": float(self.weight),
            "streamed": self.stream is not None,
            "tokens": self.split.tokens if self.split else None,
            "documents": self.split.documents if self.split else None,
            "left_out": dict(whole),
            "folders": [str(store.folder) for store in self.stores if store.folder],
        }


@dataclass
class Corpus:
    """A data section, opened.

    validation: windows by domain; under ALL where validation sources are given for the whole. listeners:
    are told what keeps streamed sources from answering.
    """

    settings: DataSettings
    components: list[Component]
    validation: dict[str, Windows]
    eos_id: int
    bos_id: int | None = None
    listeners: list[Trouble] = field(default_factory=list)

    @property
    def fingerprint(self) -> str:
        """What decides every token, training and held out."""
        held_out = [
            (name, shard.sha256) for name, part in self.validation.items() for shard in part.split.shards
        ]
        parts = [(component.title, component.fingerprint) for component in self.components]
        return hashlib.sha256(repr((parts, held_out)).encode()).hexdigest()

    @property
    def stores(self) -> list[Store]:
        """Every store of training documents."""
        return [store for component in self.components for store in component.stores]

    def weights(self, domains: dict[str, float] | None = None) -> list[Fraction]:
        """The components' weights, adding up to 1, as the recipe's domains weigh, or as `domains` say."""
        by_domain = self.settings.by_domain
        given = [by_domain[name].weight if domains is None else domains[name] for name in by_domain]
        of = dict(zip(by_domain, shares(given), strict=True))
        return [component.weight * of[component.domain] for component in self.components]

    @property
    def validation_weights(self) -> dict[str, float]:
        """What each domain's validation loss weighs in the whole: its part of the mixture."""
        if self.validation.keys() != self.settings.by_domain.keys():
            return dict.fromkeys(self.validation, 1.0)
        parts = dict.fromkeys(self.validation, Fraction(0))
        for component, weight in zip(self.components, self.weights(), strict=True):
            parts[component.domain] += weight
        return {name: float(weight) for name, weight in parts.items()}

    def steps(self, duration: Length, batch_size: int) -> int:
        """A duration in optimizer steps.

        Raises:
            RequestError: for epochs of a mixture or of a stream, which have none.
        """
        length, only = self.settings.sequence_length, self.components[0]
        if duration.unit == "epochs" and (len(self.components) > 1 or only.split is None):
            what = "a mixture" if len(self.components) > 1 else "a streamed source"
            raise RequestError(f"{what} has no epochs to count", "duration", "say it in steps or tokens")
        windows = -(-only.split.tokens // length) if only.split else 0
        return duration.steps(batch_size * length, windows * length)

    def batches(self, batch_size: int, seed: int, total_steps: int, part: Part = (0, 1)) -> TrainBatches:
        """What each step learns from.

        Args:
            total_steps: of the whole run, by which the schedule's phases begin.
            part: see TrainBatches.
        """
        s, sources = self.settings, self._sequences(seed)
        samples = total_steps * batch_size
        phases: list[tuple[int, Sequence[Fraction]]] = [(0, self.weights())]
        for phase in s.schedule:
            phases.append((max(phases[-1][0] + 1, round(phase.start * samples)), self.weights(phase.weights)))
        mixture = Mixture(phases, seed, s.when_exhausted, lambda source, count: sources[source].limit(count))
        if s.when_exhausted == "repeat":  # else it depends on sizes that nobody knows yet
            for source, count in zip(sources, mixture.served(samples), strict=True):
                source.expect(count)
        return TrainBatches(
            sources, mixture, batch_size, s.sequence_length, self.eos_id, s.document_mask, part, self.bos_id
        )

    def _sequences(self, seed: int) -> list[Sequences]:
        length = self.settings.sequence_length
        made: list[Sequences] = []
        for component in self.components:
            alone = len(self.components) == 1
            key = (seed,) if alone else (seed, _number(component.title))
            if component.stream is not None:
                streamed = StreamedSequences(component.title, component.stream, length, key, component.epochs)
                made.append(streamed)
            else:
                assert component.split is not None
                masked = self.settings.document_mask
                windows = Windows(component.split, length, self.eos_id, masked, self.bos_id)
                made.append(WholeSequences(component.title, windows, key, component.epochs))
        return made

    def close(self) -> None:
        """End what runs ahead of the reader."""
        for component in self.components:
            if component.stream is not None:
                component.stream.close()


def _number(title: str) -> int:
    return int.from_bytes(
        hashlib.blake2b(title.encode("utf-8", "surrogateescape"), digest_size=8).digest(), "big"
    )
