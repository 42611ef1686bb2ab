"""What a run of reinforcement learning is told, beside the loop's own settings (`train.config`).

rl:
  problems: [{generator: {name: python_expression, n: 4000, difficulty: 1}}]
  algorithm: {kind: grpo}
  rollout: {prompts: 16, responses: 8, max_tokens: 16}
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from orrery.kit.config import config
from orrery.kit.errors import OrreryError
from orrery.tune.rl.algorithms import Grpo, Method, Parts, Trpo, parts_of
from orrery.tune.rl.curriculum import Curriculum
from orrery.tune.rl.environment import Single, World
from orrery.tune.rl.importance import Level, Rule
from orrery.tune.rl.kl import Estimator
from orrery.tune.rl.problems import ProblemSet
from orrery.tune.rl.recorded import Replay
from orrery.tune.rl.rewards import Term, Verifier
from orrery.tune.rl.workers.config import Cluster

Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]


@config
class Rollout:
    """How answers are drawn.

    Attributes:
        prompts: problems a step; 0 where a run learns from `replay` alone. responses: answers to each.
        max_tokens: of each thing said. temperature: 1 draws from the model's own distribution.
        stop: texts that end an answer, for models without a chat format.
        truncated: an answer that was cut off is judged as it stands, or left out of the loss.
        micro_tokens: tokens of a pass of training, at most.
    """

    prompts: Annotated[int, Field(ge=0)] = 8
    responses: Count = 8
    max_tokens: Count = 64
    temperature: Positive = 1.0
    stop: tuple[str, ...] = ()
    truncated: Literal["judge", "leave out"] = "judge"
    micro_tokens: Count = 4096


@config
class Kl:
    """How near to the start the model is kept.

    Attributes:
        beta: the price of a nat of KL; 0: none. place: in the loss, or in the reward.
        estimator: k1, k2, k3 (`kl.token_kl`); None: k3 in the loss, k1 in the reward.
        target: with it beta is doubled or halved as the KL a token is above or below it by half.
        measure_every: the KL to the start is measured every so many steps where nothing else asks for it; None: not.
    """

    beta: NotNegative = 0.0
    place: Literal["loss", "reward"] = "loss"
    estimator: Estimator | None = None
    target: Positive | None = None
    measure_every: Count | None = 5


@config
class Entropy:
    """What is paid for staying random. `coefficient` of the bonus; `target`: with it the coefficient follows, by `step`.

    forking: only the share of tokens that were least certain teaches the policy (`entropy.forking_tokens`); None: all do.
    """

    coefficient: NotNegative = 0.0
    target: NotNegative | None = None
    step: Positive = 0.005
    forking: Annotated[float, Field(gt=0, lt=1)] | None = None


@config
class Correction:
    """Importance weights for what draws differently from what learns (see `importance`): another engine, reduced precision, older weights.

    drift: answers with a negative advantage are left out where what learns has moved so far from what drew, in nats a token
        (`importance.off_policy_mask`); None: none are.
    """

    level: Level = "token"
    rule: Rule = "truncate"
    low: NotNegative = 0.0
    high: Positive = 2.0
    drift: Positive | None = None


@config
class RlConfig:
    """One run.

    Attributes:
        problems: what is asked. heldout: how many problems are kept to measure with.
        environment: what an answer meets. rewards: what it is worth.
        credit: who is paid for what: every token for the whole episode, or each thing said for what came after it.
        epochs: passes over a step's answers. minibatches: updates in each.
        correction: None: what was drawn is taken as drawn by the model that learns, which it was.
        router_replay: routers of a mixture of experts take in training what they took when the answer was drawn (`routing`).
        workers: processes that answer (`workers`, extra `cluster`); 0: the trainer does. The result is the same. cluster: where they are.
        off_policy_steps: 1: a round's answers are drawn with the weights of the round before, while the trainer updates (Noukhovitch et al.
            2024, arXiv:2410.18252); it needs `correction`.
        replay: episodes from files to learn from too; it needs `correction`. keep_rollouts: every round's are written down (`recorded`).
    """

    problems: Annotated[tuple[ProblemSet, ...], Field(min_length=1)]
    heldout: Annotated[int, Field(ge=0)] = 64
    environment: World = Single()
    rewards: Annotated[tuple[Term, ...], Field(min_length=1)] = (Verifier(),)
    algorithm: Method = Grpo()
    rollout: Rollout = Rollout()
    credit: Literal["episode", "turn"] = "episode"
    epochs: Count = 1
    minibatches: Count = 1
    kl: Kl = Kl()
    entropy: Entropy = Entropy()
    correction: Correction | None = None
    curriculum: Curriculum = Curriculum()
    router_replay: bool = False
    workers: Annotated[int, Field(ge=0)] = 0
    cluster: Cluster = Cluster()
    off_policy_steps: Literal[0, 1] = 0
    replay: Replay | None = None
    keep_rollouts: bool = False

    @property
    def on_policy(self) -> bool:
        """Whether what learns is what drew."""
        return not self.off_policy_steps and self.replay is None

    @property
    def parts(self) -> Parts:
        """What the algorithm is put together from."""
        return parts_of(self.algorithm)

    def __post_init__(self) -> None:
        algorithm = self.algorithm
        if not self.parts.ratio and (self.epochs, self.minibatches) != (1, 1):
            raise OrreryError(
                f"'{algorithm.kind}' takes one step from what was drawn: set epochs and minibatches to 1, or take an algorithm with an "
                "importance ratio (grpo, ppo, reinforce-pp ...)"
            )
        if isinstance(algorithm, Trpo) and (
            self.kl.beta or self.entropy.coefficient or self.entropy.forking or self.correction
        ):
            raise OrreryError(
                "'trpo' keeps its own distance; leave kl.beta, entropy.coefficient, entropy.forking and correction out"
            )
        if self.rollout.responses == 1 and self.parts.baseline in (
            "group",
            "group-centred",
            "leave-one-out",
        ):
            raise OrreryError(
                f"'{algorithm.kind}' compares answers to one prompt; set rollout.responses to 2 or more"
            )
        if not self.on_policy and self.correction is None:
            raise OrreryError(
                "off_policy_steps and replay learn from what other weights have drawn; add correction: {} to weigh it"
            )
        if not self.rollout.prompts and self.replay is None:
            raise OrreryError(
                "rollout.prompts is 0 and there is no replay, so there is nothing to learn from"
            )
        if self.correction is not None and self.rollout.temperature != 1.0:
            raise OrreryError(
                "correction compares with the engine's log-probabilities, which are at temperature 1; set rollout.temperature to 1"
            )
