"""Preference tuning: of two answers to a prompt, the chosen one is to become more likely than the rejected.

A batch holds whole pairs (rows 2k chosen, 2k+1 rejected), and what is counted are pairs: each weighs the same,
however long. Both answers go through the model in one pass. What the reference says of each row is computed
before training and comes with the batch, or live: by a frozen copy, or by the model itself with its adapters
off. Dropout is off in both.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field, field_validator, model_validator
from torch import Tensor

from linnet.config import Section
from linnet.data.batches import IGNORE, Batch
from linnet.model import Transformer, lora
from linnet.objectives.chosen_watch import ChosenWatch
from linnet.objectives.objective import Loss, Plain
from linnet.objectives.preference_losses import PER_TOKEN, WITHOUT_REFERENCE, preference_losses, score
from linnet.objectives.reference import answer_logprobs, reference_answer_logprobs

LossType = Literal["dpo", "apo_zero", "apo_down", "ipo", "hinge", "robust", "simpo", "orpo"]

_SMOOTHED = frozenset({"dpo", "robust", "simpo"})
_ROBUST_SMOOTHING = 0.1  # as in the paper of robust DPO
_BETA = {"simpo": 2.0, "apo_zero": 0.05}  # SimPO's authors'; SmolLM3's
_BETA_PER_TOKEN = 5.0  # Lambert et al. 2024, "Tülu 3", for length-normalised DPO
_SIMPO_GAMMA = 1.0  # half of beta, where SimPO's authors begin

_ELSEWHERE = {
    "sigmoid_norm": "write loss_type: dpo with length_normalized: true",
    "dpo_norm": "write loss_type: dpo with length_normalized: true",
    "cdpo": "write loss_type: dpo with label_smoothing",
    "rpo": "write loss_type: dpo with sft_weight",
    "sft": "write sft_weight beside another loss_type",
    "slic": "write loss_type: hinge",
    "kto": "apo_zero is nearest to it on pairs",
    "kto_pair": "apo_zero is nearest to it on pairs",
}


class PreferenceSettings(Section):
    """Which preference loss and how sharp, in TRL's names.

    `beta` by default is what each loss's authors use: 0.1, but 0.05 for apo_zero, 2 for simpo, and 5 where a
    loss is `length_normalized` (its scores are means over an answer's tokens; ipo, simpo and orpo are so by
    definition). `label_smoothing` is the share of pairs thought to be the wrong way round. `sft_weight` adds the
    chosen answers' mean negative log-likelihood per token. `reference`: log-probabilities of the model that
    the stage begins with are computed once, before the first step (`precomputed`), or at every step (`live`).
    """

    loss_type: LossType = "dpo"
    beta: float = Field(default=0.1, gt=0)
    label_smoothing: float = Field(default=0.0, ge=0, lt=0.5)
    length_normalized: bool = False
    simpo_gamma: float | None = Field(default=None, ge=0)
    sft_weight: float = Field(default=0.0, ge=0)
    reference: Literal["precomputed", "live"] = "precomputed"

    habits: ClassVar[Mapping[str, str]] = {
        "dpo_beta": "write 'beta'",
        "pref_beta": "write 'beta'",
        "rl_beta": "write 'beta'",
        "tau": "write 'beta'",
        "orpo_alpha": "write 'beta' with loss_type: orpo",
        "orpo_lambda": "write 'beta' with loss_type: orpo",
        "pref_loss": "write 'loss_type'",
        "dpo_loss": "write 'loss_type'",
        "rl": "write 'loss_type'",
        "dpo_label_smoothing": "write 'label_smoothing'",
        "gamma": "write 'simpo_gamma'",
        "gamma_beta_ratio": "write 'simpo_gamma', which is that ratio times beta",
        "rpo_alpha": "write 'sft_weight'",
        "cpo_alpha": "write 'sft_weight'",
        "pref_ftx": "write 'sft_weight'",
        "dpo_ftx": "write 'sft_weight'",
        "loss_weights": "write 'sft_weight', the weight of the SFT term beside a loss of 1",
        "dpo_use_weighting": "it is not here; remove it",
        "use_weighting": "it is not here; remove it",
        "dpo_norm_loss": "write 'length_normalized: true'",
        "ld_alpha": "write 'length_normalized: true' against preferring long answers",
        "precompute_ref_log_probs": "write 'reference: precomputed', or live",
        "reference_free": "write 'loss_type: simpo' or orpo, which need no reference",
        "ref_model": "the reference is what the stage begins with; remove it",
        "sync_ref_model": "the reference stays what the stage begins with; remove it",
    }

    @model_validator(mode="before")
    @classmethod
    def _defaults_of_the_loss(cls, values: Any) -> Any:
        """What is not given gets the default of the loss type, so that a run's record holds what was used."""
        if not isinstance(values, dict):
            return values
        loss_type = str(values.get("loss_type", "dpo"))
        beta = _BETA_PER_TOKEN if values.get("length_normalized") is True else _BETA.get(loss_type, 0.1)
        given = {"beta": beta}
        if loss_type == "robust":
            given["label_smoothing"] = _ROBUST_SMOOTHING
        if loss_type == "simpo" and values.get("simpo_gamma") is None:
            values = {**values, "simpo_gamma": _SIMPO_GAMMA}
        return {**given, **values}

    @field_validator("loss_type", mode="before")
    @classmethod
    def _named_otherwise(cls, value: Any) -> Any:
        if isinstance(value, list):
            raise ValueError("one loss is used; an SFT term beside it is sft_weight")
        if isinstance(value, str) and value in _ELSEWHERE:
            raise ValueError(f"{value!r} is none of the losses here; {_ELSEWHERE[value]}")
        return "dpo" if value == "sigmoid" else value

    @model_validator(mode="after")
    def _fits_the_loss(self) -> PreferenceSettings:
        name = self.loss_type
        if self.label_smoothing and name not in _SMOOTHED:
            raise ValueError(f"label_smoothing has no meaning for {name}; it has for dpo, robust and simpo")
        if name == "robust" and not self.label_smoothing:
            raise ValueError(
                "robust without label_smoothing is dpo; write loss_type: dpo, or a share of wrong labels"
            )
        if self.length_normalized and name in PER_TOKEN:
            raise ValueError(f"{name} is length-normalised by definition; remove length_normalized")
        if self.simpo_gamma is not None and name != "simpo":
            raise ValueError(f"simpo_gamma is a margin of simpo, and loss_type is {name}; remove it")
        if self.sft_weight and name == "orpo":
            raise ValueError("orpo has an SFT term of its own, of weight 1; remove sft_weight")
        return self

    @property
    def needs_reference(self) -> bool:
        """Whether the loss compares with a reference."""
        return self.loss_type not in WITHOUT_REFERENCE

    @property
    def per_token(self) -> bool:
        """Whether scores are means over an answer's tokens."""
        return self.length_normalized or self.loss_type in PER_TOKEN


class Preference(Plain):
    """The objective of preference tuning.

    Args:
        frozen: the reference where it is live and the model has no adapters: what the stage began with
            (`reference.frozen_copy`, taken before a checkpoint is put into the model).
    """

    def __init__(self, settings: PreferenceSettings, frozen: Transformer | None = None) -> None:
        self.settings, self.frozen = settings, frozen
        self._watch = ChosenWatch(from_zero=settings.needs_reference)

    def counted(self, batch: Batch) -> int:
        """Pairs of which both answers have something to learn."""
        return int(_whole(batch).sum())

    def loss(self, model: Transformer, batch: Batch) -> Loss:
        """Sum over pairs. Measures are means over pairs, those per token over the chosen answers' tokens.

        Puts the model in evaluation mode and leaves it there: with dropout it would differ from its reference
        from the first step on (TRL's disable_dropout).
        """
        settings = self.settings
        model.eval()
        policy, reference = answer_logprobs(model, batch), self._reference(model, batch)
        lengths = (batch.targets != IGNORE).sum(1)
        scores = score(policy, reference, lengths, settings.per_token)
        whole, chosen, rejected = _whole(batch), scores[::2], scores[1::2]  # [P]
        losses = preference_losses(
            settings.loss_type, chosen, rejected, beta=settings.beta,
            label_smoothing=settings.label_smoothing, simpo_gamma=settings.simpo_gamma or 0.0,
        )  # fmt: skip
        if settings.sft_weight:
            losses = losses - settings.sft_weight * (policy / lengths.clamp(min=1))[::2]
        measures = self._measures(policy, reference, lengths, chosen, rejected, whole)
        return Loss(losses.where(whole, 0.0).sum(), measures)

    def _reference(self, model: Transformer, batch: Batch) -> Tensor | None:
        """Log-probabilities [B] of the rows under the reference; None for a loss without one."""
        if not self.settings.needs_reference:
            return None
        if self.settings.reference == "precomputed":
            return batch.columns["reference"]
        if lora.adapters(model):
            return reference_answer_logprobs(model, batch)
        if self.frozen is None:
            raise ValueError(
                "a live reference of a model without adapters is a frozen copy, and none was given"
            )
        return reference_answer_logprobs(self.frozen, batch)

    @torch.no_grad()
    def _measures(
        self,
        policy: Tensor,
        reference: Tensor | None,
        lengths: Tensor,
        chosen: Tensor,
        rejected: Tensor,
        whole: Tensor,
    ) -> dict[str, Tensor]:
        beta, tokens = self.settings.beta, lengths[::2].where(whole, 0)
        right = (chosen > rejected).float() + 0.5 * (chosen == rejected).float()  # at the start all are equal
        each = {
            "accuracy": right,
            "margin": beta * (chosen - rejected),
            "chosen_reward": beta * chosen,
            "rejected_reward": beta * rejected,
            "chosen_logp": policy[::2],
            "rejected_logp": policy[1::2],
        }
        found = {f"dpo/{name}": _mean(value.where(whole, 0.0), whole) for name, value in each.items()}
        found[_LEVEL] = _mean(policy[::2].where(whole, 0.0), tokens)
        if reference is not None:
            found[_CHANGE] = _mean((policy - reference)[::2].where(whole, 0.0), tokens)
        return found

    def heard(self, step: int, means: Mapping[str, float]) -> None:
        """Take in what the measures of a step came to."""
        name = _CHANGE if self.settings.needs_reference else _LEVEL
        if name in means:
            self._watch.heard(means[name])

    def news(self) -> list[str]:
        """Once, that chosen answers lose probability, and what to try."""
        if self.settings.loss_type == "apo_down":  # it wants that
            return []
        fall = self._watch.fall()
        if fall is None:
            return []
        tries = ["lower learning_rate", f"raise beta (it is {self.settings.beta:g})"]
        if self.settings.loss_type != "orpo":
            tries.append("raise sft_weight" if self.settings.sft_weight else "set sft_weight to 0.2")
        if self.settings.loss_type != "apo_zero":
            tries.append("use loss_type: apo_zero")
        return [
            f"chosen answers lose probability: {fall:.2f} nats per token since the start of the stage, "
            f"whatever accuracy says; {', or '.join(tries)}"
        ]

    def state(self) -> dict[str, Tensor]:
        """What was heard of the chosen answers."""
        return {"chosen_watch": self._watch.state()}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Take back what `state` gave."""
        self._watch.load_state(state["chosen_watch"])


_LEVEL, _CHANGE = "dpo/chosen_logp_per_token", "dpo/chosen_change_per_token"


def _whole(batch: Batch) -> Tensor:
    """Which pairs have something to learn in both answers, [P] bool."""
    return (batch.targets != IGNORE).any(1).view(-1, 2).all(1)


def _mean(values: Tensor, counts: Tensor) -> Tensor:
    """The sum of values and that of counts, [2]."""
    return torch.stack((values.sum(), counts.sum().to(values.dtype)))
