// @ts-check
// Exact binomial statistics, for small numbers of trials.

/** What a test must stay below to count: one false alarm in twenty. */
export const ALPHA = 0.05;

/**
 * P(at least `hits` of `trials`), where each is one with probability `p`.
 *
 * @param {number} hits
 * @param {number} trials
 * @param {number} [p]
 */
export function atLeast(hits, trials, p = 0.5) {
  if (hits <= 0) return 1;
  if (hits > trials || p <= 0) return 0;
  if (p >= 1) return 1;
  let logTerm = hits * Math.log(p) + (trials - hits) * Math.log1p(-p);
  for (let i = 0; i < hits; i++) logTerm += Math.log(trials - i) - Math.log(hits - i);
  let sum = 0;
  for (let k = hits; k <= trials; k++) {
    sum += Math.exp(logTerm);
    logTerm += Math.log(trials - k) - Math.log(k + 1) + Math.log(p) - Math.log1p(-p);
  }
  return Math.min(1, sum);
}

/**
 * The p-value of "no better than guessing" (one-sided, exact).
 *
 * @param {number} hits
 * @param {number} trials
 */
export function guessing(hits, trials) {
  return atLeast(hits, trials);
}

/**
 * The p-value of "neither is preferred" (two-sided, exact).
 *
 * @param {number} votes
 * @param {number} trials
 */
export function indifference(votes, trials) {
  return Math.min(1, 2 * atLeast(Math.max(votes, trials - votes), trials));
}

/**
 * How many of `trials` must be right for p < ALPHA; null where even all are too few.
 *
 * @param {number} trials
 */
export function hitsNeeded(trials) {
  for (let hits = 0; hits <= trials; hits++) if (guessing(hits, trials) < ALPHA) return hits;
  return null;
}

/**
 * The chance that someone who is right with probability `p` passes a test of `trials`.
 *
 * @param {number} trials
 * @param {number} p
 */
export function power(trials, p) {
  const hits = hitsNeeded(trials);
  return hits === null ? 0 : atLeast(hits, trials, p);
}

/**
 * The size of a new test that someone with a hit rate of `hits / trials` would pass four times in
 * five; null where the rate is no better than guessing, or so near it that 1000 are not enough.
 *
 * @param {number} hits
 * @param {number} trials
 */
export function trialsNeeded(hits, trials) {
  const rate = trials > 0 ? hits / trials : 0;
  if (rate <= 0.5) return null;
  for (let size = 5; size <= 1000; size++) if (power(size, rate) >= 0.8) return size;
  return null;
}

/**
 * The 95 % interval of the true rate behind `hits` of `trials` (Clopper and Pearson, 1934).
 *
 * @param {number} hits
 * @param {number} trials
 * @returns {[number, number]}
 */
export function interval(hits, trials) {
  /** @param {(p: number) => boolean} below */
  const solve = (below) => {
    let [low, high] = [0, 1];
    for (let i = 0; i < 60; i++) {
      const middle = (low + high) / 2;
      if (below(middle)) low = middle;
      else high = middle;
    }
    return low;
  };
  return [
    hits === 0 ? 0 : solve((p) => atLeast(hits, trials, p) < 0.025),
    hits === trials ? 1 : solve((p) => 1 - atLeast(hits + 1, trials, p) > 0.025),
  ];
}
