"""Losses that compare a policy with a reference on pairs of answers (P,), from sums of log-probabilities over each answer's tokens.

    d = log pi(y_w|x) / pi_ref(y_w|x) - log pi(y_l|x) / pi_ref(y_l|x)        the margin of log-ratios; y_w is better than y_l

    DPO     -log sigma(beta d)                            Rafailov et al. 2023, arXiv:2305.18290, eq. 7
      smoothed    (1-e) of it + e of the flipped pair     Mitchell 2023, "cDPO"
    robust  ((1-e) of it - e of the flipped) / (1 - 2e)   Chowdhury et al. 2024, arXiv:2403.00409, eq. 12
    IPO     (d - 1/(2 beta))^2                            Azar et al. 2023, arXiv:2310.12036, eq. 17
    hinge   max(0, 1 - beta d)                            Zhao et al. 2023 (SLiC), arXiv:2305.10425, with DPO's margin
    APO     (1 - sigma(beta r_w)) + sigma(beta r_l), and the form for better answers that are worse than the policy's own
            D'Oosterlinck et al. 2024, arXiv:2408.06266, eq. 7 and 8

What DPO fits is the implicit reward beta log pi/pi_ref: the reward for which the policy would be the best one at that price of KL.
Every function gives the sum over pairs with their number, and sums worth logging (`compared`).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from orrery.train.loss import Loss


def dpo(
    chosen: Tensor, rejected: Tensor, reference_chosen: Tensor, reference_rejected: Tensor, *, beta: float = 0.1,
    label_smoothing: float = 0.0, lengths: tuple[Tensor, Tensor] | None = None,
) -> Loss:  # fmt: skip
    """Direct preference optimization.

    Args:
        chosen, rejected, reference_chosen, reference_rejected: (P,) log-probabilities in nats.
        label_smoothing: the share of labels taken to be wrong.
        lengths: (P,) tokens of the chosen and of the rejected answers; with them log-ratios are means over tokens (Meng et al. 2024's
            ablation; Lambert et al. 2024, Tulu 3, arXiv:2411.15124, eq. 6).
    """
    won, lost = _ratios(chosen - reference_chosen, rejected - reference_rejected, lengths)
    z = beta * (won - lost)
    losses = -(1 - label_smoothing) * F.logsigmoid(z) - label_smoothing * F.logsigmoid(-z)
    return compared(losses, beta * won, beta * lost)


def robust_dpo(
    chosen: Tensor, rejected: Tensor, reference_chosen: Tensor, reference_rejected: Tensor, *, beta: float = 0.1, flipped: float = 0.1,
) -> Loss:  # fmt: skip
    """DPO's loss made unbiased where a share `flipped` (below a half) of the labels is wrong."""
    won, lost = chosen - reference_chosen, rejected - reference_rejected
    z = beta * (won - lost)
    losses = (flipped * F.logsigmoid(-z) - (1 - flipped) * F.logsigmoid(z)) / (1 - 2 * flipped)
    return compared(losses, beta * won, beta * lost)


def ipo(
    chosen: Tensor, rejected: Tensor, reference_chosen: Tensor, reference_rejected: Tensor, *, beta: float = 0.1,
    lengths: tuple[Tensor, Tensor] | None = None,
) -> Loss:  # fmt: skip
    """Identity preference optimization: the margin is pulled to 1 / (2 beta) (the paper's tau) and no further, however sure the labels.

    Args:
        lengths: as of `dpo`; the paper's experiments use means over tokens, its formula sums.
    """
    won, lost = _ratios(chosen - reference_chosen, rejected - reference_rejected, lengths)
    return compared((won - lost - 1 / (2 * beta)).square(), beta * won, beta * lost)


def hinge(
    chosen: Tensor, rejected: Tensor, reference_chosen: Tensor, reference_rejected: Tensor, *, beta: float = 0.1
) -> Loss:  # fmt: skip
    """The margin is pushed up to 1 / beta; pairs beyond teach nothing."""
    won, lost = chosen - reference_chosen, rejected - reference_rejected
    return compared(torch.relu(1 - beta * (won - lost)), beta * won, beta * lost)


def apo_zero(
    chosen: Tensor, rejected: Tensor, reference_chosen: Tensor, reference_rejected: Tensor, *, beta: float = 0.1
) -> Loss:  # fmt: skip
    """Anchored: the better answer becomes likelier and the worse one less likely, each by itself."""
    won, lost = chosen - reference_chosen, rejected - reference_rejected
    return compared(1 - (beta * won).sigmoid() + (beta * lost).sigmoid(), beta * won, beta * lost)


def apo_down(
    chosen: Tensor, rejected: Tensor, reference_chosen: Tensor, reference_rejected: Tensor, *, beta: float = 0.1
) -> Loss:  # fmt: skip
    """Anchored for a policy that is better than both answers: both become less likely, the worse one more so."""
    won, lost = chosen - reference_chosen, rejected - reference_rejected
    losses = (beta * won).sigmoid() + 1 - (beta * (won - lost)).sigmoid()
    return compared(losses, beta * won, beta * lost)


def implicit_rewards(policy: Tensor, reference: Tensor, *, beta: float) -> Tensor:
    """beta log pi(y|x) / pi_ref(y|x), of answers (A,): what the policy is the best answer to, up to a constant of the prompt (eq. 5)."""
    return beta * (policy - reference)


def compared(losses: Tensor, won: Tensor, lost: Tensor) -> Loss:
    """The loss of pairs (P,) whose answers have rewards `won` and `lost`, with sums over pairs: rewards, their margin, and how often the
    better answer has more (a tie counts a half)."""
    won, lost = won.detach(), lost.detach()
    margin = won - lost
    stats = {
        "reward_chosen": won.sum(), "reward_rejected": lost.sum(), "margin": margin.sum(),
        "accuracy": ((margin.sign() + 1) / 2).sum(),
    }  # fmt: skip
    return Loss(losses.sum(), losses.new_tensor(float(len(losses))), stats)


def _ratios(won: Tensor, lost: Tensor, lengths: tuple[Tensor, Tensor] | None) -> tuple[Tensor, Tensor]:
    return (won, lost) if lengths is None else (won / lengths[0], lost / lengths[1])
