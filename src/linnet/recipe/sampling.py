"""Samples of text in the middle of a stage: what follows its sample prompts."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from linnet.config import RequestError
from linnet.infer import Generator, SamplingSettings
from linnet.model import ModelSpec, Transformer
from linnet.recipe.stages import AnyStage, ChatStage
from linnet.recipe.work import Work
from linnet.text import Tokenizer

TEMPERATURE, TOP_K = 0.8, 50

ToIds = Callable[[Sequence[str]], list[list[int]]]


def document_prompts(tokenizer: Tokenizer, words: Sequence[str]) -> list[list[int]]:
    """Beginnings of documents, each after what opens one."""
    return [tokenizer.encode_prompt(word) for word in words]


def check_prompts(name: str, stage: AnyStage, spec: ModelSpec, to_ids: ToIds) -> None:
    """Refuse before a run the sample prompts that its model could not continue.

    Args:
        to_ids: prompts as the model reads them.

    Raises:
        RequestError: a prompt fills the model's context.
    """
    if not stage.sample_tokens:
        return
    context = spec.max_position_embeddings
    for number, ids in enumerate(to_ids(stage.sample_prompts), 1):
        if len(ids) >= context:
            raise RequestError(
                f"prompt {number} has {len(ids):,} tokens and leaves no room in the model's {context:,}",
                f"{name}.sample_prompts",
                f"shorten it to {context - 1:,} tokens or less",
            )


def sampler(model: Transformer, stage: AnyStage, work: Work) -> Callable[[], list[tuple[str, str]]] | None:
    """Writes text after the stage's sample prompts: pairs of prompt and text."""
    words = list(stage.sample_prompts)
    if not stage.sample_tokens or not words:
        return None
    generator = Generator(model, work.tokenizer)
    settings = SamplingSettings(max_new_tokens=stage.sample_tokens, temperature=TEMPERATURE, top_k=TOP_K)
    ids = work.prompts(words)
    shown = [f"{word} → " for word in words] if isinstance(stage, ChatStage) else words

    def sample() -> list[tuple[str, str]]:
        return [(p, done.text) for p, done in zip(shown, generator.generate(ids, settings), strict=True)]

    return sample
