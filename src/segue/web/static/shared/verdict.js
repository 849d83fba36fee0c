// @ts-check
// What a score means, in words.

import { ALPHA, atLeast, hitsNeeded, interval, trialsNeeded } from "./stats.js";

/** @import { Score } from "./votes.js" */

/**
 * A sentence or two about one score.
 *
 * @param {Score} score
 */
export function verdict(score) {
  const { hits, trials, p } = score;
  if (!trials) return "No vote for either.";
  const [low, high] = interval(hits, trials).map((rate) => Math.round(100 * rate));
  const result = score.test === "abx" ? abx : preference;
  const range = `The true rate lies between ${low} and ${high} % (95 % interval).`;
  const doubts = caveats(score).join(" ");
  return [result(score, `p = ${p.toPrecision(2)}`), range, doubts].filter(Boolean).join(" ");
}

/**
 * @param {Score} score
 * @param {string} written  the p-value as text
 */
function abx({ hits, trials, p }, written) {
  const count = `${hits} of ${trials} right`;
  if (p < ALPHA) return `Told apart: ${count}, ${written}.`;
  if (hitsNeeded(trials) === null) {
    return `${count}, ${written}: too few to say anything, however many are right.`;
  }
  const size = trialsNeeded(hits, trials);
  const more = size
    ? `If this rate is true, a new run of ${size} trials shows it four times in five.`
    : "That is no better than guessing.";
  return `Not told apart: ${count}, ${written}; ${short(hits, trials)} ${more}`;
}

/**
 * How far it was from counting.
 *
 * @param {number} hits
 * @param {number} trials
 */
function short(hits, trials) {
  let more = 0;
  while (atLeast(hits + more, trials + more) >= ALPHA) more++;
  return `${more} more, all right, would have been needed.`;
}

/**
 * @param {Score} score
 * @param {string} written  the p-value as text
 */
function preference({ hits, trials, variant, p }, written) {
  const count = `${hits} of ${trials} for ${variant}`;
  if (p >= ALPHA) return `No preference shown: ${count}, ${written}.`;
  const preferred = 2 * hits > trials ? "Preferred" : "The baseline is preferred";
  return `${preferred}: ${count}, ${written}.`;
}

/** @param {Score} score */
function caveats({ cutShort, runs }) {
  return [
    cutShort > 0 &&
      "A run was ended early: p is too small if the score was what ended it.",
    runs > 1 &&
      `${runs} runs added up: p holds only if their number was decided before the first.`,
  ].filter(Boolean);
}
