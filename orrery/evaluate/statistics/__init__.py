"""Statistics of measurements: intervals, tests, agreement, ratings, and the design of A/B tests.

estimate        Estimate, means and ratios with normal intervals           proportion   Wilson's and the normal interval
paired          paired differences, McNemar                                bootstrap    any statistic, one or two systems
kappa           agreement of raters                                        leaderboard  Elo and Bradley-Terry over battles
power           sample sizes                                               traffic      sticky random split
sequential      looks before the end
"""

from __future__ import annotations

from orrery.evaluate.statistics.battles import Battle, read_battles
from orrery.evaluate.statistics.bootstrap import bootstrap, paired_bootstrap
from orrery.evaluate.statistics.bradley_terry import bradley_terry
from orrery.evaluate.statistics.elo import elo, expected_score
from orrery.evaluate.statistics.estimate import Estimate, mean_estimate, ratio_estimate
from orrery.evaluate.statistics.kappa import cohen_kappa, fleiss_kappa
from orrery.evaluate.statistics.leaderboard import Standing, leaderboard
from orrery.evaluate.statistics.paired import Comparison, McNemar, mcnemar, paired_difference
from orrery.evaluate.statistics.power import power_of, sample_size, sample_size_for_shares, smallest_effect
from orrery.evaluate.statistics.proportion import wald, wilson
from orrery.evaluate.statistics.sequential import boundaries, crossing_probabilities
from orrery.evaluate.statistics.traffic import arm_of, mismatch_p
from orrery.evaluate.statistics.two_samples import compare_means, compare_shares

__all__ = [
    "Battle",
    "Comparison",
    "Estimate",
    "McNemar",
    "Standing",
    "arm_of",
    "bootstrap",
    "boundaries",
    "bradley_terry",
    "cohen_kappa",
    "compare_means",
    "compare_shares",
    "crossing_probabilities",
    "elo",
    "expected_score",
    "fleiss_kappa",
    "leaderboard",
    "mcnemar",
    "mean_estimate",
    "mismatch_p",
    "paired_bootstrap",
    "paired_difference",
    "power_of",
    "ratio_estimate",
    "read_battles",
    "sample_size",
    "sample_size_for_shares",
    "smallest_effect",
    "wald",
    "wilson",
]
