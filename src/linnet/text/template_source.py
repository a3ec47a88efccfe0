"""Where a model folder keeps its chat template, and the text of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from linnet.config import RequestError
from linnet.text.default_system import to_literal


def source_in(folder: Path, config: Mapping[str, Any]) -> tuple[str, Path] | None:
    """The template that a folder holds, and its file; `config` is what tokenizer_config.json says.

    Raises:
        RequestError: the file cannot be read, `chat_template` is neither a text nor texts by name, or none of
            several is named `default`.
    """
    file, others = folder / "chat_template.jinja", folder / "additional_chat_templates"
    default = others / "default.jinja"
    file = default if default.is_file() else file
    if file.exists():
        return read_source(file), file
    found, file = config.get("chat_template"), folder / "tokenizer_config.json"
    if further := sorted(
        path.stem for path in others.glob("*.jinja")
    ):  # these count instead of what the settings say
        found, file = dict.fromkeys(further, ""), others
    if found is None:
        return None
    if isinstance(found, list):  # several by name, as some older folders have them
        if not all(isinstance(each, Mapping) and {"name", "template"} <= each.keys() for each in found):
            raise RequestError("chat_template is a list of something else than names and templates", str(file),
                               'write [{"name": "default", "template": "..."}]')  # fmt: skip
        found = {str(each["name"]): each["template"] for each in found}
    if isinstance(found, dict):
        if "default" not in found:
            raise RequestError(f"its chat templates are named {', '.join(found) or 'nothing'}, and none default",
                               str(file), "name the one that is to be used default")  # fmt: skip
        found = found["default"]
    if not isinstance(found, str):
        raise RequestError("chat_template is not text", str(file), "restore the file")
    return found, file


def with_names(source: str, names: Mapping[str, str]) -> str:
    """The Jinja template `source` with its tokens' names written into it, of those that it uses.

    A Tokenizer keeps EOS, BOS and padding; templates may write more tokens by their names (`cls_token`), which
    only the settings of the folder they came with know.
    """
    used = {
        name: text
        for name, text in names.items()
        if name.isidentifier() and re.search(rf"\b{re.escape(name)}\b", source)
    }
    # Of the line break after a block Jinja takes one, so `source` is read from its first character.
    return "".join(f"{{% set {name} = {to_literal(text)} %}}\n" for name, text in used.items()) + source


def read_source(file: Path) -> str:
    """The text of a file.

    Raises:
        RequestError: it cannot be read, or is not UTF-8.
    """
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise RequestError("this is not UTF-8 text", str(file), "save it as UTF-8") from None
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise RequestError(f"this cannot be read ({why})", str(file)) from None
