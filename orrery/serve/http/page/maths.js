// What the likeliest tokens' log-probabilities say about another temperature and about entropy; see docs/glass.md.

/**
 * Probabilities at temperature `t` of tokens whose log-probabilities at 1 are `logprobs`, the likeliest first.
 *
 * The other `vocab - logprobs.length` tokens are known only by their mass and by being no likelier than the last listed, so
 * everything is an interval. Returns {listed: [{low, high}], others: {low, high}}.
 */
export function atTemperature(logprobs, t, vocab) {
  if (t === 0) return { listed: logprobs.map((_, i) => ({ low: +!i, high: +!i })), others: { low: 0, high: 0 } };
  const best = logprobs[0];
  const weights = logprobs.map((l) => Math.exp((l - best) / t));
  const sum = weights.reduce((a, b) => a + b, 0);
  const { mass, count, last } = others(logprobs, vocab);
  const crowded = mass && mass * Math.exp(last * (1 / t - 1) - best / t); // as likely as the last listed, as long as it lasts
  const even = mass && count * Math.exp(Math.log(mass / count) / t - best / t); // spread over all of them
  const low = Math.min(crowded, even);
  const high = Math.max(crowded, even);
  return {
    listed: weights.map((w) => ({ low: w / (sum + high), high: w / (sum + low) })),
    others: { low: low / (sum + low), high: high / (sum + high) },
  };
}

/** Bounds in nats of the entropy of the whole distribution at temperature 1. */
export function entropy(logprobs, vocab) {
  const listed = logprobs.reduce((h, l) => h - Math.exp(l) * l, 0);
  const { mass, count, last } = others(logprobs, vocab);
  return { low: listed - (mass && mass * last), high: listed - (mass && mass * Math.log(mass / count)) };
}

/** Which of `probabilities` (largest first) the filters keep, in the engine's order: top-k, top-p, min-p. */
export function kept(probabilities, { top_k, top_p, min_p }) {
  const cut = top_k > 0 && top_k < probabilities.length;
  const first = cut ? probabilities.slice(0, top_k) : probabilities;
  const total = cut ? first.reduce((a, b) => a + b, 0) : 1;
  let before = 0;
  return probabilities.map((p, i) => {
    const keep = i < first.length && (i === 0 || before < top_p * total) && p >= min_p * probabilities[0];
    before += p;
    return keep;
  });
}

function others(logprobs, vocab) {
  const count = Math.max(0, vocab - logprobs.length);
  const mass = count ? Math.max(0, 1 - logprobs.reduce((a, l) => a + Math.exp(l), 0)) : 0;
  return { mass: mass < 1e-6 ? 0 : mass, count, last: logprobs.at(-1) };
}

export const percent = (p) => (p >= 0.0995 ? `${(100 * p).toFixed(0)}%` : p >= 0.001 ? `${(100 * p).toFixed(1)}%` : "<0.1%");
