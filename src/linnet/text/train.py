"""A byte-level BPE of a chosen size, learned from the user's own text.

A vocabulary that fits the text is shorter sequences for free, and a small model has no rows to waste on
words it never sees. Byte-level, so that no text is unknown. The pattern is Qwen2's: contractions,
words with the one character before them, digits one at a time (a small model adds better when 347 is
always three tokens), line breaks apart from indentation. It is a stock pattern, so every runtime that
knows Qwen knows how to cut our text.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from tokenizers import Regex, decoders, models, pre_tokenizers, trainers
from tokenizers import Tokenizer as LibraryTokenizer

from linnet.config import RequestError
from linnet.text.bytelevel import QWEN2_PATTERN
from linnet.text.tokenizer import Tokenizer

ENDOFTEXT, IM_START, IM_END, PAD = "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|pad|>"
SPECIALS = (ENDOFTEXT, IM_START, IM_END, PAD)
"""Reserved in every trained vocabulary, as ids 0 to 3: the end of a document, ChatML's two markers (so
that a model pretrained today can be taught to chat without new rows) and padding that is nothing else."""


def train_tokenizer(
    documents: Iterable[str],
    vocab_size: int,
    specials: tuple[str, ...] = SPECIALS,
    name: str = "trained",
    min_frequency: int = 2,
) -> Tokenizer:
    """Learns a byte-level BPE. The same documents in the same order give the same `tokenizer.json`.

    Args:
        documents: the text. Special tokens quoted in it are text like any other.
        vocab_size: the number of ids, specials and the 256 bytes included.
        specials: the first ids. The first of them ends a document; `<|pad|>`, if there, is padding.
        name: what to call the tokenizer.
        min_frequency: a pair seen fewer times is not worth an id.

    Raises:
        RequestError: the size leaves no room for bytes and specials, there is no text, or there is too
            little to fill the vocabulary.
    """
    where = "vocab_size"
    if not specials or len(set(specials)) != len(specials):
        raise RequestError("specials must be different tokens, and at least one", "specials")
    least = 256 + len(specials)
    if vocab_size < least:
        raise RequestError(
            f"{vocab_size} is too few: 256 bytes and {len(specials)} special tokens are always there",
            where,
            f"ask for {least} or more",
        )
    library = LibraryTokenizer(models.BPE())
    library.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(QWEN2_PATTERN), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    library.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=min_frequency,
        special_tokens=list(specials),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    counted = _Counted(documents)
    library.train_from_iterator(counted, trainer=trainer)
    if not counted.characters:
        raise RequestError("there is no text to learn a tokenizer from", mend="check the files given")
    reached = library.get_vocab_size(with_added_tokens=True)
    if reached < vocab_size:
        raise RequestError(
            f"{counted.characters:,} characters of text are enough for {reached:,} tokens, "
            f"not for {vocab_size:,}",
            where,
            f"ask for {reached} or fewer, or bring more text",
        )
    # The trainer gives the specials the first ids, in order.
    return Tokenizer(library, name, 0, 0, library.token_to_id(PAD), start_id=0)


class _Counted:
    """Hands documents on and counts their characters."""

    def __init__(self, documents: Iterable[str]) -> None:
        self._documents, self.characters = documents, 0

    def __iter__(self) -> Iterator[str]:
        for document in self._documents:
            self.characters += len(document)
            yield document
