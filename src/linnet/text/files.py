"""Tokenizers on disk: what folders and files hold one, and how they are read.

A folder that is read keeps its own rule. With a tokenizer.json that is its post-processor, whatever
`add_bos_token` says, and otherwise `add_bos_token`; transformers 5 reads both so. What such a rule appends (an
EOS) is left out: a prompt would be over before the model answers, and documents get their EOS anyway.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from tokenizers import Tokenizer as LibraryTokenizer

from linnet.config import RequestError
from linnet.text.bytelevel import from_vocab_and_merges
from linnet.text.engines import LibraryEngine, SentencePieceEngine, first_difference
from linnet.text.folder_settings import (
    CONFIG_FILE,
    ROLES,
    SETTINGS_FILES,
    FolderSettings,
    read_object,
    read_settings,
    read_template_names,
)
from linnet.text.sentencepiece_model import SentencePieceModel, convert, read_model

if TYPE_CHECKING:
    from linnet.text.tokenizer import Tokenizer

VOCABULARY_FILES: tuple[tuple[str, ...], ...] = (
    ("tokenizer.json",),
    ("tokenizer.model",),
    ("vocab.json", "merges.txt"),
    ("encoder.json", "vocab.bpe"),
)
"""What makes a folder a tokenizer's, in the order of preference."""

GENERATION_FILE = "generation_config.json"
_MODEL_CONFIG = "config.json"

# Where no file says which token has a role, the first of these that is a special token of the vocabulary.
_GUESSES = {
    "eos_token": ("<|endoftext|>", "</s>", "<|end_of_text|>", "<eos>", "<|eos|>", "<|im_end|>"),
    "bos_token": ("<s>", "<|begin_of_text|>", "<bos>", "<|bos|>"),
    "pad_token": ("<|pad|>",),
}


def read_folder(folder: Path, name: str = "", where: str = "") -> Tokenizer:
    """The tokenizer of a folder: any of `VOCABULARY_FILES`, with `SETTINGS_FILES` where they are.

    Raises:
        RequestError: none of them is there, or one cannot be read.
    """
    name = name or folder.name
    for files in VOCABULARY_FILES:
        if not all((folder / file).is_file() for file in files):
            continue
        if files[0] == "tokenizer.json":
            return read_json(folder / files[0], name, where)
        settings = read_settings(folder, where)
        if files[0] == "tokenizer.model":
            return read_sentencepiece(folder / files[0], name, where, settings)
        return _read_vocab_and_merges(folder, files, name, where, settings)
    wanted = ", ".join(" + ".join(files) for files in VOCABULARY_FILES)
    raise RequestError(f"{folder} holds no tokenizer", where, f"it needs one of: {wanted}")


def read_file(path: Path, name: str = "", where: str = "") -> Tokenizer:
    """The tokenizer of one file, JSON or SentencePiece by what it holds, whatever it is called.

    Raises:
        RequestError: it is neither, or damaged.
    """
    try:
        with path.open("rb") as file:
            head = file.read(64)
    except OSError as error:
        raise RequestError(f"{path} cannot be read ({error.strerror})", where) from error
    if head.lstrip().startswith(b"{"):
        return read_json(path, name or path.stem, where)
    settings = read_settings(path.parent, where) if path.name == "tokenizer.model" else None
    return read_sentencepiece(path, name or path.stem, where, settings)


def read_json(path: Path, name: str, where: str = "") -> Tokenizer:
    """The tokenizer of a `tokenizer.json`, with the settings beside it."""
    from linnet.text.tokenizer import Tokenizer

    try:
        library = LibraryTokenizer.from_file(str(path))
    except Exception as error:  # the library raises bare Exceptions
        raise RequestError(
            f"{path} is not a tokenizer.json ({error})",
            where,
            "bring the file again, or a SentencePiece .model",
        ) from error
    library.no_padding()
    library.no_truncation()
    start_id = _start_id(library, where, path)
    settings = read_settings(path.parent, where)
    settings.set_prefix_space(library)
    settings.add_tokens(library, where)
    ids = _special_ids(library, settings, where, path, start_id)
    tokenizer = Tokenizer(library, name, *ids, start_id=start_id)
    beside = path.with_name("tokenizer.model")
    if tokenizer.engine != "tokenizers" or not beside.is_file():
        return tokenizer
    # A Llama or Mistral folder has its vocabulary twice; the .model is faster where it agrees.
    try:
        data = beside.read_bytes()
        model = read_model(data)
        exact = _is_exact(model) and _only_special(library, model) and _agree(data, library)
    except (OSError, ValueError, KeyError, RuntimeError):
        return tokenizer
    if not exact:
        return tokenizer
    return Tokenizer(library, name, *ids, data, start_id=start_id)


def read_sentencepiece(
    path: Path, name: str, where: str = "", settings: FolderSettings | None = None
) -> Tokenizer:
    """The tokenizer of a SentencePiece `.model`, converted, with the settings beside it where they count."""
    from linnet.text.tokenizer import Tokenizer

    try:
        data = path.read_bytes()
        model = read_model(data)
    except (OSError, ValueError, KeyError) as error:
        raise RequestError(
            f"{path} is neither a tokenizer.json nor a SentencePiece model ({error})",
            where,
            "bring the file again from where it came",
        ) from error
    library = convert(model, where)
    library.encode_special_tokens = True
    if not _agree(data, library):
        raise RequestError(
            f"{path} has no tokenizer.json that encodes alike, so a model trained with it could not be "
            "read by other tools",
            where,
            "train a tokenizer with `linnet data tokenizer`, or bring a tokenizer.json",
        )
    own = {"eos_token": model.eos_id, "bos_token": model.bos_id, "pad_token": model.pad_id}
    names = {role: model.pieces[i].text if i >= 0 else None for role, i in own.items()}
    settings = settings or FolderSettings({})
    if settings.add_prefix_space is False and model.add_dummy_prefix:
        raise RequestError(
            f"{path} puts a space before a text, and {CONFIG_FILE} beside it says add_prefix_space: false",
            where,
            "put the tokenizer.json there that transformers' save_pretrained writes, or take the line out",
        )
    settings = replace(settings, names={**names, **settings.names})
    settings.add_tokens(library, where)
    for _, token, file in settings.added:
        if not token.special and not _only_special(library, model):
            raise RequestError(
                f"{file} adds {token.content!r} to what text may hold, which has no exact form beside {path.name}",
                where,
                "put the tokenizer.json there that transformers' save_pretrained writes",
            )
    if settings.names["eos_token"] is None:
        raise RequestError(f"{path} has no end-of-text piece", where, "train it with an eos_id")
    ids = _special_ids(library, settings, where, path)
    start_id = ids[1] if settings.add_bos else None
    return Tokenizer(library, name, *ids, data if _is_exact(model) else None, start_id=start_id)


def _read_vocab_and_merges(
    folder: Path, files: tuple[str, ...], name: str, where: str, settings: FolderSettings
) -> Tokenizer:
    from linnet.text.tokenizer import Tokenizer

    if settings.tokenizer_class not in ("", "GPT2Tokenizer", "Qwen2Tokenizer", "PreTrainedTokenizer"):
        raise RequestError(
            f"{folder / files[0]} is a vocabulary of {settings.tokenizer_class}, which Linnet does not read",
            where,
            "put its tokenizer.json there (transformers' save_pretrained writes one)",
        )
    qwen = settings.tokenizer_class == "Qwen2Tokenizer"
    library = from_vocab_and_merges(
        folder / files[0], folder / files[1], where, qwen, settings.add_prefix_space is True
    )
    default = (
        None if qwen or library.token_to_id(_GUESSES["eos_token"][0]) is None else _GUESSES["eos_token"][0]
    )
    settings = replace(settings, names={"bos_token": default, **settings.names})
    settings.add_tokens(library, where)
    ids = _special_ids(library, settings, where, folder / files[0])
    return Tokenizer(library, name, *ids, start_id=ids[1] if settings.add_bos else None)


def _start_id(library: LibraryTokenizer, where: str, path: Path) -> int | None:
    """The token that the post-processor of a tokenizer.json puts before a text, if it does."""
    for probe in ("a", "0", " ", "\n"):
        encoding = library.encode(probe)
        if 0 in encoding.special_tokens_mask:
            before = encoding.ids[: encoding.special_tokens_mask.index(0)]
            if len(before) > 1:
                raise RequestError(
                    f"{path} puts {len(before)} tokens before a text, and Linnet knows of one",
                    where,
                    "edit its post_processor to add BOS alone",
                )
            return before[0] if before else None
    return None


def _only_special(library: LibraryTokenizer, model: SentencePieceModel) -> bool:
    """Whether all tokens added to a SentencePiece vocabulary are special, which text never has."""
    pieces = {piece.text for piece in model.pieces}
    added = library.get_added_tokens_decoder().values()
    return all(token.special or token.content in pieces for token in added)


def _is_exact(model: SentencePieceModel) -> bool:
    """Whether the conversion is exact on every text, not only on common ones.

    The library applies a character map to whole grapheme clusters, sentencepiece to characters: they
    part ways on accents after line breaks and the like. Then the tokenizer.json is what counts.
    """
    return not model.character_map and not model.remove_extra_spaces


def _agree(data: bytes, library: LibraryTokenizer) -> bool:
    library.encode_special_tokens = True
    reference = LibraryEngine(library)
    library.post_processor = None
    return first_difference(SentencePieceEngine(data), reference) is None


def _special_ids(
    library: LibraryTokenizer, settings: FolderSettings, where: str, path: Path, start_id: int | None = None
) -> tuple[int, int | None, int | None]:
    """The ids of EOS, BOS and padding.

    Args:
        start_id: the token put before a text, which is BOS where no file names one.
    """
    special = {token.content: i for i, token in library.get_added_tokens_decoder().items() if token.special}
    ids: dict[str, int | None] = {}
    for role in ROLES:
        name = settings.names.get(role)
        if role not in settings.names:
            guessed = (special[guess] for guess in _GUESSES[role] if guess in special)
            ids[role] = start_id if role == "bos_token" and start_id is not None else next(guessed, None)
            continue
        ids[role] = None if name is None else library.token_to_id(name)
        if name is not None and ids[role] is None and role != "pad_token":  # padding is not needed
            raise RequestError(
                f"its {role} {name} is not in the vocabulary",
                f"{where}: {path.parent}" if where else str(path.parent),
                f"name a token that is in {path.name}",
            )
    eos_id, bos_id, pad_id = (ids[role] for role in ROLES)
    if eos_id is None:
        raise RequestError(
            f"nothing says which token of {path} ends a document",
            where,
            'put a tokenizer_config.json beside it: {"eos_token": "the token"}',
        )
    return eos_id, bos_id, pad_id


def read_chat(folder: Path) -> tuple[str | None, tuple[int, ...]]:
    """The chat template of a model folder, and the tokens that end an answer.

    These are `eos_token_id` of generation_config.json or, where that names none, of config.json; transformers'
    `generate` takes them so. A vocabulary alone has neither: whoever pretrains with a chat model's
    vocabulary makes a base model.

    Raises:
        RequestError: one of the files is damaged.
    """
    from linnet.text.template_source import source_in, with_names

    config = read_object(folder / SETTINGS_FILES[0])
    found = source_in(folder, config)
    ends = read_object(folder / GENERATION_FILE).get("eos_token_id")
    if ends is None:
        ends = read_object(folder / _MODEL_CONFIG).get("eos_token_id", [])
    stop_ids = ends if isinstance(ends, list) else [ends]
    source = with_names(found[0], read_template_names(folder)) if found else None
    return source, tuple(i for i in stop_ids if isinstance(i, int))
