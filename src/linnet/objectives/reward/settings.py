"""What a recipe says about learning from verified rewards; TRL's names (GRPOConfig) where it has one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, field_validator, model_validator

from linnet.config import Section
from linnet.objectives.verifiers import VerifiersField

LossType = Literal["grpo", "dr_grpo", "dapo", "bnpo"]
RatioLevel = Literal["token", "sequence"]
ScaleRewards = Literal["group", "batch", "none"]

_FILTER = (
    "leave it out: rollouts are drawn from the model's whole distribution, because a filter falsifies the "
    "probabilities that a policy gradient weighs tokens by"
)
_HIGH_LOW = "write 'epsilon' (below 1) and 'epsilon_high' (above 1)"
_BETA = "write 'beta': above 0 there is a KL term, 0 is without"
_VERIFIERS = "write 'verifiers': a list such as [math, {kind: 'format:think,answer', weight: 0.2}]"


class RewardSettings(Section):
    """Group-relative policy optimisation: many completions of a prompt, each better or worse than its group.

    A generation is `train_batch_size` · `steps_per_generation` completions, `num_generations` of each prompt,
    and serves `steps_per_generation` · `num_iterations` optimizer steps (here a step is an optimizer's,
    where TRL counts micro-batches). `loss_type` is what a step's token losses are divided by: `grpo` each
    by its completion's length, `bnpo` by the tokens of the step, `dapo` by those of the generation,
    shared out evenly to its steps, `dr_grpo` by `max_completion_length`. `importance_sampling_level`
    sequence is GSPO, which wants an epsilon of some 3e-4. `epsilon_high` above `epsilon` is DAPO's
    clip-higher; by default it is equal. `beta` weighs the KL to the model that the stage began with,
    `use_bias_correction_kl` its correction by the ratio. `mask_truncated_completions` leaves
    completions that were cut off out of the loss and of what it is divided by. `rollout_slots` completions
    are written at a time: memory and speed, never which numbers are drawn. `dynamic_sampling` replaces
    groups whose rewards are all equal by those of further prompts, in at most `max_refills` rounds.
    `deadline_seconds` is for the verifiers of a generation; what is late is not judged. Before
    training, `check_samples` completions of each of `check_problems` problems say whether there is
    anything to learn; 0 problems leave that out.
    """

    verifiers: VerifiersField = Field(min_length=1)
    loss_type: LossType = "dapo"
    importance_sampling_level: RatioLevel = "token"
    num_generations: PositiveInt = 8
    temperature: float = Field(default=1.0, le=100)
    max_completion_length: PositiveInt = 256
    epsilon: float = Field(default=0.2, ge=0, lt=1)
    epsilon_high: float | None = Field(default=None, ge=0)
    beta: float = Field(default=0.0, ge=0)
    use_bias_correction_kl: bool = True
    scale_rewards: ScaleRewards = "group"
    steps_per_generation: PositiveInt = 1
    num_iterations: PositiveInt = 1
    mask_truncated_completions: bool = False
    dynamic_sampling: bool = False
    max_refills: PositiveInt = 3
    rollout_slots: PositiveInt = 128
    deadline_seconds: PositiveFloat = 300.0
    check_problems: NonNegativeInt = 64
    check_samples: PositiveInt = 8

    habits: ClassVar[Mapping[str, str]] = {
        "top_p": _FILTER,
        "top_k": _FILTER,
        "min_p": _FILTER,
        "repetition_penalty": _FILTER,
        "generation_kwargs": _FILTER,
        "reward_funcs": _VERIFIERS,
        "reward_functions": _VERIFIERS,
        "reward_weights": "each verifier has its own 'weight'",
        "verifier": _VERIFIERS,
        "n": "write 'num_generations'",
        "group_size": "write 'num_generations'",
        "rollout_n": "write 'num_generations'",
        "n_samples_per_prompt": "write 'num_generations'",
        "num_samples_per_prompt_rollout": "write 'num_generations'",
        "max_new_tokens": "write 'max_completion_length'",
        "max_response_length": "write 'max_completion_length'",
        "response_length": "write 'max_completion_length'",
        "generate_max_len": "write 'max_completion_length'",
        "max_prompt_length": "prompts have the room that max_completion_length leaves in the model's context",
        "generation_batch_size": "write 'steps_per_generation': a generation is so many train_batch_size",
        "rollout_batch_size": "write 'steps_per_generation': a generation is so many train_batch_size",
        "num_mini_batches": "write 'steps_per_generation'",
        "ppo_mini_batch_size": "write 'train_batch_size', and 'steps_per_generation' for several to a generation",
        "ppo_epochs": "write 'num_iterations'",
        "mu": "write 'num_iterations'",
        "loss_agg_mode": "write 'loss_type': dapo or bnpo (token-mean), grpo (seq-mean-token-mean) or dr_grpo",
        "adv_estimator": "write 'loss_type', and 'importance_sampling_level: sequence' for GSPO",
        "norm_adv_by_std_in_grpo": "write 'scale_rewards': group, batch or none",
        "clip_range": "write 'epsilon'",
        "cliprange": "write 'epsilon'",
        "clip_ratio": "write 'epsilon'",
        "eps_clip": "write 'epsilon'",
        "clip_ratio_low": _HIGH_LOW,
        "clip_lower": _HIGH_LOW,
        "eps_clip_low_high": _HIGH_LOW,
        "clip_ratio_high": "write 'epsilon_high'",
        "clip_higher": "write 'epsilon_high'",
        "kl_coef": _BETA,
        "kl_loss_coef": _BETA,
        "init_kl_coef": _BETA,
        "use_kl_loss": _BETA,
        "kl_penalty": "write 'beta'; the estimator is k3",
        "overlong_filtering": "write 'mask_truncated_completions'",
        "filter_groups": "write 'dynamic_sampling: true'",
        "max_num_gen_batches": "write 'max_refills'",
        "ref_model": "leave it out: the reference is the model that the stage begins with",
        "disable_dropout": "leave it out: dropout is always off here, or the first ratio would not be 1",
        "max_num_seqs": "write 'rollout_slots'",
        "use_vllm": "leave it out: rollouts come from the model that is trained",
        "entropy_coeff": "there is no entropy bonus; 'epsilon_high' above 'epsilon' keeps entropy up",
        "entropy_coef": "there is no entropy bonus; 'epsilon_high' above 'epsilon' keeps entropy up",
    }

    @field_validator("temperature")
    @classmethod
    def _draws(cls, value: float) -> float:
        if value < 0.01:
            raise ValueError(f"{value} would draw the same completion again and again; write 0.01 or more")
        return value

    @field_validator("num_generations")
    @classmethod
    def _compares(cls, value: int) -> int:
        if value < 2:
            raise ValueError("one completion has nothing to be compared with; write 2 or more, 8 is usual")
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> RewardSettings:
        names = [verifier.title for verifier in self.verifiers]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice:
            raise ValueError(f"two verifiers are called {twice!r}; give one a 'name'")
        if not any(verifier.weight for verifier in self.verifiers):
            raise ValueError("every verifier weighs 0, so there is no reward; give one a weight")
        return self

    @property
    def clip_high(self) -> float:
        """How far above 1 a ratio may go."""
        return self.epsilon if self.epsilon_high is None else self.epsilon_high

    @property
    def steps_of_a_generation(self) -> int:
        """Optimizer steps between one round of rollouts and the next."""
        return self.steps_per_generation * self.num_iterations

    def prompts_per_generation(self, train_batch_size: int) -> int:
        """How many prompts a generation has.

        Raises:
            ValueError: when groups do not come out even.
        """
        if train_batch_size % self.num_generations:
            below = train_batch_size // self.num_generations * self.num_generations
            fit = " or ".join(str(size) for size in (below, below + self.num_generations) if size)
            raise ValueError(
                f"train_batch_size {train_batch_size} counts completions and must be a multiple of num_generations "
                f"{self.num_generations}, for example {fit}"
            )
        return train_batch_size * self.steps_per_generation // self.num_generations
