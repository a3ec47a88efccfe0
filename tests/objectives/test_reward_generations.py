"""Generations: several steps share rollouts and go on from a checkpoint bit for bit; equal groups are replaced."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rewarding import (
    PROBLEMS,
    Counting,
    accumulated,
    measured,
    moved,
    network,
    objective,
    problem,
    prompts_for,
    verifier,
)  # fmt: skip
from safetensors.torch import load_file, save_file
from torch import Tensor

import tiny
from linnet.config import RequestError
from linnet.data.batches import Batch
from linnet.data.prompts import PromptBatches
from linnet.model import Transformer
from linnet.objectives.reward import Reward
from linnet.objectives.verifiers import Verifier, VerifierSettings


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with tiny.one_thread():
        yield


def same_batch(one: Batch, other: Batch) -> bool:
    return torch.equal(one.tokens, other.tokens) and all(
        torch.equal(one.columns[name], other.columns[name]) for name in one.columns
    )


# --- which prompts ----------------------------------------------------------------------------------------


def batches(
    per_generation: int = 3, steps: int = 2, seed: int = 5, problems: Any = PROBLEMS
) -> PromptBatches:
    return PromptBatches("x", problems, seed, per_generation=per_generation, steps=steps, pad_id=0)


def test_steps_of_a_generation_name_the_same_problems_and_an_epoch_names_each_once() -> None:
    some = batches(per_generation=4)
    named = [some[step].columns["problem"].tolist() for step in range(8)]
    assert named[0] == named[1] != named[2] == named[3]
    assert sorted(named[0] + named[2]) == list(range(8))
    assert sorted(named[4] + named[6]) == list(range(8))
    assert named[0] + named[2] != named[4] + named[6]
    assert some.first(1) == 4
    assert some.passes(2) == {"x": 0.5}


def test_prompts_are_a_pure_function_of_the_step() -> None:
    forward = [batches()[step].columns["problem"].tolist() for step in range(6)]
    streamed = [batch.columns["problem"].tolist() for batch in batches().stream(0, 6, workers=2)]
    assert forward == streamed
    assert batches(seed=6)[0].columns["problem"].tolist() != forward[0]
    row = batches()[0]
    number = int(row.columns["problem"][0])
    assert row.tokens[0, : len(PROBLEMS[number].ids)].tolist() == PROBLEMS[number].ids
    assert row.counted == 0


def test_the_fingerprint_knows_prompts_answers_and_layout() -> None:
    base = batches().fingerprint(0)
    assert batches().fingerprint(7) == base
    reworded = [*PROBLEMS[:-1], problem("haj", "j")]
    for other in (
        batches(seed=6), batches(steps=3), batches(per_generation=2), batches(problems=PROBLEMS[:-1]),
        batches(problems=PROBLEMS[::-1]), batches(problems=reworded),
    ):  # fmt: skip
        assert other.fingerprint(0) != base


# --- rollouts that steps share ----------------------------------------------------------------------------


def test_rollouts_depend_on_nothing_but_seed_and_generation() -> None:
    def drawn(seed: int, generation: int, noise: int) -> Batch:
        torch.manual_seed(noise)
        model = network()
        reward = objective(model, seed=seed)
        return reward.prepare(model, prompts_for(reward)[0], generation)

    assert same_batch(drawn(5, 0, 1), drawn(5, 0, 2))
    assert not torch.equal(drawn(5, 0, 1).tokens, drawn(5, 1, 1).tokens)
    assert not torch.equal(drawn(5, 0, 1).tokens, drawn(6, 0, 1).tokens)


def test_a_problem_that_comes_twice_in_a_generation_is_answered_anew() -> None:
    model = network()
    reward = objective(model, problems=[problem("ab", "a")])
    batch = reward.prepare(model, prompts_for(reward)[0], 0)
    assert len({tuple(row) for row in batch.tokens.tolist()}) > 4


def test_steps_share_rollouts_in_disjoint_parts_and_iterations_repeat_them() -> None:
    model = network()
    reward = objective(model, steps_per_generation=2, num_iterations=2)
    given = prompts_for(reward, 8)
    prepared = [reward.prepare(model, given[step], step) for step in range(5)]
    assert all(len(batch) == 8 for batch in prepared)
    assert same_batch(prepared[0], prepared[2])
    assert same_batch(prepared[1], prepared[3])
    assert not torch.equal(prepared[0].columns["sampled"], prepared[1].columns["sampled"])
    assert given[0].columns["problem"].tolist() != given[4].columns["problem"].tolist()
    reported = reward.report()
    assert reported["rlvr/length"] > 0


@pytest.mark.parametrize("tokens", [0, 1, 5])
def test_a_stop_amid_rollouts_leaves_everything_as_it_was(tokens: int) -> None:
    model = network()
    reward = objective(model, steps_per_generation=2)
    given = prompts_for(reward, 8)
    reward.prepare(model, given[1], 1)
    state, reported, mode = reward.state(), reward.report(), model.training
    left = [tokens]

    def stop() -> None:
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1

    with pytest.raises(KeyboardInterrupt):
        reward.prepare(model, given[2], 2, stop)
    assert state.keys() == reward.state().keys()
    assert all(torch.equal(value, reward.state()[name]) for name, value in state.items())
    assert (reward.report(), model.training) == (reported, mode)
    other = network()
    again = objective(other, steps_per_generation=2)
    assert same_batch(reward.prepare(model, given[2], 2), again.prepare(other, given[2], 2))


@pytest.mark.parametrize(("loss_type", "alike"), [("dapo", True), ("bnpo", False)])
def test_with_dapo_every_token_of_a_generation_weighs_the_same(loss_type: str, alike: bool) -> None:
    model = network()
    reward = objective(model, steps_per_generation=2, loss_type=loss_type, temperature=2.0)
    given = prompts_for(reward, 8)
    parts = [reward.prepare(model, given[step], step) for step in range(2)]
    counts = [part.counted for part in parts]
    weights = [set((part.columns["weights"] / reward.counted(part)).tolist()) for part in parts]
    assert counts[0] != counts[1]
    expected = [sum(counts) / 2] * 2 if alike else counts
    for found, tokens in zip(weights, expected, strict=True):
        assert list(found) == pytest.approx([1 / tokens])


def stepped(reward: Reward, model: Transformer, steps: range) -> list[float]:
    """Plain gradient descent; losses and a measure of every step."""
    found = []
    for step in steps:
        batch = reward.prepare(model, prompts_for(reward, 8)[step], step)
        loss, gradients = accumulated(reward, model, batch, 4)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.sub_(0.3 * gradients[name])
        found += [loss, measured(reward, model, batch)["rlvr/ratio"]]
    return found


@pytest.mark.parametrize("stop", [1, 2, 3, 4, 5])
@pytest.mark.parametrize(
    "how", [{}, {"beta": 0.1, "dynamic_sampling": True}], ids=["plain", "kl and refills"]
)
def test_a_run_that_is_resumed_anywhere_in_a_generation_goes_on_bit_for_bit(
    stop: int, how: dict[str, Any], tmp_path: Path
) -> None:
    def begun() -> tuple[Transformer, Reward]:
        model = network()
        reference = network(seed=9) if "beta" in how else None
        made = objective(
            model, steps_per_generation=2, num_iterations=2, reference=reference, loss_type="grpo", **how
        )
        return model, made

    model, reward = begun()
    wanted = stepped(reward, model, range(6))
    shown = reward.report()

    first, before = begun()
    losses = stepped(before, first, range(stop))
    save_file(before.state(), tmp_path / "objective.safetensors")
    weights = {name: value.clone() for name, value in first.state_dict().items()}
    after, resumed = begun()
    after.load_state_dict(weights)
    resumed.load_state(load_file(tmp_path / "objective.safetensors"))
    losses += stepped(resumed, after, range(stop, 6))
    assert losses == wanted
    seconds = ("rlvr/seconds_rollout", "rlvr/seconds_verify")
    told = resumed.report()
    assert {k: v for k, v in told.items() if k not in seconds} == {
        k: v for k, v in shown.items() if k not in seconds
    }
    assert len(set(wanted[1::2])) > 3, "the policy must move within a generation"


def test_without_the_state_a_resumed_generation_is_drawn_anew_and_said() -> None:
    model = network()
    reward = objective(model, steps_per_generation=2)
    reward.prepare(model, prompts_for(reward, 8)[0], 1)
    assert any("made anew" in line for line in reward.news())


def test_nothing_is_kept_where_every_step_has_rollouts_of_its_own() -> None:
    model = network()
    reward = objective(model)
    reward.prepare(model, prompts_for(reward)[0], 0)
    assert reward.state() == {}


def test_rollouts_of_other_settings_are_refused() -> None:
    model = network()
    reward = objective(model, steps_per_generation=2)
    reward.prepare(model, prompts_for(reward, 8)[0], 0)
    other = objective(model, steps_per_generation=2, num_generations=2)
    other.load_state(reward.state())
    with pytest.raises(RequestError, match="a generation of 16 completions, and these settings ask for 32"):
        other.prepare(model, prompts_for(other, 16)[0], 1)


# --- dynamic sampling -------------------------------------------------------------------------------------


class Only(Verifier):
    """Rewards that differ for some prompts alone, those that begin with these letters; elsewhere always 0."""

    def __init__(self, letters: str) -> None:
        self.asked: list[str] = []

        def judge(texts: list[str], columns: Any, budget: Any) -> list[float | None]:
            prompts = [turns[0]["content"] for turns in columns["prompts"]]
            self.asked += prompts[::4]
            return [float(place % 2) if prompt[0] in letters else 0.0 for place, prompt in enumerate(prompts)]

        super().__init__(VerifierSettings(kind="regex:."), judge=judge)


def with_a_difference(batch: Batch) -> int:
    return int((batch.columns["advantages"] != 0).sum()) // 4


def test_groups_of_equal_rewards_are_replaced_by_further_prompts() -> None:
    model = network()
    judge = Only("abcd")
    reward = objective(model, [judge], dynamic_sampling=True, max_refills=3)
    batch = reward.prepare(model, prompts_for(reward, 12)[0], 0)
    assert len(batch) == 12
    assert with_a_difference(batch) == 3
    assert len(set(judge.asked)) == len(judge.asked), "no prompt is asked twice in a generation"
    report = reward.report()
    first = judge.asked[:3]
    assert report["rlvr/equal_groups"] == pytest.approx(sum(text[0] not in "abcd" for text in first) / 3)
    assert report["rlvr/refilled_groups"] == report["rlvr/equal_groups"] > 0
    again = objective(network(), [Only("abcd")], dynamic_sampling=True, max_refills=3)
    assert same_batch(batch, again.prepare(again.generator.model, prompts_for(again, 12)[0], 0))


def test_no_two_completions_of_a_generation_share_their_random_numbers() -> None:
    model = network()
    reward = objective(model, [Only("abcd")], dynamic_sampling=True)
    numbers: list[int] = []
    generate = reward.generator.generate

    def recording(*given: Any, **more: Any) -> Any:
        numbers.extend(more["samples"])
        return generate(*given, **more)

    reward.generator.generate = recording  # type: ignore[method-assign]
    reward.prepare(model, prompts_for(reward, 12)[0], 0)
    assert len(numbers) > 12
    assert len(set(numbers)) == len(numbers)


def test_refills_end_and_what_is_left_is_said() -> None:
    model = network()
    judge = Only("")
    reward = objective(model, [judge], dynamic_sampling=True, max_refills=1)
    batch = reward.prepare(model, prompts_for(reward, 12)[0], 0)
    assert len(judge.asked) == 6
    assert len(batch) == 12
    assert with_a_difference(batch) == 0
    assert any("all 3 groups have equal rewards" in line and "reward is 0" in line for line in reward.news())


def test_refills_end_with_the_prompts() -> None:
    model = network()
    judge = Only("a")
    reward = objective(model, [judge], dynamic_sampling=True, max_refills=100)
    batch = reward.prepare(model, prompts_for(reward, 12)[0], 0)
    assert sorted(judge.asked) == sorted(p.problem.prompt[0]["content"] for p in PROBLEMS)
    assert with_a_difference(batch) == 1


def test_without_dynamic_sampling_equal_groups_stay() -> None:
    model = network()
    judge = Only("a")
    reward = objective(model, [judge])
    reward.prepare(model, prompts_for(reward, 12)[0], 0)
    assert len(judge.asked) == 3


# --- what is told -----------------------------------------------------------------------------------------


def test_the_report_is_of_what_was_sampled() -> None:
    model = network()
    reward = objective(model, [Counting("early"), verifier("exact", weight=0.5)])
    drawn: list[Any] = []
    generate = reward.generator.generate

    def recording(*given: Any, **more: Any) -> Any:
        drawn.extend(generate(*given, **more))
        return drawn

    reward.generator.generate = recording  # type: ignore[method-assign]
    reward.prepare(model, prompts_for(reward)[0], 0)
    report = reward.report()
    texts = [completion.text for completion in drawn]
    answers = [
        PROBLEMS[n].problem.answer for n in prompts_for(reward)[0].columns["problem"] for _ in range(4)
    ]
    early, exact = np.array([Counting()(texts), verifier("exact")(texts, answer=answers)], dtype=float)
    assert report["rlvr/reward/early"] == pytest.approx(np.nanmean(early))
    assert report["rlvr/reward/exact"] == pytest.approx(exact.mean())
    assert np.isnan(early).any(), "what one verifier leaves out, the other still judges"
    assert report["rlvr/reward"] == pytest.approx(np.mean(np.nan_to_num(early) + 0.5 * exact))
    assert report["rlvr/length"] == pytest.approx(np.mean([len(c.ids) for c in drawn]))
    assert report["rlvr/truncated"] == pytest.approx(np.mean([c.finish_reason == "length" for c in drawn]))
    assert report["rlvr/seconds_rollout"] > 0
    assert {"rlvr/reward_std", "rlvr/equal_groups", "rlvr/pass_at_4", "rlvr/unjudged"} <= set(report)


def test_entropy_is_that_of_the_sampling_distribution() -> None:
    model = network()
    reward = objective(model, temperature=0.7)
    batch = reward.prepare(model, prompts_for(reward)[0], 0)
    found = measured(reward, model, batch)["rlvr/entropy"]
    with torch.no_grad():
        logits = (model.eval()(batch.tokens) @ model.head_weight[:11].T) / 0.7
    wanted = torch.distributions.Categorical(logits=logits).entropy()[batch.targets != -100].mean()
    assert found == pytest.approx(float(wanted), rel=1e-4)


def test_verifiers_that_fail_are_told_once_and_teach_nothing() -> None:
    def broken(texts: list[str], columns: Any, budget: Any) -> list[float | None]:
        raise RuntimeError("out of order")

    model = network()
    reward = objective(model, [Verifier(VerifierSettings(kind="regex:."), judge=broken)])
    batch = reward.prepare(model, prompts_for(reward)[0], 0)
    told = reward.news()
    assert any("out of order" in line for line in told)
    assert any("could not be judged" in line for line in told)
    assert reward.news() == []
    assert not batch.columns["advantages"].any()
    assert "rlvr/reward" not in reward.report()
    assert reward.report()["rlvr/unjudged"] == 1


def test_what_holds_on_is_not_told_at_every_step() -> None:
    model = network()
    reward = objective(model, [Only("")])
    told: list[list[str]] = []
    for step in range(12):
        reward.prepare(model, prompts_for(reward)[step], step)
        told.append([line for line in reward.news() if "equal rewards" in line])
    assert [step for step, lines in enumerate(told) if lines] == [0, 9]
    assert "10th time" in told[9][0]


def test_a_policy_that_moves_away_shows_in_ratio_and_clip() -> None:
    model = network()
    reward = objective(model, num_iterations=2)
    batch = reward.prepare(model, prompts_for(reward)[0], 0)
    moved(model, 0.1)
    means = measured(reward, model, batch)
    assert means["rlvr/clip_ratio"] > 0.05
    assert means["rlvr/approx_kl"] > 0.01


def test_a_batch_carries_what_a_loss_needs_through_slices() -> None:
    model = network()
    reward = objective(model)
    batch = reward.prepare(model, prompts_for(reward)[0], 0)
    part = batch.rows(4, 6)
    assert {name: len(value) for name, value in part.columns.items()} == dict.fromkeys(batch.columns, 2)
    wide = dataclasses.replace(part, columns=dict(part.columns))
    loss: Tensor = reward.loss(model, wide).sum
    assert loss.isfinite()
