"""Tokenizers on disk: what folders and files hold one, and the folder that every other tool can read.

The written folder is for `transformers.AutoTokenizer`. Its settings say what Linnet does: nothing is
added around a text (a template that writes BOS would otherwise get two), decoded text is not tidied up,
and padding is a token of its own or none.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokenizers import Tokenizer as LibraryTokenizer

from linnet.config import RequestError
from linnet.text.bytelevel import from_vocab_and_merges
from linnet.text.engines import LibraryEngine, SentencePieceEngine, first_difference
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
SETTINGS_FILES = ("tokenizer_config.json", "special_tokens_map.json")

# Where no file says which token ends a document, the first of these that the vocabulary has.
_EOS_NAMES = ("<|endoftext|>", "</s>", "<|end_of_text|>", "<eos>", "<|eos|>", "<|im_end|>")
_BOS_NAMES = ("<s>", "<|begin_of_text|>", "<bos>", "<|bos|>")


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
        if files[0] == "tokenizer.model":
            return read_sentencepiece(folder / files[0], name, where)
        library = from_vocab_and_merges(folder / files[0], folder / files[1], where)
        return _with_special_ids(library, name, _settings(folder, where), where, folder)
    wanted = ", ".join(" + ".join(files) for files in VOCABULARY_FILES)
    raise RequestError(f"there is no tokenizer in {folder}", where, f"it needs one of: {wanted}")


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
    return read_sentencepiece(path, name or path.stem, where)


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
    tokenizer = _with_special_ids(library, name, _settings(path.parent, where), where, path)
    beside = path.with_name("tokenizer.model")
    if tokenizer.engine != "tokenizers" or not beside.is_file():
        return tokenizer
    # A Llama or Mistral folder has its vocabulary twice; the .model is faster where it agrees.
    try:
        data = beside.read_bytes()
        exact = _is_exact(read_model(data)) and _agree(data, library)
    except (OSError, ValueError, KeyError, RuntimeError):
        return tokenizer
    if not exact:
        return tokenizer
    return Tokenizer(library, name, tokenizer.eos_id, tokenizer.bos_id, tokenizer.pad_id, data)


def read_sentencepiece(path: Path, name: str, where: str = "") -> Tokenizer:
    """The tokenizer of a SentencePiece `.model`, converted."""
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
    if model.eos_id < 0:
        raise RequestError(f"{path} has no end-of-text piece", where, "train it with an eos_id")
    bos_id, pad_id = (i if i >= 0 else None for i in (model.bos_id, model.pad_id))
    return Tokenizer(library, name, model.eos_id, bos_id, pad_id, data if _is_exact(model) else None)


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


def _settings(folder: Path, where: str) -> dict[str, str]:
    """`eos_token`, `bos_token` and `pad_token` as the files of a folder say."""
    found: dict[str, str] = {}
    for file in SETTINGS_FILES:
        path = folder / file
        if not path.is_file():
            continue
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise RequestError(f"{path} is not JSON ({error})", where, "bring the file again") from error
        for key in ("eos_token", "bos_token", "pad_token"):
            value = content.get(key) if isinstance(content, dict) else None
            if isinstance(value, dict):  # an AddedToken, written out
                value = value.get("content")
            if isinstance(value, str):
                found.setdefault(key, value)
    return found


def _with_special_ids(
    library: LibraryTokenizer, name: str, settings: dict[str, str], where: str, path: Path
) -> Tokenizer:
    from linnet.text.tokenizer import Tokenizer

    ids: dict[str, int | None] = {}
    for key, guesses in (("eos_token", _EOS_NAMES), ("bos_token", _BOS_NAMES), ("pad_token", ("<|pad|>",))):
        names = (settings[key],) if key in settings else guesses
        ids[key] = next((library.token_to_id(n) for n in names if library.token_to_id(n) is not None), None)
    eos_id = ids["eos_token"]
    if eos_id is None:
        raise RequestError(
            f"nothing says which token of {path} ends a document",
            where,
            'put a tokenizer_config.json beside it: {"eos_token": "the token"}',
        )
    return Tokenizer(library, name, eos_id, ids["bos_token"], ids["pad_token"])


def read_chat(folder: Path) -> tuple[str | None, tuple[int, ...]]:
    """The chat template of a model folder, and the tokens that end an answer, as its generation_config says.

    A vocabulary alone has neither: whoever pretrains with a chat model's vocabulary makes a base model.

    Raises:
        RequestError: one of the files is damaged.
    """
    from linnet.text.chat_template import source_in

    config, generation = (_object(folder / name) for name in (SETTINGS_FILES[0], GENERATION_FILE))
    found = source_in(folder, config)
    ends = generation.get("eos_token_id", [])
    stop_ids = ends if isinstance(ends, list) else [ends]
    return found[0] if found else None, tuple(i for i in stop_ids if isinstance(i, int))


def _object(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except (OSError, ValueError) as error:
        raise RequestError(f"this is not JSON ({error})", str(path), "bring the file again") from error
    return content if isinstance(content, dict) else {}


def write_folder(tokenizer: Tokenizer, folder: Path, model_max_length: int | None = None) -> None:
    """Writes `tokenizer.json`, `tokenizer_config.json`, `special_tokens_map.json`.

    `tokenizer.model` too where the vocabulary came as one, for tools that read only that. A chat template
    goes to `chat_template.jinja`, and the tokens that end an answer into `generation_config.json`, beside what
    the model's own writer put there.

    Args:
        tokenizer: what to write.
        folder: made if it is not there.
        model_max_length: the context of the model it belongs to, in tokens.
    """
    folder.mkdir(parents=True, exist_ok=True)
    names = {
        "bos_token": tokenizer.token(tokenizer.bos_id),
        "eos_token": tokenizer.token(tokenizer.eos_id),
        "pad_token": tokenizer.token(tokenizer.pad_id),
    }
    special = {key: name for key, name in names.items() if name is not None}
    config: dict[str, Any] = {
        "add_bos_token": False,
        "add_eos_token": False,
        "clean_up_tokenization_spaces": False,
        # The class that takes tokenizer.json as it is. A family's own (LlamaTokenizer) builds parts anew.
        "tokenizer_class": "PreTrainedTokenizerFast",
        **special,
    }
    if model_max_length is not None:
        config["model_max_length"] = model_max_length
    _write_json(folder / "tokenizer_config.json", config)
    _write_json(folder / "special_tokens_map.json", special)
    (folder / "tokenizer.json").write_text(tokenizer.to_json(), encoding="utf-8")
    if tokenizer.sentencepiece_model is not None:
        (folder / "tokenizer.model").write_bytes(tokenizer.sentencepiece_model)
    if tokenizer.chat_template is not None:
        (folder / "chat_template.jinja").write_text(tokenizer.chat_template, encoding="utf-8")
        generation = _object(folder / GENERATION_FILE) | {"eos_token_id": list(tokenizer.stop_ids)}
        _write_json(folder / GENERATION_FILE, generation)


def _write_json(path: Path, content: dict[str, Any]) -> None:
    text = json.dumps(content, indent=2, ensure_ascii=False, sort_keys=True)
    path.write_text(text + "\n", encoding="utf-8")
