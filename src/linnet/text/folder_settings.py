"""What the settings files of a tokenizer folder say, read as transformers' `AutoTokenizer` reads them.

`tokenizer_config.json` names the special tokens and lists tokens added to the vocabulary. Where it has no
`added_tokens_decoder`, the older files count too: `special_tokens_map.json`, whose names then win, and
`added_tokens.json`. A name that is `null` means that there is no such token.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, pre_tokenizers
from tokenizers import Tokenizer as LibraryTokenizer

from linnet.config import RequestError

CONFIG_FILE, MAP_FILE, ADDED_FILE = "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"
SETTINGS_FILES = (CONFIG_FILE, MAP_FILE, ADDED_FILE)

ROLES = ("eos_token", "bos_token", "pad_token")
_FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")
_SETS_PREFIX_SPACE = ("GPT2Tokenizer", "Qwen2Tokenizer")
# The class that reads the vocabulary where tokenizer_config.json names none.
_CLASS_OF_MODEL = {"gpt2": "GPT2Tokenizer", "qwen2": "Qwen2Tokenizer", "qwen3": "Qwen2Tokenizer"}


@dataclass(frozen=True)
class FolderSettings:
    """Attributes:
    names: the token of each of `ROLES` that the files name; None where they say that there is none.
    added: tokens beside the vocabulary, in the order in which they are added: the id that the files state (None
        for the next one), the token, and the file that lists it.
    tokenizer_class: without "Fast"; empty where nothing says.
    add_bos: `add_bos_token`, which counts where there is no tokenizer.json.
    add_prefix_space: put a space before every text, or do not; None where nothing says.
    """

    names: Mapping[str, str | None]
    added: tuple[tuple[int | None, AddedToken, str], ...] = ()
    tokenizer_class: str = ""
    add_bos: bool = False
    add_prefix_space: bool | None = None

    def set_prefix_space(self, library: LibraryTokenizer) -> None:
        """Makes a byte-level `library` do what is said here, where stock classes go by that and not by its file."""
        before = library.pre_tokenizer
        if self.tokenizer_class not in _SETS_PREFIX_SPACE or before is None:
            return
        sequence: Any = before if isinstance(before, pre_tokenizers.Sequence) else [before]
        for step in sequence:
            if isinstance(step, pre_tokenizers.ByteLevel):
                step.add_prefix_space = self.add_prefix_space is True

    def add_tokens(self, library: LibraryTokenizer, where: str) -> None:
        """Puts the added tokens into `library`, and makes the tokens that are named for a role special.

        Raises:
            RequestError: a token would get another id than its file states.
        """
        for stated, token, file in self.added:
            known = library.get_added_tokens_decoder()
            if not any(token.content == other.content for other in known.values()):
                (library.add_special_tokens if token.special else library.add_tokens)([token])
            found = library.token_to_id(token.content)
            if stated is not None and found != stated:
                raise RequestError(
                    f"{file} gives {token.content!r} the id {stated}, and the vocabulary beside it {found}",
                    where,
                    "bring the tokenizer's files from one place, or take the token out of the file",
                )
        special = {token.content for token in library.get_added_tokens_decoder().values() if token.special}
        for name in self.names.values():
            if name is not None and name not in special and library.token_to_id(name) is not None:
                library.add_special_tokens([AddedToken(name, special=True, normalized=False)])


def read_settings(folder: Path, where: str = "") -> FolderSettings:
    """The settings of a folder; empty where it has none.

    Raises:
        RequestError: a file is damaged.
    """
    config, legacy, added = (read_object(folder / name, where) for name in SETTINGS_FILES)
    modern = "added_tokens_decoder" in config
    named = _named(config, legacy)
    names = {role: _name(named[role], folder, where) for role in ROLES if role in named}
    extra = named.get("extra_special_tokens") or named.get("additional_special_tokens") or []
    extra = [*extra.values()] if isinstance(extra, dict) else extra
    extras = [_name(token, folder, where) for token in extra] if isinstance(extra, list) else []
    tokens: list[tuple[int | None, AddedToken, str]] = []
    if modern:
        listed, file = config["added_tokens_decoder"] or {}, folder / CONFIG_FILE
        if not isinstance(listed, dict):
            raise _unreadable(file, "added_tokens_decoder", where)
        for key, value in listed.items():
            tokens.append((_id(key, file, where), _token(value, file, where), str(file)))
    else:
        special = {*names.values(), *extras}
        for content, key in added.items():
            token = AddedToken(content, special=content in special, normalized=content not in special)
            tokens.append((_id(key, folder / ADDED_FILE, where), token, str(folder / ADDED_FILE)))
    tokens.sort(key=lambda entry: entry[0] or 0)
    known = {token.content for _, token, _ in tokens}
    tokens += [
        (None, AddedToken(name, special=True, normalized=False), str(folder / CONFIG_FILE))
        for name in dict.fromkeys(extras)
        if name and name not in known
    ]
    prefix = config.get("add_prefix_space")
    return FolderSettings(
        names, tuple(tokens), _class(folder, config), config.get("add_bos_token") is True,
        prefix if isinstance(prefix, bool) else None,
    )  # fmt: skip


def read_template_names(folder: Path) -> dict[str, str]:
    """The tokens that a folder names for its chat template beside EOS and BOS: `cls_token`, `image_token` ...

    Padding is among them only where it is EOS too: then a Tokenizer has none.
    """
    named = _named(read_object(folder / CONFIG_FILE), read_object(folder / MAP_FILE))
    extra = named.get("extra_special_tokens")
    values = {**named, **extra} if isinstance(extra, dict) else named
    texts = {
        role: value.get("content") if isinstance(value, dict) else value for role, value in values.items()
    }
    if texts.get("pad_token") != texts.get("eos_token"):
        texts.pop("pad_token", None)
    return {
        role: text
        for role, text in texts.items()
        if role.endswith("_token")
        and role not in ("eos_token", "bos_token")
        and isinstance(text, str)
        and text
    }


def _named(config: Mapping[str, Any], legacy: Mapping[str, Any]) -> Mapping[str, Any]:
    return config if "added_tokens_decoder" in config else {**config, **legacy}


def _class(folder: Path, config: Mapping[str, Any]) -> str:
    chosen = config.get("tokenizer_class")
    if isinstance(chosen, str):
        return chosen.removesuffix("Fast")
    model = read_object(folder / "config.json", "")
    return _CLASS_OF_MODEL.get(str(model.get("model_type")), "")


def read_object(path: Path, where: str = "") -> dict[str, Any]:
    """The JSON object in a file; empty where the file is missing or holds something else.

    Raises:
        RequestError: it is not JSON.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except (OSError, ValueError) as error:
        raise RequestError(f"{path} is not JSON ({error})", where, "bring the file again") from error
    return content if isinstance(content, dict) else {}


def _name(value: Any, folder: Path, where: str) -> str | None:
    if isinstance(value, dict):  # an AddedToken, written out
        value = value.get("content")
    if value is not None and not isinstance(value, str):
        raise _unreadable(folder / CONFIG_FILE, f"the token {value!r}", where)
    return value or None


def _token(value: Any, file: Path, where: str) -> AddedToken:
    if not isinstance(value, dict) or not isinstance(value.get("content"), str) or not value["content"]:
        raise _unreadable(file, "added_tokens_decoder", where)
    flags = {flag: bool(value[flag]) for flag in _FLAGS if flag in value}
    return AddedToken(value["content"], **flags)


def _id(key: Any, file: Path, where: str) -> int:
    try:
        return int(key)
    except (TypeError, ValueError):
        raise _unreadable(file, f"the id {key!r}", where) from None


def _unreadable(file: Path, what: str, where: str) -> RequestError:
    return RequestError(
        f"{what} in {file} is not what transformers writes there", where, "bring the file again"
    )
