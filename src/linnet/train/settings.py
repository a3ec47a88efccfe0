"""How a stage is trained, as a recipe says it; Hugging Face's names where it has one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from linnet.config import LengthField, Section, share_of

_GLOBAL = "write 'train_batch_size': the sequences of one optimizer step over all devices"


class TrainSettings(Section):
    """Optimizer, schedule, length, and when to look and save.

    `warmup_steps` and `decay_steps` are whole steps, or a share of the run when below 1.
    `eval_steps` and `save_steps` 0 mean only at the end; `save_minutes` adds saves by the clock.
    `eval_sequences` caps an evaluation (the same sequences every time). `early_stopping_patience`
    counts evaluations without a better validation loss; 0 never stops early. `gradient_checkpointing` auto
    recomputes activations only where the device's memory is too small to keep them.
    """

    duration: LengthField
    train_batch_size: PositiveInt
    micro_batch_size: PositiveInt | Literal["auto"] = "auto"
    optim: Literal["adamw", "muon"] = "adamw"
    learning_rate: float = Field(gt=0)
    weight_decay: float = Field(default=0.1, ge=0)
    decay_embeddings: bool = False
    adam_beta1: float = Field(default=0.9, ge=0, lt=1)
    adam_beta2: float = Field(default=0.95, ge=0, lt=1)
    adam_epsilon: float = Field(default=1e-8, gt=0)
    muon_momentum: float = Field(default=0.95, ge=0, lt=1)
    max_grad_norm: float = Field(default=1.0, ge=0)
    lr_scheduler_type: Literal["cosine", "wsd", "linear", "constant"] = "cosine"
    warmup_steps: int | float = Field(default=0, ge=0)
    decay_steps: int | float = Field(default=0.2, ge=0)
    min_lr_rate: float = Field(default=0.1, ge=0, le=1)
    gradient_checkpointing: Literal["auto"] | bool = False
    logging_steps: PositiveInt = 10
    eval_steps: NonNegativeInt = 500
    eval_sequences: PositiveInt | None = 512
    sample_prompts: list[str] = Field(default=[""])
    sample_tokens: NonNegativeInt = 64
    save_steps: NonNegativeInt = 500
    save_minutes: float = Field(default=0.0, ge=0)
    save_total_limit: PositiveInt = 2
    keep_best: bool = True
    early_stopping_patience: NonNegativeInt = 0

    habits: ClassVar[Mapping[str, str]] = {
        "per_device_train_batch_size": f"{_GLOBAL} ('micro_batch_size' is one device's share at a time)",
        "per_device_eval_batch_size": "evaluation uses 'micro_batch_size'",
        "gradient_accumulation_steps": f"{_GLOBAL}; accumulation follows from 'micro_batch_size'",
        "grad_accum_steps": f"{_GLOBAL}; accumulation follows from 'micro_batch_size'",
        "batch_size": _GLOBAL,
        "global_batch_size": _GLOBAL,
        "num_train_epochs": "write 'duration: 3 epochs'",
        "num_epochs": "write 'duration: 3 epochs'",
        "epochs": "write 'duration: 3 epochs'",
        "max_steps": "write 'duration: 300 steps'",
        "max_iters": "write 'duration: 300 steps'",
        "total_steps": "write 'duration: 300 steps'",
        "max_tokens": "write 'duration: 10B tokens'",
        "lr": "write 'learning_rate'",
        "warmup_ratio": "write 'warmup_steps' as a share of the run (0.05 is five percent)",
        "warmup_iters": "write 'warmup_steps'",
        "lr_scheduler": "write 'lr_scheduler_type': cosine, wsd, linear or constant",
        "scheduler": "write 'lr_scheduler_type': cosine, wsd, linear or constant",
        "min_lr": "write 'min_lr_rate', the last learning rate as a share of the highest",
        "optimizer": "write 'optim': adamw or muon",
        "beta1": "write 'adam_beta1'",
        "beta2": "write 'adam_beta2'",
        "grad_clip": "write 'max_grad_norm'",
        "gradient_clipping": "write 'max_grad_norm'",
        "log_interval": "write 'logging_steps'",
        "eval_interval": "write 'eval_steps'",
        "eval_iters": "write 'eval_sequences'",
        "save_interval": "write 'save_steps'",
        "load_best_model_at_end": "write 'keep_best: true'; best.json names the best checkpoint",
        "activation_checkpointing": "write 'gradient_checkpointing'",
        "output_dir": "say it on the command line: --run DIR",
        "report_to": "events.jsonl in the run folder is always written",
        "bf16": "write 'hardware.precision: bf16'",
        "fp16": "write 'hardware.precision: fp16'",
        "torch_compile": "write 'hardware.compile: true'",
    }

    @model_validator(mode="after")
    def _possible(self) -> TrainSettings:
        if isinstance(self.micro_batch_size, int) and self.micro_batch_size > self.train_batch_size:
            raise ValueError(
                f"micro_batch_size {self.micro_batch_size} is over train_batch_size "
                f"{self.train_batch_size}; make it at most that"
            )
        for name in ("warmup_steps", "decay_steps"):
            value = getattr(self, name)
            if isinstance(value, float) and value >= 1 and not value.is_integer():
                raise ValueError(f"{name} is whole steps, or a share below 1; not {value}")
        if self.early_stopping_patience and not self.eval_steps:
            raise ValueError("early_stopping_patience needs evaluations; set eval_steps above 0")
        if self.duration.unit == "steps":
            self.check_schedule(int(self.duration.amount))
        return self

    def check_schedule(self, total: int) -> None:
        """Refuse a warmup or decay that does not fit in `total` steps.

        Raises:
            ValueError: with what is too long and what would fit.
        """
        warmup, decay = share_of(self.warmup_steps, total), share_of(self.decay_steps, total)
        if warmup > total:
            raise ValueError(
                f"warmup_steps {warmup} is longer than the run of {total} steps; shorten it or raise duration"
            )
        if self.lr_scheduler_type == "wsd" and warmup + decay > total:
            raise ValueError(
                f"warmup_steps {warmup} and decay_steps {decay} are longer than the run of {total} steps; "
                f"decay_steps can be at most {total - warmup} in that duration"
            )
