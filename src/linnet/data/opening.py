"""From a recipe's data section to a corpus: each source built or opened, and part of it held out.

Every source is a store or a stream of its own, so another weight, or another source beside it,
costs no tokenising.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from linnet.config import RequestError
from linnet.data.batches import Windows
from linnet.data.corpus import Component, Corpus
from linnet.data.mixture import shares
from linnet.data.order import Permutation
from linnet.data.settings import ALL, DataSettings, Domain, Source
from linnet.data.shards.bins import is_token_file, open_bins
from linnet.data.shards.build import Duplicates, StoreTask, build_store
from linnet.data.shards.keys import cache_folder, key_of, stream_fingerprint, unwritable
from linnet.data.shards.maker import Maker, Task, Trouble
from linnet.data.shards.progress import Progress, WholeProgress, silent
from linnet.data.shards.ready import open_ready, places_of, refuse_with_token_files
from linnet.data.shards.store import Split, Store, joined, token_dtype
from linnet.data.shards.stream import Stream
from linnet.data.shards.stream_folder import Start, StreamFolder
from linnet.data.shards.tokenising import LARGEST_SHARE, HeldOut, digest_of
from linnet.data.sources.documents import Tally, documents, limit_of
from linnet.data.sources.files import files_of
from linnet.hardware.host import cores
from linnet.storage import write_durably
from linnet.text import Tokenizer

_LEAST_WORLD = 8  # documents that the built-in world holds out
_FEWEST_SHARDS = 2  # of a stream on disk: one that is read and one that is made


def open_corpus(
    settings: DataSettings, tokenizer: Tokenizer, seed: int = 0, progress: Progress = silent
) -> Corpus:
    """The data of a stage; built where it has to be, found again where nothing has changed.

    Args:
        seed: of the order in which a streamed source's files are read.

    Raises:
        RequestError: when a source is missing, empty or not what it claims to be.
        RunError: when the disk is full or a place stops answering; the next try goes on from there.
    """
    ready = places_of(settings)
    given = (*settings.all_sources, *settings.validation_sources)
    if any(is_token_file(source) for source in given if source.title not in ready):
        refuse_with_token_files(ready)
        return _token_files(settings, tokenizer)
    return _Opening(settings, tokenizer, seed, progress, ready).corpus()


def store_tasks(settings: DataSettings, tokenizer: Tokenizer, progress: Progress = silent) -> list[StoreTask]:
    """The stores that `open_corpus` builds of whole sources, with the share held out that is asked for.

    What they all need, the documents of validation sources, is made first.

    Raises:
        RequestError, RunError: as `open_corpus`.
    """
    ready = places_of(settings)
    sources = [source for source in settings.all_sources if source.title not in ready]
    if any(is_token_file(source) for source in (*sources, *settings.validation_sources)):
        return []  # they are read as they are
    opening = _Opening(settings, tokenizer, 0, progress, ready)
    _, digests = opening.validation()
    return [task for task in opening.tasks(HeldOut(opening.share, digests)) if not task.source.streaming]


def _token_files(settings: DataSettings, tokenizer: Tokenizer) -> Corpus:
    parts = {
        (name, number): group
        for name, domain in settings.by_domain.items()
        for number, group in enumerate(_groups(domain))
    }
    groups = [(name, group) for (name, _), (group, _) in parts.items()]
    stores = open_bins(groups, settings.validation_sources, settings.validation_fraction, tokenizer)
    components: list[Component] = []
    held_out: dict[str, list[Split]] = {}
    for ((name, _), (group, weight)), store in zip(parts.items(), stores, strict=True):
        title = _title(settings, name, group)
        components.append(
            Component(title, name, weight, group[0].max_epochs, store.fingerprint, store.train, (store,))
        )
        held_out.setdefault(name, []).append(store.validation)
    if settings.validation_sources:
        held_out = {ALL: held_out[next(iter(held_out))][:1]}
    return _corpus(settings, components, {n: joined(splits) for n, splits in held_out.items()}, tokenizer)


def _corpus(
    settings: DataSettings, components: list[Component], held_out: dict[str, Split], tokenizer: Tokenizer
) -> Corpus:
    length, masked = settings.sequence_length, settings.document_mask
    bos_id = tokenizer.document_bos_id
    windows = {n: Windows(split, length, tokenizer.eos_id, masked, bos_id) for n, split in held_out.items()}
    return Corpus(settings, components, windows, tokenizer.eos_id, bos_id)


def _groups(domain: Domain) -> list[tuple[tuple[Source, ...], Fraction]]:
    """A domain's components: its sources with their weights, or all of them as one long text."""
    parts = shares([source.weight for source in domain.sources])
    if all(source.weight is None for source in domain.sources):
        return [(domain.sources, parts[0])]
    return [((source,), part) for source, part in zip(domain.sources, parts, strict=True)]


def _title(settings: DataSettings, domain: str, group: tuple[Source, ...]) -> str:
    return group[0].title if len(group) == 1 else (domain if settings.domains else "data")


@dataclass
class _Found:
    """A source as it was found: the store of it whole, or the store of what a stream holds out."""

    source: Source
    store: Store

    @property
    def documents(self) -> int:
        if (
            self.source.streaming
        ):  # the store holds what is held out of it; all were looked at when that is few
            return Tally(**self.store.facts["left_out"]).kept
        return self.store.train.documents + self.store.validation.documents


class _Opening:
    """Opening one data section."""

    def __init__(
        self, settings: DataSettings, tokenizer: Tokenizer, seed: int, progress: Progress,
        ready: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        self.settings, self.tokenizer, self.seed, self.progress = settings, tokenizer, seed, progress
        self.ready = ready or {}  # where the sources lie that are stores already, by title
        self.cache = cache_folder(settings)
        self.share = 0.0 if settings.validation_sources else settings.validation_fraction
        self.processes = settings.preprocessing_processes or cores()
        self.patience = 60 * settings.retry_minutes

    def corpus(self) -> Corpus:
        """See open_corpus."""
        explicit, digests = self.validation()
        found, held_out = self._found(digests)
        streamed = sum(source.streaming for source in self.settings.all_sources)
        components: list[Component] = []
        listeners: list[Trouble] = []

        def tell(line: str) -> None:
            for listener in listeners:
                listener(line)

        for name, domain in self.settings.by_domain.items():
            for group, weight in _groups(domain):
                title, epochs = _title(self.settings, name, group), group[0].max_epochs
                if group[0].streaming:
                    stream, facts = self._stream(group[0], held_out, streamed, tell)
                    components.append(Component(title, name, weight, epochs, facts, stream=stream))
                    continue
                stores = tuple(found[source.title].store for source in group)
                split = joined([store.train for store in stores])
                facts = key_of(stores=[store.fingerprint for store in stores])
                components.append(Component(title, name, weight, epochs, facts, split, stores))
        splits = {ALL: explicit} if explicit else {
            name: joined([found[source.title].store.validation for source in domain.sources])
            for name, domain in self.settings.by_domain.items()
        }  # fmt: skip
        corpus = _corpus(self.settings, components, splits, self.tokenizer)
        corpus.listeners = listeners
        return corpus

    def _task(self, source: Source, held_out: HeldOut, earlier: tuple[Source, ...] = ()) -> StoreTask:
        share = self.share
        world = max(_LEAST_WORLD, round((limit_of(source) or 0) * share)) if share else 0
        return StoreTask(
            source, self.settings.cleaning, self.tokenizer, held_out, self.cache, self.processes, earlier,
            world if source.builtin else 0, self.patience,
            self.settings.validation_documents if source.streaming else 0,
        )  # fmt: skip

    def validation(self) -> tuple[Split | None, frozenset[int]]:
        """The validation sources as one split, and the hashes of their documents."""
        if not self.settings.validation_sources:
            return None, frozenset()
        tasks = [self._task(source, HeldOut(1.0)) for source in self.settings.validation_sources]
        stores = [build_store(task, progress=self.progress) for task in tasks]
        digests = frozenset[int]().union(*(self._digests(task) for task in tasks))
        return joined([store.validation for store in stores]), digests

    def _digests(self, task: StoreTask) -> frozenset[int]:
        """The hashes of a validation source's documents, which are left out of training; kept beside its store."""
        path = task.folder / "digests.u64"
        if not path.exists():
            limit = task.only_held_out or None
            found = documents(task.source, limit=limit, cleaning=task.cleaning, split="validation")
            digests = [digest_of(document.text.encode()) for document in found]
            try:
                write_durably(path, np.array(digests, "<u8").data)
            except OSError as error:
                raise unwritable(path, error) from None
        return frozenset(np.fromfile(path, "<u8").tolist())

    def _found(self, digests: frozenset[int]) -> tuple[dict[str, _Found], HeldOut]:
        """Every source's store, with a share held out that leaves no domain without validation."""
        s, share = self.settings, self.share
        while True:
            held_out = HeldOut(share, digests)
            found = self._built(held_out)
            if s.validation_sources:
                return found, held_out
            lacking = [
                [found[source.title] for source in domain.sources]
                for domain in s.by_domain.values()
                if not sum(found[source.title].store.validation.documents for source in domain.sources)
            ]
            if not lacking:
                return found, held_out
            self._drop(one for domain in lacking for one in domain)
            count = sum(one.documents for one in lacking[0])
            if share == LARGEST_SHARE or count == 1 or self.ready:  # the share of a ready store is fixed
                raise RequestError(
                    f"{count} documents are too few to hold some out for validation",
                    ", ".join(one.source.title for one in lacking[0]), "add documents or set validation_sources",
                )  # fmt: skip
            share = min(LARGEST_SHARE, 2 * share)

    def _drop(self, found: Iterable[_Found]) -> None:
        for one in found:
            if one.source.title not in self.ready:
                assert one.store.folder is not None
                shutil.rmtree(one.store.folder)

    def tasks(self, held_out: HeldOut) -> Iterator[StoreTask]:
        """The stores to be built, in order; a stream's is of what it holds out."""
        earlier: tuple[Source, ...] = ()
        for source in self.settings.all_sources:
            if source.title in self.ready or (source.streaming and self.settings.validation_sources):
                continue
            yield self._task(source, held_out, earlier)
            earlier = (*earlier, source)

    def _built(self, held_out: HeldOut) -> dict[str, _Found]:
        duplicates, found = Duplicates(self.settings.cleaning), {}
        tasks = list(self.tasks(held_out))
        whole = WholeProgress([task.source for task in tasks if not task.source.streaming])
        streamed = [task for task in tasks if task.source.streaming]
        with ThreadPoolExecutor(
            max(1, len(streamed)), "held out"
        ) as pool:  # most of it is waiting for a network
            scans = [pool.submit(build_store, task, progress=self.progress) for task in streamed]
            for task in tasks:
                if not task.source.streaming:
                    progress = whole.part(task.source, self.progress)
                    found[task.source.title] = _Found(task.source, build_store(task, duplicates, progress))
            for task, scan in zip(streamed, scans, strict=True):
                found[task.source.title] = _Found(task.source, scan.result())
        for source in self.settings.all_sources:
            if place := self.ready.get(source.title):
                store = open_ready(source, place, self.settings, self.tokenizer, self.progress)
                found[source.title] = _Found(source, store)
        return found

    def _stream(self, source: Source, held_out: HeldOut, streams: int, tell: Trouble) -> tuple[Stream, str]:
        s, dtype = self.settings, token_dtype(self.tokenizer.vocab_size)
        files = files_of(source)
        if source.documents is None and len(files) > 1:  # else the first documents, whatever the seed
            files = [files[i] for i in Permutation(len(files), self.seed)(np.arange(len(files))).tolist()]
        shard_tokens = max(1, s.shard_tokens // s.sequence_length) * s.sequence_length
        keep = int(s.cache_gb * 1e9 / streams / (shard_tokens * dtype.itemsize))
        if keep < _FEWEST_SHARDS:
            needed = _FEWEST_SHARDS * streams * shard_tokens * dtype.itemsize / 1e9
            raise RequestError(
                f"cache_gb {s.cache_gb:g} is too little for two shards of every streamed source ({streams} of them)",
                "data.cache_gb", f"set it to {math.ceil(needed * 1e3) / 1e3:.3f} or more, or lower shard_tokens",
            )  # fmt: skip
        facts = {
            "tokenizer": self.tokenizer.fingerprint, "cleaning": s.cleaning.model_dump(),
            "share": held_out.share, "digests": key_of(digests=sorted(held_out.digests)),
            "shard_tokens": shard_tokens, "order": key_of(names=[file.name for file in files]),
        }  # fmt: skip
        name = key_of(**facts, source=stream_fingerprint(source, files, versions=True))
        folder = StreamFolder(self.cache / "streams" / name)
        try:
            folder.readers.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise unwritable(folder.path, error) from None
        first = Start(self.tokenizer.eos_id)
        processes = s.preprocessing_processes or max(1, cores() // (2 * streams))
        task = Task(
            folder.path, source, files, s.cleaning, self.tokenizer, held_out, first, shard_tokens, keep,
            processes, self.patience, s.cache_gb * 1e9,
        )  # fmt: skip
        stream = Stream(folder, Maker(task), dtype, shard_tokens, first, keep, source.title, tell)
        # A run goes on when a damaged file was got again, and so has another size: shards tell what was read.
        named = [replace(file, size=None) for file in files]
        return stream, key_of(**facts, source=stream_fingerprint(source, named, versions=False))
