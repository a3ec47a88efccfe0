"""Preference losses, their gradients, and five steps of DPO are TRL's."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import preference_pairs as small
import pytest
import torch
from torch import Tensor

import tiny
from linnet.data.batches import IGNORE
from linnet.model import save_model
from linnet.objectives.preference import Preference, PreferenceSettings
from linnet.objectives.preference_losses import LOSS_TYPES, PER_TOKEN, preference_losses, score
from linnet.objectives.reference import frozen_copy, reference_logprobs

pytest.importorskip("trl")
transformers = pytest.importorskip("transformers")
datasets = pytest.importorskip("datasets")

PAIRS, PROMPT, LONGEST = 7, 5, 30


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with tiny.one_thread(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


# --- formulas ---------------------------------------------------------------------------------------------


class Case:
    """Log-probabilities of the tokens of pairs of answers: chosen first, then rejected, as TRL has them."""

    def __init__(self, lengths: Tensor) -> None:
        generator = torch.Generator().manual_seed(11)
        self.lengths = lengths  # [2 · PAIRS]
        place = torch.arange(PROMPT + LONGEST)
        self.mask = ((place >= PROMPT) & (place < PROMPT + lengths[:, None])).long()
        shape = (2 * PAIRS, PROMPT + LONGEST - 1)
        self.leaf = (-2 * torch.rand(shape, generator=generator)).requires_grad_()
        noise = 0.3 * torch.randn(shape, generator=generator)
        self.reference_sums = ((self.leaf.detach() + noise) * self.mask[:, 1:]).sum(1)

    @property
    def tokens(self) -> Tensor:
        """[2 · PAIRS, T - 1], 0 where no answer's token is foretold."""
        return self.leaf * self.mask[:, 1:]

    def gradient(self, loss: Tensor) -> tuple[Tensor, Tensor]:
        return loss.detach(), torch.autograd.grad(loss, self.leaf)[0]

    def trl(self, types: list[str], weights: list[float], **knobs: Any) -> tuple[Tensor, Tensor]:
        """The mean loss and its gradient of each token, by the code of TRL's trainer."""
        from trl import DPOTrainer

        zeros = torch.zeros(self.leaf.shape)
        said = SimpleNamespace(
            log_probs=self.tokens, entropy=zeros, mean_logits=zeros, is_top1=zeros.bool(), aux_loss=None
        )
        trainer: Any = SimpleNamespace(
            model=SimpleNamespace(training=True), aux_loss_enabled=False, ld_alpha=None,
            accelerator=SimpleNamespace(
                device=torch.device("cpu"), gather=lambda x: x, gather_for_metrics=lambda x: x
            ),
            precompute_ref_logps=True, f_divergence_type="reverse_kl", use_weighting=False,
            loss_types=types, loss_weights=weights, _metrics={"train": defaultdict(list)},
            _total_train_tokens=0, _tp_size=1, args=None, **{"label_smoothing": 0.0} | knobs,
        )  # fmt: skip
        chosen, rejected = self.reference_sums.chunk(2)
        inputs = {
            "input_ids": self.mask, "attention_mask": torch.ones_like(self.mask),
            "completion_mask": self.mask, "ref_chosen_logps": chosen, "ref_rejected_logps": rejected,
        }  # fmt: skip
        loss = DPOTrainer._compute_loss(trainer, lambda **_: said, inputs, False)
        return self.gradient(loss)

    def ours(self, settings: PreferenceSettings) -> tuple[Tensor, Tensor]:
        reference = self.reference_sums if settings.needs_reference else None
        scores = score(self.tokens.sum(1), reference, self.lengths, settings.per_token)
        losses = preference_losses(
            settings.loss_type, *scores.chunk(2), beta=settings.beta,
            label_smoothing=settings.label_smoothing, simpo_gamma=settings.simpo_gamma or 0.0,
        )  # fmt: skip
        assert losses.shape == (PAIRS,)
        assert losses.dtype == torch.float32
        if settings.sft_weight:
            chosen = self.tokens.sum(1) / self.lengths
            losses = losses - settings.sft_weight * chosen[:PAIRS]
        return self.gradient(losses.mean())


def uneven() -> Case:
    return Case(torch.randint(1, LONGEST, (2 * PAIRS,), generator=torch.Generator().manual_seed(2)))


def assert_same(ours: tuple[Tensor, Tensor], theirs: tuple[Tensor, Tensor], near: float = 1e-6) -> None:
    assert abs(float(ours[0] - theirs[0])) < near * max(1.0, abs(float(theirs[0])))
    assert float(theirs[1].abs().max()) > 1e-5, "a gradient of nothing proves nothing"
    assert float((ours[1] - theirs[1]).abs().max()) < near


@pytest.mark.parametrize("beta", [0.05, 0.5, 3.0])
@pytest.mark.parametrize(
    ("name", "theirs", "knobs"),
    [
        ("dpo", "sigmoid", {}),
        ("dpo", "sigmoid_norm", {"length_normalized": True}),
        ("apo_zero", "apo_zero", {}),
        ("apo_down", "apo_down", {}),
        ("ipo", "ipo", {}),
        ("hinge", "hinge", {}),
        ("robust", "robust", {"label_smoothing": 0.15}),
    ],
)
def test_value_and_gradient_are_those_of_trls_dpo_trainer(
    name: str, theirs: str, knobs: dict[str, Any], beta: float
) -> None:
    case = uneven()
    ours = case.ours(small.settings(loss_type=name, beta=beta, **knobs))
    near = 1e-6 if name != "ipo" else 1e-5  # a square of up to 10: its FP32 rounding is wider
    knobs = {key: value for key, value in knobs.items() if key == "label_smoothing"}
    assert_same(ours, case.trl([theirs], [1.0], beta=beta, **knobs), near)


def test_the_sft_term_is_trls_where_chosen_answers_are_equally_long() -> None:
    """TRL takes the mean over all tokens of a batch, so its weight of a pair depends on the other pairs."""
    case = Case(torch.tensor([9] * PAIRS + list(range(3, 3 + PAIRS))))
    ours = case.ours(small.settings(beta=0.2, sft_weight=0.7))
    assert_same(ours, case.trl(["sigmoid", "sft"], [1.0, 0.7], beta=0.2))


@pytest.mark.parametrize("label_smoothing", [0.0, 0.2])
@pytest.mark.parametrize("simpo_gamma", [0.0, 1.5])
def test_simpo_is_that_of_trls_cpo_trainer(label_smoothing: float, simpo_gamma: float) -> None:
    trl_cpo: Any = pytest.importorskip("trl.experimental.cpo")

    case = uneven()
    knobs = {"beta": 2.0, "label_smoothing": label_smoothing, "simpo_gamma": simpo_gamma}
    trainer: Any = SimpleNamespace(
        alpha=0.0, loss_type="simpo", accelerator=SimpleNamespace(device="cpu"), **knobs
    )
    chosen, rejected = (case.tokens.sum(1) / case.lengths).chunk(2)
    losses, *_ = trl_cpo.CPOTrainer.cpo_loss(trainer, chosen, rejected)
    theirs = case.gradient(losses.mean())
    assert_same(case.ours(small.settings(loss_type="simpo", **knobs)), theirs)


def test_conservative_dpo_is_trls_sigmoid_loss_with_label_smoothing() -> None:
    """TRL has it on scores without a reference; log-ratios are such scores."""
    trl_cpo: Any = pytest.importorskip("trl.experimental.cpo")

    case = uneven()
    trainer: Any = SimpleNamespace(
        alpha=0.0,
        loss_type="sigmoid",
        accelerator=SimpleNamespace(device="cpu"),
        beta=0.3,
        label_smoothing=0.1,
    )
    ratios = case.tokens.sum(1) - case.reference_sums
    losses, *_ = trl_cpo.CPOTrainer.cpo_loss(trainer, *ratios.chunk(2))
    theirs = case.gradient(losses.mean())
    assert_same(case.ours(small.settings(beta=0.3, label_smoothing=0.1)), theirs)


@pytest.mark.parametrize("scale", [1e-4, 1.0, 20.0])
def test_orpo_is_that_of_trls_orpo_trainer(scale: float) -> None:
    """From answers that are all but certain to such as are all but impossible."""
    trl_orpo: Any = pytest.importorskip("trl.experimental.orpo")

    case = uneven()
    averages = (scale * case.tokens.detach().sum(1) / case.lengths).requires_grad_()
    chosen, rejected = averages.chunk(2)
    trainer: Any = SimpleNamespace(beta=0.4, accelerator=SimpleNamespace(device="cpu"))
    ratios, *_ = trl_orpo.ORPOTrainer.odds_ratio_loss(trainer, chosen, rejected)
    expected = -chosen.mean() - ratios.mean()
    losses = preference_losses("orpo", chosen, rejected, beta=0.4).mean()
    assert float((losses - expected).abs()) < 1e-6 * max(1.0, float(expected))
    ours, theirs = (torch.autograd.grad(value, averages)[0] for value in (losses, expected))
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_every_loss_has_been_compared() -> None:
    assert set(LOSS_TYPES) == {"dpo", "apo_zero", "apo_down", "ipo", "hinge", "robust", "simpo", "orpo"}
    assert {"ipo", "simpo", "orpo"} == PER_TOKEN


# --- five steps -------------------------------------------------------------------------------------------

STEPS, BATCH, RATE = 5, 4, 5e-3


def words(ids: list[int]) -> str:
    return " ".join("<eos>" if i == small.EOS else f"w{i}" for i in ids)


def tokenizer() -> Any:
    """One word a token, so that TRL's rows are ours."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    names = {"<eos>": small.EOS, "<pad>": small.PAD} | {f"w{i}": i for i in range(2, small.VOCAB)}
    made = Tokenizer(models.WordLevel(names, unk_token="<pad>"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return transformers.PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<eos>", pad_token="<pad>")


def trl_losses(folder: Path, rows: list[Any], precomputed: bool, loss_type: str) -> tuple[list[float], Any]:
    """Losses of five steps of TRL's DPOTrainer, with TRL's reference, and the model after them."""
    from trl import DPOConfig, DPOTrainer

    heard: list[float] = []

    class InOrder(DPOTrainer):
        def _get_train_sampler(self, *_: Any) -> Any:
            return torch.utils.data.SequentialSampler(self.train_dataset)  # type: ignore[arg-type]

        def compute_loss(self, *args: Any, **more: Any) -> Any:
            loss = super().compute_loss(*args, **more)
            heard.append(float(loss.detach()))
            return loss

    texts = []
    for chosen, rejected in zip(rows[::2], rows[1::2], strict=True):
        begin = int(chosen.learned.argmax())
        parts = chosen.tokens[:begin], chosen.tokens[begin:], rejected.tokens[begin:]
        prompt, good, bad = (words(part.tolist()) for part in parts)
        texts.append({"prompt": prompt, "chosen": " " + good, "rejected": " " + bad})
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    config = DPOConfig(
        output_dir=str(folder / "trl"), loss_type=[loss_type], beta=0.5, learning_rate=RATE,
        lr_scheduler_type="constant", max_steps=STEPS, per_device_train_batch_size=BATCH, weight_decay=0.01,
        adam_beta1=0.9, adam_beta2=0.95, max_grad_norm=1.0, bf16=False, use_cpu=True, report_to="none",
        gradient_checkpointing=False, optim="adamw_torch", save_strategy="no", logging_strategy="no",
        disable_tqdm=True, precompute_ref_log_probs=precomputed, max_length=None,
    )  # fmt: skip
    trainer = InOrder(
        model=model,
        args=config,
        train_dataset=datasets.Dataset.from_list(texts),
        processing_class=tokenizer(),
    )
    trainer.train()
    return heard, model


@pytest.mark.parametrize(
    ("loss_type", "theirs", "reference"),
    [("dpo", "sigmoid", "precomputed"), ("dpo", "sigmoid", "live"), ("apo_zero", "apo_zero", "precomputed")],
)
def test_five_steps_have_the_losses_of_trls_dpo_trainer(
    loss_type: str, theirs: str, reference: str, tmp_path: Path
) -> None:
    rows = small.examples(STEPS * BATCH, seed=4)
    policy = small.model(3)
    save_model(policy, tmp_path, eos_id=small.EOS, pad_id=small.PAD)
    expected, after = trl_losses(tmp_path, rows, reference == "precomputed", theirs)

    settings = small.settings(loss_type=loss_type, beta=0.5, reference=reference)
    known = reference_logprobs(policy, rows, small.PAD, token_budget=64)
    objective = Preference(settings, frozen_copy(policy) if reference == "live" else None)
    decayed = [p for p in policy.parameters() if p.dim() > 1]
    rest = [p for p in policy.parameters() if p.dim() == 1]
    groups = [{"params": decayed, "weight_decay": 0.01}, {"params": rest, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=RATE, betas=(0.9, 0.95))
    policy.train()
    losses = []
    for step in range(STEPS):
        part = slice(2 * BATCH * step, 2 * BATCH * (step + 1))
        batch = small.batch(rows[part], known[part])
        loss = objective.loss(policy, batch).sum / objective.counted(batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())

    assert len(expected) == STEPS
    assert max(expected) - min(expected) > 0.05, "nothing was learned, so nothing was compared"
    assert max(abs(a - b) for a, b in zip(losses, expected, strict=True)) < 2e-5
    tokens = small.batch(rows[:4]).tokens
    with torch.no_grad():
        ours = policy.eval()(tokens) @ policy.head_weight.T
        logits = after.eval()(tokens).logits
    counted = small.batch(rows[:4]).targets != IGNORE
    assert float((ours - logits)[counted].abs().max()) < 1e-3
