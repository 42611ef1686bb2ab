"""Metrics: numbers made of predictions and truths, as pure functions.

labels        accuracy, precision, recall, f1; roc_curve, roc_auc; top_k_error, recall_at_k
probabilities perplexity, bits_per_token, bits_per_byte; ece, reliability, fit_temperature; pass_at_k
sequences     edit_distance, edit_alignment, lcs
texts         exact_match, token_f1, bleu, chrf, ter, rouge; any of these by name: text_metrics
"""

from __future__ import annotations

from orrery.evaluate.metrics.bleu import bleu, brevity_penalty, corpus_bleu
from orrery.evaluate.metrics.calibration import brier_score, ece, reliability
from orrery.evaluate.metrics.chrf import chrf, corpus_chrf
from orrery.evaluate.metrics.classification import accuracy, f1, precision, recall
from orrery.evaluate.metrics.edit_distance import edit_alignment, edit_distance, error_rate
from orrery.evaluate.metrics.exact_match import exact_match, token_f1
from orrery.evaluate.metrics.lcs import lcs, lcs_length
from orrery.evaluate.metrics.likelihood import bits_per_byte, bits_per_token, perplexity
from orrery.evaluate.metrics.pass_at_k import pass_at_k, pass_to_the_k
from orrery.evaluate.metrics.roc import roc_auc, roc_curve
from orrery.evaluate.metrics.rouge import rouge
from orrery.evaluate.metrics.skip_bigrams import skip_bigrams
from orrery.evaluate.metrics.temperature_scaling import fit_temperature
from orrery.evaluate.metrics.ter import corpus_ter, ter
from orrery.evaluate.metrics.text_metrics import text_metrics
from orrery.evaluate.metrics.top_k import recall_at_k, top_k_error

__all__ = [
    "accuracy",
    "bits_per_byte",
    "bits_per_token",
    "bleu",
    "brevity_penalty",
    "brier_score",
    "chrf",
    "corpus_bleu",
    "corpus_chrf",
    "corpus_ter",
    "ece",
    "edit_alignment",
    "edit_distance",
    "error_rate",
    "exact_match",
    "f1",
    "fit_temperature",
    "lcs",
    "lcs_length",
    "pass_at_k",
    "pass_to_the_k",
    "perplexity",
    "precision",
    "recall",
    "recall_at_k",
    "reliability",
    "roc_auc",
    "roc_curve",
    "rouge",
    "skip_bigrams",
    "ter",
    "text_metrics",
    "token_f1",
    "top_k_error",
]
