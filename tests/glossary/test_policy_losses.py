"""What the exhibits of policy losses claim in words holds in their numbers."""

from __future__ import annotations

from orrery.glossary.exhibits import answer_lengths, policy_gradients, policy_losses


def test_wrong_answers_grow_under_the_mean_over_each_answer_and_stay_without_it() -> None:
    grpo, dr_grpo, token = answer_lengths.length_bias_measured().rows
    assert grpo[2] > 2 * grpo[1] and grpo[4] < grpo[3] / 2
    for row in (dr_grpo, token):
        assert abs(row[2] - row[1]) < 0.1 * row[1] and abs(row[4] - row[3]) < 0.1 * row[3]


def test_entropy_collapses_and_a_bonus_holds_it() -> None:
    plain, some, more = policy_losses.entropy_collapse_and_what_holds_it().rows
    assert plain[2] < 0.15 < 0.2 < some[2] < more[2]
    assert plain[4] < more[4]
    assert min(plain[3], some[3], more[3]) > 0.9


def test_a_higher_upper_clip_keeps_entropy_where_steps_are_small() -> None:
    rows = policy_losses.clip_higher_without_a_signal().rows
    assert rows[0][4] < rows[1][4] < rows[2][4] < rows[0][2]
    assert rows[3][4] > rows[5][4]  # and not where they are large


def test_every_algorithm_learns_the_toy() -> None:
    for row in policy_losses.algorithms_on_sums().rows:
        assert row[1] < 0.2 and row[2] > 0.9, row


def test_form_is_learned_and_length_keeps_it_short() -> None:
    form, both = answer_lengths.form_and_length_paid_for().rows
    assert form[1] < 0.1 and form[2] > 0.9 and both[2] > 0.9
    assert both[4] < form[4]


def test_on_policy_the_ratio_is_exactly_one() -> None:
    fresh, *stale = policy_losses.fresh_and_stale_samples().rows
    assert fresh[0] == 0 and fresh[3] == fresh[5] == 0.0
    assert all(row[3] > 0.1 and row[5] > 0.1 for row in stale)


def test_with_heavy_tails_the_truth_falls_while_the_measure_rises() -> None:
    rows = policy_losses.best_of_n_by_a_proxy().rows
    truth = [row[4] for row in rows]
    assert max(truth) > truth[-1] + 0.5
    assert [row[3] for row in rows] == sorted(row[3] for row in rows)
    assert [row[2] for row in rows] == sorted(row[2] for row in rows)  # light tails: slower, never worse


def test_only_trpo_stays_within_the_bound_and_climbs() -> None:
    trpo, small, _, large = policy_gradients.trust_region_holds().rows
    assert trpo[3] <= 0.02 and trpo[4] == 0 and trpo[2] > 0.85
    assert small[2] < trpo[2] and large[3] > 1


def test_the_dial_of_gae_has_its_best_between_the_ends() -> None:
    errors = [row[4] for row in policy_gradients.gae_dial().rows]
    assert min(errors) < errors[0] < errors[-1]
    assert 0 < errors.index(min(errors)) < len(errors) - 1


def test_the_ratio_takes_the_bias_of_foreign_samples_away_and_bounds_trade() -> None:
    own, free, held, _ = policy_gradients.learning_from_another_policy().rows
    assert free[1] < 0.05 < held[1] < own[1]
    assert own[3] < held[3] < free[3]
