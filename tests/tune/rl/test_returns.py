"""Returns and generalized advantages, by hand, by the direct sum, and in their limits."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from orrery.tune.rl.gae import gae, length_adaptive_gae, length_adaptive_lambda, temporal_differences
from orrery.tune.rl.responses import at_last_token, response_means, response_sums, runs, suffix_sums
from orrery.tune.rl.returns import reward_to_go

OWNER = torch.tensor([0, 0, 0, 4, 4])  # numbers may have gaps


def close(a: torch.Tensor, b: list[float]) -> None:
    torch.testing.assert_close(a, torch.tensor(b, dtype=a.dtype), rtol=0, atol=1e-6)


def test_runs_of_a_flat_axis() -> None:
    found = runs(OWNER)
    assert found.index.tolist() == [0, 0, 0, 1, 1]
    assert found.lengths.tolist() == [3, 2]
    assert found.last.tolist() == [2, 4]
    values = torch.tensor([1.0, 2, 3, 10, 20])
    close(response_sums(values, OWNER), [6, 30])
    close(response_means(values, OWNER), [2, 15])
    close(at_last_token(torch.tensor([7.0, 9]), OWNER), [0, 0, 7, 0, 9])


def test_nothing_at_all_is_no_error() -> None:
    none, owner = torch.zeros(0), torch.zeros(0, dtype=torch.int64)
    assert suffix_sums(none, owner).shape == (0,)
    assert response_sums(none, owner).shape == (0,)


def test_the_return_of_the_books_example() -> None:
    """Sutton & Barto, exercise 3.8: gamma 0.5 and rewards -1 2 6 3 2."""
    close(
        reward_to_go(torch.tensor([-1.0, 2, 6, 3, 2]), torch.zeros(5, dtype=torch.int64), 0.5),
        [2, 6, 8, 4, 2],
    )


def test_a_return_ends_with_its_response() -> None:
    close(reward_to_go(torch.tensor([1.0, 1, 1, 5, 1]), OWNER), [3, 2, 1, 6, 1])


def test_gae_by_hand() -> None:
    rewards, values = torch.tensor([0.0, 0, 1, 0, 2]), torch.tensor([0.5, 0.4, 0.6, 1.0, 1.5])
    # deltas with gamma 0.9: 0 + .36 - .5, 0 + .54 - .4, 1 - .6 | 1.35 - 1, 2 - 1.5
    close(temporal_differences(rewards, values, OWNER, 0.9), [-0.14, 0.14, 0.4, 0.35, 0.5])
    found = gae(rewards, values, OWNER, 0.9, 0.5)  # each step back times 0.45
    close(found.advantages, [-0.14 + 0.45 * 0.32, 0.32, 0.4, 0.575, 0.5])
    close(found.returns, [0.504, 0.72, 1.0, 1.575, 2.0])


def test_a_response_that_was_cut_off_goes_on_with_the_critics_value() -> None:
    rewards, values = torch.zeros(5), torch.tensor([0.5, 0.4, 0.6, 1.0, 1.5])
    found = gae(rewards, values, OWNER, 1.0, 1.0, bootstrap=torch.tensor([0.0, 2.0]))
    close(found.returns, [0, 0, 0, 2, 2])


@settings(max_examples=30, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 7), min_size=1, max_size=4),
    gamma=st.sampled_from([0.5, 0.9, 1.0]),
    lam=st.sampled_from([0.0, 0.3, 0.95, 1.0]),
    seed=st.integers(0, 99),
)
def test_the_recursion_is_the_direct_sum(lengths: list[int], gamma: float, lam: float, seed: int) -> None:
    owner = torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths))
    generator = torch.Generator().manual_seed(seed)
    rewards, values = torch.randn(2, len(owner), generator=generator, dtype=torch.float64)
    found = gae(rewards, values, owner, gamma, lam).advantages
    delta = temporal_differences(rewards, values, owner, gamma)
    for t in range(len(owner)):
        same = [k for k in range(t, len(owner)) if owner[k] == owner[t]]
        direct = sum((gamma * lam) ** (k - t) * delta[k] for k in same)
        assert abs(float(found[t] - direct)) < 1e-12
    if lam == 0.0:
        torch.testing.assert_close(found, delta)
    if lam == 1.0:
        torch.testing.assert_close(found, reward_to_go(rewards, owner, gamma) - values)


def test_lambda_by_length() -> None:
    close(length_adaptive_lambda(torch.tensor([10, 20, 40, 400])), [0, 0, 0.5, 0.95])


def test_length_adaptive_gae_has_a_lambda_for_each_and_another_for_the_critic() -> None:
    owner = torch.arange(2).repeat_interleave(torch.tensor([40, 10]))
    rewards, values = torch.randn(2, 50, generator=torch.Generator().manual_seed(0))
    found = length_adaptive_gae(rewards, values, owner)
    long = gae(rewards[:40], values[:40], owner[:40], 1.0, 0.5)
    short = gae(rewards[40:], values[40:], owner[40:], 1.0, 0.0)
    torch.testing.assert_close(found.advantages, torch.cat([long.advantages, short.advantages]))
    torch.testing.assert_close(found.returns, reward_to_go(rewards, owner))
