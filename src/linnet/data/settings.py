"""What a stage learns from, as a recipe says it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, Field, NonNegativeInt, PositiveInt, model_validator

from linnet.config import Layers, Section, validate


class Source(Section):
    """One place that documents come from: exactly one of `path`, `dataset`, `builtin`.

    `path` is a file, a folder or a glob (txt, jsonl, json, also packed as gz or zst; parquet; nanoGPT's bin).
    `dataset` is a Hugging Face dataset's name, with its configuration in `name` and its `split`.
    `builtin` is `world`, the generated small world. `documents` is the most that are taken.
    """

    path: str | None = None
    dataset: str | None = None
    builtin: str | None = None
    name: str | None = None
    split: str = "train"
    revision: str | None = None
    text_field: str = "text"
    documents: PositiveInt | None = None

    habits: ClassVar[Mapping[str, str]] = {
        "data_files": "write 'path'",
        "file": "write 'path'",
        "files": "write 'path' (a folder or a glob takes many)",
        "config": "write 'name'",
        "text_column": "write 'text_field'",
        "dataset_text_field": "write 'text_field'",
        "column": "write 'text_field'",
        "max_samples": "write 'documents'",
    }

    @model_validator(mode="after")
    def _one_place(self) -> Source:
        given = [name for name in ("path", "dataset", "builtin") if getattr(self, name)]
        if len(given) != 1:
            found = " and ".join(given) or "none"
            raise ValueError(f"a source is one of path, dataset, builtin; here: {found}")
        if self.builtin not in (None, "world"):
            raise ValueError(f"there is no built-in data {self.builtin!r}; write builtin: world")
        return self

    @property
    def label(self) -> str:
        """A short name for people."""
        if self.dataset:
            return self.dataset if self.name is None else f"{self.dataset}/{self.name}"
        return self.path or f"builtin:{self.builtin}"


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
    if kind == "hf":
        return {"dataset": rest}
    return {"path": word}


def source_of(word: str, text_field: str = "text") -> Source:
    """A source from one word, as the command line takes it.

    Raises:
        RequestError: when the word names no kind of source that there is.
    """
    return validate(Source, Layers({**_from_word(word), "text_field": text_field}, {(): word}))


Sources = Annotated[tuple[Source, ...], BeforeValidator(_as_sources)]


class DataSettings(Section):
    """Where a pretraining stage's tokens come from and how they become sequences.

    Without `validation_sources`, `validation_fraction` of the documents is held out, chosen by a
    hash of their content. `document_mask` keeps packed documents from seeing each other and starts
    positions anew at each. `num_workers` threads make batches ahead. `preprocessing_processes` 0 means
    one a core.
    """

    sources: Sources = Field(min_length=1)
    validation_sources: Sources = ()
    validation_fraction: float = Field(default=0.01, gt=0, le=0.5)
    sequence_length: PositiveInt
    document_mask: bool = True
    num_workers: NonNegativeInt = 0
    preprocessing_processes: NonNegativeInt = 0
    cache_dir: str | None = None

    habits: ClassVar[Mapping[str, str]] = {
        "source": "write 'sources'",
        "path": "write 'sources'",
        "text_field": "it belongs to a source: sources=[{path: FILE, text_field: NAME}]",
        "documents": "it belongs to a source: sources=[{path: FILE, documents: 1000}]",
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
    }
