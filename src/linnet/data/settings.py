"""What a stage learns from, as a recipe says it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from string import Formatter
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    BeforeValidator,
    Field,
    NonNegativeInt,
    PlainSerializer,
    PositiveInt,
    model_validator,
)

from linnet.config import Layers, RequestError, Section, validate
from linnet.data.sources.troubles import shown

ALL = "all"  # the domain of a recipe that names none
WORLD = ("document", "domain_document", "instruction", "preference", "request", "problem")


# Written as a mapping; kept as pairs, so that a source can be a key.
ColumnsField = Annotated[
    tuple[tuple[str, str], ...],
    BeforeValidator(lambda value: tuple(value.items()) if isinstance(value, dict) else value),
    PlainSerializer(dict, return_type=dict[str, str]),
]


class Source(Section):
    """One place that documents come from: exactly one of `path`, `dataset`, `builtin`.

    `path` is a file, a folder or a glob, here or far away (`s3://`, `gs://`, `hf://`, `https://`): txt,
    jsonl, json (also packed as gz or zst), parquet, tar; nanoGPT's bin. `dataset` is a Hugging Face
    dataset's name, with its configuration in `name` and its `split`. `builtin` is `world`, the generated
    small world, of which `name` picks a part: `document` (for pretraining), `domain_document`,
    `instruction`, `preference`, `request` or `problem`; by default what the stage needs. `text_template`
    puts a document together from several fields: "{title}\\n\\n{body}". `filter` keeps the rows for which
    an expression over their fields is true. `columns` are laid over each row of conversations, pairs or
    problems (`{label: harmful}`, where a whole dataset is so). `documents` is the most that are taken.
    `streaming` makes shards just in time instead of beforehand. `weight` is the source's part of its
    domain, `max_epochs` how often it may be passed when `when_exhausted` is not repeat.
    `label` names it in messages and metrics.
    """

    path: str | None = None
    dataset: str | None = None
    builtin: str | None = None
    name: str | None = None
    split: str = "train"
    revision: str | None = None
    text_field: str = "text"
    text_template: str | None = None
    filter: str | None = None
    columns: ColumnsField = ()
    documents: PositiveInt | None = None
    streaming: bool = False
    weight: float | None = Field(default=None, ge=0)
    max_epochs: PositiveInt = 1
    label: str | None = None

    habits: ClassVar[Mapping[str, str]] = {
        "data_files": "write 'path'",
        "file": "write 'path'",
        "files": "write 'path' (a folder or a glob takes many)",
        "config": "write 'name'",
        "subset": "write 'name'",
        "text_column": "write 'text_field'",
        "dataset_text_field": "write 'text_field'",
        "column": "write 'text_field'",
        "max_samples": "write 'documents'",
        "stream": "write 'streaming'",
        "probability": "write 'weight'",
        "token": "credentials never stand in a recipe; log in as the library does (hf auth login, AWS_PROFILE …)",
        "key": "credentials never stand in a recipe; log in as the library does (AWS_PROFILE …)",
        "storage_options": "credentials never stand in a recipe; set them as fsspec reads them (FSSPEC_S3_KEY …)",
    }

    @model_validator(mode="after")
    def _one_place(self) -> Source:
        given = [name for name in ("path", "dataset", "builtin") if getattr(self, name)]
        if len(given) != 1:
            found = " and ".join(given) or "none"
            raise ValueError(f"a source is one of path, dataset, builtin; here: {found}")
        if self.builtin not in (None, "world"):
            raise ValueError(f"there is no built-in data {self.builtin!r}; write builtin: world")
        if self.builtin and self.name not in (None, *WORLD):
            raise ValueError(f"the built-in world has no {self.name!r}; it has {', '.join(WORLD)}")
        if self.builtin and self.streaming:
            raise ValueError("the built-in world is made whole in seconds; leave out streaming")
        if self.filter is not None:
            _check_filter(self.filter)
        if self.text_template is not None and not self.fields:
            raise ValueError("text_template names no field; write for example '{title}\\n\\n{text}'")
        return self

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields of a row that its text is made from."""
        if self.text_template is None:
            return (self.text_field,)
        named = (field for _, field, _, _ in Formatter().parse(self.text_template) if field)
        return tuple(dict.fromkeys(named))

    @property
    def title(self) -> str:
        """A short name for people, and in the names of metrics."""
        if self.label:
            return self.label
        if self.dataset:
            return self.dataset if self.name is None else f"{self.dataset}/{self.name}"
        if self.path:
            return shown(self.path)
        return f"builtin:{self.builtin}" if self.name is None else f"builtin:{self.builtin}/{self.name}"


def _check_filter(expression: str) -> None:
    """Refuse a filter that cannot be read, where the recipe's line is still known."""
    from linnet.data.cleaning.expression import Filter  # it is read again where it is used

    try:
        Filter(expression)
    except RequestError as error:
        raise ValueError(f"{error.what}; {error.mend}" if error.mend else error.what) from None


def _as_sources(value: Any) -> Any:
    """Allow the short forms: one word for a path, `hf:owner/name` or `builtin:world`; one source for a list."""
    if isinstance(value, (str, dict, Source)):
        value = [value]
    if isinstance(value, list):
        return tuple(_from_word(item) if isinstance(item, str) else item for item in value)
    return value


def _from_word(word: str) -> dict[str, str]:
    kind, _, rest = word.partition(":")
    if kind == "builtin":
        return {"builtin": rest}
    if kind == "hf" and not rest.startswith("//"):
        return {"dataset": rest}
    return {"path": word}


def source_of(word: str, text_field: str = "text") -> Source:
    """A source from one word, as the command line takes it.

    Raises:
        RequestError: when the word names no kind of source that there is.
    """
    return validate(Source, Layers({**_from_word(word), "text_field": text_field}, {(): word}))


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


Sources = Annotated[tuple[Source, ...], BeforeValidator(_as_sources)]


def check_sum(weights: Mapping[str, float | None], of: str) -> None:
    """Refuse weights of which some are missing, or that add up to neither 1 nor 100."""
    missing = [name for name, weight in weights.items() if weight is None]
    given = [weight for weight in weights.values() if weight is not None]
    if not given:
        return
    if missing:
        raise ValueError(f"{of}: {missing[0]} has no weight and others have; give all of them one, or none")
    total = sum(given)
    if not any(abs(total - whole) < 1e-6 * whole for whole in (1, 100)):
        named = ", ".join(f"{name} {weight:g}" for name, weight in weights.items() if weight is not None)
        raise ValueError(f"{of} ({named}) add up to {total:g}; make them add up to 100 (percent) or to 1")


class Domain(Section):
    """Sources that are weighed and evaluated together. `weight` is the domain's part of the mixture."""

    sources: Sources = Field(min_length=1)
    weight: float | None = Field(default=None, ge=0)

    @model_validator(mode="after")
    def _weights_add_up(self) -> Domain:
        check_sum({source.title: source.weight for source in self.sources}, "the weights of its sources")
        return self


class Phase(Section):
    """From a share of the run on (0.8: its last fifth), domains weigh otherwise."""

    start: float = Field(gt=0, lt=1)
    weights: dict[str, float]

    habits: ClassVar[Mapping[str, str]] = {"from": "write 'start'", "at": "write 'start'"}


class Cleaning(Section):
    """What is done to documents before they become tokens; nothing unless it is asked for.

    `normalize` is a Unicode normal form. Documents shorter than `min_characters` or longer than
    `max_characters` are left out. `deduplicate` leaves out documents that came before: `exact` by their
    content, `near` also those whose MinHash similarity of word 5-grams is at least `near_threshold`.
    """

    normalize: Literal["none", "nfc", "nfkc"] = "none"
    min_characters: NonNegativeInt = 0
    max_characters: PositiveInt | None = None
    deduplicate: Literal["none", "exact", "near"] = "none"
    near_threshold: float = Field(default=0.8, gt=0, le=1)

    habits: ClassVar[Mapping[str, str]] = {
        "filter": "it belongs to a source: sources=[{path: FILE, filter: 'score > 3'}]",
        "min_length": "write 'min_characters'",
        "max_length": "write 'max_characters'",
        "minhash": "write 'deduplicate: near'",
        "dedup": "write 'deduplicate: exact' or 'near'",
    }


class AuditRules(Section):
    """What `linnet data audit` must find for the data to pass; shares of documents, sequences or tokens.

    `evaluation_sets` are files that training must not have seen: a document counts as contaminated when
    it shares a run of `ngram` words with one of their items.
    """

    max_duplicate_sequences: float = Field(default=0.0, ge=0, le=1)
    max_duplicate_documents: float = Field(default=1.0, ge=0, le=1)
    max_validation_overlap: float = Field(default=0.0, ge=0, le=1)
    max_contaminated_items: float = Field(default=1.0, ge=0, le=1)
    max_unknown_tokens: float = Field(default=1.0, ge=0, le=1)
    max_mixture_error: float = Field(default=0.01, ge=0, le=1)
    evaluation_sets: Sources = ()
    ngram: PositiveInt = 13


class DataSettings(Section):
    """Where a pretraining stage's tokens come from and how they become sequences.

    `sources` alone, or `domains` of sources with weights. Sources without weights are read as one long
    text, each as often as it is large. `schedule` changes the domains' weights during the run.
    `when_exhausted` says what follows when a source has been passed: it repeats, the run stops, or the
    others take its place.

    Without `validation_sources`, `validation_fraction` of the documents is held out, chosen by a
    hash of their content; of a streamed source, the first `validation_documents` such make the
    validation set. `document_mask` keeps packed documents from seeing each other and starts
    positions anew at each. `num_workers` threads make batches ahead. `preprocessing_processes` 0 means
    one a core. `cache_gb` is the most disk that shards of streamed sources take; a source that does not
    answer is asked again for `retry_minutes`.
    """

    sources: Sources = ()
    domains: dict[str, Domain] = Field(default_factory=dict)
    schedule: Annotated[tuple[Phase, ...], BeforeValidator(_as_tuple)] = ()
    when_exhausted: Literal["repeat", "stop", "reweight"] = "repeat"
    validation_sources: Sources = ()
    validation_fraction: float = Field(default=0.01, gt=0, le=0.5)
    validation_documents: PositiveInt = 128
    sequence_length: PositiveInt
    document_mask: bool = True
    cleaning: Cleaning = Cleaning()
    audit: AuditRules = AuditRules()
    num_workers: NonNegativeInt = 0
    preprocessing_processes: NonNegativeInt = 0
    cache_dir: str | None = None
    cache_gb: float = Field(default=10.0, gt=0)
    shard_tokens: PositiveInt = 1 << 21
    retry_minutes: float = Field(default=10.0, ge=0)

    habits: ClassVar[Mapping[str, str]] = {
        "source": "write 'sources'",
        "path": "write 'sources'",
        "text_field": "it belongs to a source: sources=[{path: FILE, text_field: NAME}]",
        "documents": "it belongs to a source: sources=[{path: FILE, documents: 1000}]",
        "streaming": "it belongs to a source: sources=[{dataset: owner/name, streaming: true}]",
        "weights": "weights belong to domains and sources: domains={web: {weight: 87, sources: [...]}}",
        "mixture": "write 'domains'",
        "probabilities": "weights belong to domains and sources: domains={web: {weight: 87, sources: [...]}}",
        "stopping_strategy": "write 'when_exhausted': repeat, stop or reweight",
        "train_file": "write 'sources'",
        "dataset": "write 'sources: [{dataset: owner/name}]'",
        "dataset_name": "write 'sources: [{dataset: owner/name}]'",
        "validation_file": "write 'validation_sources'",
        "validation_split_percentage": "write 'validation_fraction' (0.01 is one percent)",
        "max_seq_len": "write 'sequence_length'",
        "max_length": "write 'sequence_length'",
        "max_seq_length": "write 'sequence_length'",
        "block_size": "write 'sequence_length'",
        "seq_len": "write 'sequence_length'",
        "dataloader_num_workers": "write 'num_workers'",
        "preprocessing_num_workers": "write 'preprocessing_processes'",
        "packing": "pretraining always packs; 'document_mask' keeps documents apart",
        "deduplicate": "write 'cleaning.deduplicate'",
    }

    @model_validator(mode="after")
    def _one_mixture(self) -> DataSettings:
        if bool(self.sources) == bool(self.domains):
            raise ValueError("give 'sources' or 'domains', one of the two")
        check_sum(
            {name: domain.weight for name, domain in self.by_domain.items()}, "the weights of the domains"
        )
        if self.domains and len(self.domains) > 1 and any(d.weight is None for d in self.domains.values()):
            raise ValueError("each of the domains needs a weight; make them add up to 100")
        if self.sources:
            check_sum({source.title: source.weight for source in self.sources}, "the weights of the sources")
        self._check_names()
        self._check_schedule()
        self._check_blocks()
        for domain in self.by_domain.values():
            unweighed = [s for s in domain.sources if s.streaming and s.weight is None]
            if unweighed and len(domain.sources) > 1:
                raise ValueError(f"{unweighed[0].title} is streamed, so nobody knows how large it is; "
                                 "give each source of its domain a weight")  # fmt: skip
        if self.cleaning.deduplicate != "none" and any(source.streaming for source in self.all_sources):
            raise ValueError("cleaning.deduplicate needs every document at hand; "
                             "set streaming: false, or deduplicate: none")  # fmt: skip
        return self

    def _check_names(self) -> None:
        named = [s.title for s in self.all_sources]
        twice = [name for name, count in Counter(named).items() if count > 1]
        if twice:
            raise ValueError(f"two sources are named {twice[0]!r}; give one of them a label")

    def _check_schedule(self) -> None:
        starts = [phase.start for phase in self.schedule]
        if starts != sorted(set(starts)):
            raise ValueError("the phases of 'schedule' must be in order of their 'start'")
        for phase in self.schedule:
            if phase.weights.keys() != self.domains.keys():
                raise ValueError(f"the phase at {phase.start:g} must weigh exactly the domains "
                                 f"{', '.join(self.domains) or '(there are none)'}")  # fmt: skip
            check_sum(phase.weights, f"the weights of the phase at {phase.start:g}")

    def _check_blocks(self) -> None:
        """Refuse weights of so many decimals that no mixture can hold them exactly."""
        from linnet.data.mixture import FEWER_DECIMALS, LARGEST_BLOCK, least_block, shares, too_fine

        parts = {name: shares([s.weight for s in d.sources]) for name, d in self.by_domain.items()}
        given = [{name: domain.weight for name, domain in self.by_domain.items()}]
        given += [dict[str, float | None](phase.weights) for phase in self.schedule]
        for weights in given:
            of = dict(zip(weights, shares(list(weights.values())), strict=True))
            size = least_block([of[name] * part for name, found in parts.items() for part in found])
            if size > LARGEST_BLOCK:
                raise ValueError(f"{too_fine(size)}; {FEWER_DECIMALS}")

    @property
    def by_domain(self) -> dict[str, Domain]:
        """The domains; of `sources` alone, one that is named ALL."""
        return self.domains or {ALL: Domain.model_construct(sources=self.sources, weight=None)}

    @property
    def all_sources(self) -> tuple[Source, ...]:
        """Every training source, in order."""
        return tuple(source for domain in self.by_domain.values() for source in domain.sources)
