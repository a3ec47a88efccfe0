"""What a recipe may say of rewards, and what it is told when it says something else."""

from __future__ import annotations

from typing import Any

import pytest
from rewarding import settings

from linnet.config import RequestError
from linnet.config.layers import Layers
from linnet.config.section import validate
from linnet.objectives.reward import RewardSettings


def refused(**changes: Any) -> str:
    with pytest.raises(RequestError) as error:
        validate(RewardSettings, Layers({"verifiers": ["exact"], **changes}))
    return error.value.line()


def test_bare_words_are_verifiers_and_defaults_are_trls() -> None:
    some = RewardSettings.model_validate({"verifiers": ["math", {"kind": "format:boxed", "weight": 0.2}]})
    assert [verifier.weight for verifier in some.verifiers] == [1.0, 0.2]
    given = (
        some.loss_type,
        some.num_generations,
        some.epsilon,
        some.clip_high,
        some.beta,
        some.scale_rewards,
    )
    assert given == ("dapo", 8, 0.2, 0.2, 0.0, "group")
    assert settings(epsilon_high=0.28).clip_high == 0.28


def test_defaults_that_have_trls_names_are_trls_own() -> None:
    trl = pytest.importorskip("trl")
    theirs = trl.GRPOConfig.__dataclass_fields__
    shared = RewardSettings.model_fields.keys() & theirs.keys()
    assert {"epsilon_high", "importance_sampling_level", "num_iterations", "use_bias_correction_kl"} <= shared
    differ = {"max_completion_length", "steps_per_generation"}  # 512 is long for these models; theirs depends
    for name in shared - differ:
        assert RewardSettings.model_fields[name].default == theirs[name].default, name


@pytest.mark.parametrize("name", ["top_p", "top_k", "min_p"])
def test_filters_of_the_distribution_are_not_offered_and_it_is_said_why(name: str) -> None:
    line = refused(**{name: 0.9})
    assert f"unknown key '{name}'" in line
    assert "falsifies the probabilities" in line


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"reward_funcs": ["math"]}, "write 'verifiers'"),
        ({"kl_coef": 0.1}, "write 'beta'"),
        ({"clip_ratio_high": 0.28}, "write 'epsilon_high'"),
        ({"rollout_n": 8}, "write 'num_generations'"),
        ({"max_response_length": 8}, "write 'max_completion_length'"),
        ({"temperature": 0.0}, "temperature: 0.0 would draw the same completion again and again; write 0.01"),
        ({"num_generations": 1}, "one completion has nothing to be compared with"),
        ({"loss_type": "ppo"}, "loss_type"),
        ({"verifiers": []}, "verifiers"),
        ({"verifiers": ["exact", "exact"]}, "two verifiers are called 'exact'; give one a 'name'"),
        ({"verifiers": [{"kind": "exact", "weight": 0.0}]}, "every verifier weighs 0"),
        ({"verifiers": ["grammar"]}, "there is no verifier 'grammar'"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(changes: dict[str, Any], told: str) -> None:
    line = refused(**changes)
    assert told in line
    assert "\n" not in line


def test_verifiers_must_be_said() -> None:
    with pytest.raises(RequestError, match="'verifiers' is missing"):
        validate(RewardSettings, Layers())


def test_groups_must_come_out_even() -> None:
    some = settings(num_generations=8, steps_per_generation=2)
    assert some.prompts_per_generation(32) == 8
    with pytest.raises(ValueError, match="multiple of num_generations 8, for example 16 or 24"):
        some.prompts_per_generation(20)
