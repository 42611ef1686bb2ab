"""Reward models: a number for an answer, learned from comparisons, verdicts, or verdicts on steps.

pairs | answers, right or wrong | steps, right or wrong
-> items -> batches (a prompt once for its answers) -> decoder + a scalar head -> a loss of `losses` -> train

model = load_reward("runs/reward")
model.score([[{"role": "user", "content": "2 + 2 ?"}, {"role": "assistant", "content": "4"}]])       # (1,)
"""

from orrery.tune.reward.folder import load_reward, save_reward
from orrery.tune.reward.model import RewardEnsemble, RewardModel, Scored

__all__ = ["RewardEnsemble", "RewardModel", "Scored", "load_reward", "save_reward"]
