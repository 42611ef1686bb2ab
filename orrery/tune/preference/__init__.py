"""Preference optimisation: from answers that people compared to a model that gives the better ones.

    rows -> pairs, thumbs, rankings -> packed with their prompt once -> log-probabilities -> a loss -> train

records, pair_shapes, pairs   comparisons: how files spell them, what they become, what is held out
log_sigmoid_losses, ...       each method's loss as a pure function of log-probabilities
"""
