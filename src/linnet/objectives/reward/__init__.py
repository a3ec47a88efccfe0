"""Reinforcement learning from verified rewards.

`Reward` is the objective, `RewardSettings` what a recipe says of it. `check_solvable` looks before training,
`evaluate_problems` measures on held-out problems.
"""

from linnet.objectives.reward.evaluation import Verified, evaluate_problems, pass_at_k
from linnet.objectives.reward.objective import Reward
from linnet.objectives.reward.settings import RewardSettings
from linnet.objectives.reward.solvable import Solvable, check_solvable

__all__ = [
    "Reward",
    "RewardSettings",
    "Solvable",
    "Verified",
    "check_solvable",
    "evaluate_problems",
    "pass_at_k",
]
