"""The stages of a model's life, as a recipe says them: the rooms' own sections put together.

    pretrain   next-token prediction on documents
    sft        conversations: what to say
    safety     requests to decline and their harmless twins, among ordinary conversations
    dpo        pairs: which of two answers is better
    rlvr       problems: answers that can be checked
    domain     documents of a field, usually through a low-rank adapter

Each begins with what the one before handed on, or with `init_from`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal, get_args

from pydantic import Field, model_validator

from linnet.data.conversations.collection import ItemSettings
from linnet.data.conversations.settings import ChatSettings, PreflightSettings
from linnet.data.replay import ReplaySettings
from linnet.data.settings import DataSettings, Sources
from linnet.model import LoraSettings
from linnet.objectives.preference import PreferenceSettings
from linnet.objectives.reward import RewardSettings
from linnet.train import TrainSettings

StageName = Literal["pretrain", "sft", "safety", "dpo", "rlvr", "domain"]
STAGES: tuple[StageName, ...] = get_args(StageName)


class Stage(TrainSettings):
    """What all stages have.

    `init_from` is a checkpoint, a run, a stock model's folder or `hf:owner/name`; by default the stage
    before. `lora` trains a low-rank adapter instead of the model; what is handed on is the merged model.
    `hand_on` says which checkpoint the next stage begins with.
    """

    init_from: str | None = None
    lora: LoraSettings | None = None
    hand_on: Literal["last", "best"] = "last"

    @model_validator(mode="after")
    def _adapters_have_their_optimizer(self) -> Stage:
        if self.lora is not None and self.optim == "muon":
            raise ValueError("optim: muon is for whole matrices; with lora write optim: adamw")
        if self.hand_on == "best" and not self.keep_best:
            raise ValueError("hand_on: best needs keep_best: true")
        return self


class PretrainStage(Stage):
    """Next-token prediction on documents, from fresh weights or from `init_from`."""

    data: DataSettings


class DomainStage(PretrainStage):
    """The same on documents of a field; with `lora` for the price of an adapter."""


class ChatStage(Stage):
    """What the stages after pretraining have: items, the form they are said in, and what they must be like."""

    data: ItemSettings
    chat: ChatSettings = ChatSettings()
    preflight: PreflightSettings = PreflightSettings()
    sample_prompts: list[str] = Field(default=[])


class ConversationStage(ChatStage):
    """What the stages of conversations have: `replay` are pretraining documents learned beside them."""

    replay: ReplaySettings | None = None

    habits: ClassVar[Mapping[str, str]] = {
        **ChatStage.habits,
        "replay_share": "write 'replay: {share: 0.1}'",
        "replay_ratio": "write 'replay: {share: 0.1}'",
        "ptx_coef": "write 'replay: {share: 0.1}'",
    }


class SftStage(ConversationStage):
    """Supervised fine-tuning on conversations: the assistant's words are learned."""


class SafetyStage(ConversationStage):
    """Refusal training: requests to decline beside harmless ones that look alike.

    `ordinary` conversations (by default those of `sft`) are `ordinary_share` of what is learned, so that
    the model stays who it was. `evaluation` are more prompts, with a `label` (harmful, unsafe; safe,
    harmless), that are only judged. From this stage on a stage fails when, on held-out requests, fewer
    than `min_refusal` of the harmful ones are refused or more than `max_over_refusal` of the harmless
    ones, and the life of the model stops there; `gate: false` only tells it.
    """

    ordinary: ItemSettings | None = None
    ordinary_share: float = Field(default=0.5, ge=0, lt=1)
    evaluation: Sources = ()
    min_refusal: float = Field(default=0.9, ge=0, le=1)
    max_over_refusal: float = Field(default=0.1, ge=0, le=1)
    gate: bool = True


class PreferenceStage(ChatStage, PreferenceSettings):
    """Preference tuning on pairs of answers; `train_batch_size` counts pairs."""

    habits: ClassVar[Mapping[str, str]] = {**PreferenceSettings.habits, **ChatStage.habits}


class RewardStage(ChatStage, RewardSettings):
    """Reinforcement learning with verifiable rewards; `train_batch_size` counts completions."""

    habits: ClassVar[Mapping[str, str]] = {**RewardSettings.habits, **ChatStage.habits}

    @model_validator(mode="after")
    def _whole_groups(self) -> RewardStage:
        if self.train_batch_size % self.num_generations:
            raise ValueError(
                f"train_batch_size {self.train_batch_size} counts completions and is no multiple of "
                f"num_generations {self.num_generations}"
            )
        return self


AnyStage = PretrainStage | ChatStage
