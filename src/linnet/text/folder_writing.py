"""The tokenizer folder that every other tool can read.

It is for `transformers.AutoTokenizer`. Its settings say what Linnet does: the token that a
text begins with is put before it by a post-processor (chat templates are encoded without it, and write their
own BOS), decoded text is not tidied up, and padding is a token of its own or none.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from linnet.text.files import GENERATION_FILE
from linnet.text.folder_settings import CONFIG_FILE, MAP_FILE, read_object

if TYPE_CHECKING:
    from linnet.text.tokenizer import Tokenizer


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
    config: dict[str, Any] = {
        "add_bos_token": tokenizer.start_id is not None and tokenizer.start_id == tokenizer.bos_id,
        "add_eos_token": False,
        "clean_up_tokenization_spaces": False,
        # The class that takes tokenizer.json as it is. A family's own (LlamaTokenizer) builds parts anew.
        "tokenizer_class": "PreTrainedTokenizerFast",
        **names,  # null means that there is none: a reader does not look for one by its usual names
    }
    if model_max_length is not None:
        config["model_max_length"] = model_max_length
    special = {key: name for key, name in names.items() if name is not None}
    _write_json(folder / CONFIG_FILE, config)
    _write_json(folder / MAP_FILE, special)
    (folder / "tokenizer.json").write_text(_with_start(tokenizer), encoding="utf-8")
    if tokenizer.sentencepiece_model is not None:
        (folder / "tokenizer.model").write_bytes(tokenizer.sentencepiece_model)
    if tokenizer.chat_template is not None:
        (folder / "chat_template.jinja").write_text(tokenizer.chat_template, encoding="utf-8")
    if tokenizer.chat_template is not None or len(tokenizer.stop_ids) > 1:
        generation = read_object(folder / GENERATION_FILE) | {"eos_token_id": list(tokenizer.stop_ids)}
        _write_json(folder / GENERATION_FILE, generation)


def _with_start(tokenizer: Tokenizer) -> str:
    """The tokenizer.json with a post-processor that puts the start token before a text."""
    start = tokenizer.token(tokenizer.start_id)
    if start is None:
        return tokenizer.to_json()
    spec = json.loads(tokenizer.to_json())

    def opened(sequence: str, type_id: int) -> list[dict[str, Any]]:
        kinds = (("SpecialToken", start), ("Sequence", sequence))
        return [{kind: {"id": name, "type_id": type_id}} for kind, name in kinds]

    spec["post_processor"] = {
        "type": "TemplateProcessing",
        "single": opened("A", 0),
        "pair": opened("A", 0) + opened("B", 1),
        "special_tokens": {start: {"id": start, "ids": [tokenizer.start_id], "tokens": [start]}},
    }
    return json.dumps(spec, indent=2, ensure_ascii=False)


def _write_json(path: Path, content: dict[str, Any]) -> None:
    text = json.dumps(content, indent=2, ensure_ascii=False, sort_keys=True)
    path.write_text(text + "\n", encoding="utf-8")
