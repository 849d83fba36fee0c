// @ts-check
// The runs of a blind test: stored in the browser where it allows that, exported, merged, added up.

import { guessing, indifference } from "./stats.js";

/** @typedef {"baseline" | "variant"} Side */

/**
 * For "abx", `x` is what X was and `answer` what it was taken for; for "preference", `x` is what A
 * was and `answer` what was preferred, or "none". `at` is an ISO 8601 time.
 *
 * @typedef {{ at: string, x: Side, answer: Side | "none" }} Vote
 */

/**
 * `baseline` and `variant` are names; `planned` is a number of trials.
 *
 * @typedef {object} Run
 * @property {string} id
 * @property {"abx" | "preference"} test
 * @property {string} baseline
 * @property {string} variant
 * @property {string} listener
 * @property {number} planned
 * @property {string} started
 * @property {boolean} stopped
 * @property {Vote[]} votes
 */

/** @typedef {ReturnType<typeof score>} Score */

const SCHEMA = 1;
const SIDES = ["baseline", "variant"];
const TEXTS = ["id", "baseline", "variant", "listener", "started"];

export class Votes extends EventTarget {
  /** @type {Run[]} */
  runs = [];

  /** Whether they outlive the page. */
  persistent = true;

  /** @param {string} report  whose runs these are */
  constructor(report) {
    super();
    this.report = report;
    this.key = `segue-votes-${report}`;
    try {
      const text = localStorage.getItem(this.key);
      localStorage.setItem(this.key, text ?? JSON.stringify(this.exported()));
      if (text) this.#merge(JSON.parse(text));
    } catch {
      // No storage here, or it holds nonsense: votes last as long as the page.
      this.persistent = false;
    }
  }

  /**
   * Add a run, or replace the shorter one of its id.
   *
   * @param {Run} run
   */
  save(run) {
    this.#add(run);
    this.#store();
  }

  clear() {
    this.runs = [];
    this.#store();
  }

  /** What an export holds. */
  exported() {
    return { kind: "segue-votes", schema: SCHEMA, report: this.report, runs: this.runs };
  }

  /**
   * Add the runs of an export; how many were new. Throws an Error that says what is wrong.
   *
   * @param {string} text
   */
  merge(text) {
    const before = this.runs.length;
    let file;
    try {
      file = JSON.parse(text);
    } catch {
      throw new Error("This file is no JSON.");
    }
    this.#merge(file);
    this.#store();
    return this.runs.length - before;
  }

  /** @param {any} file  JSON from anywhere */
  #merge(file) {
    if (file?.kind !== "segue-votes" || file.schema !== SCHEMA || !Array.isArray(file.runs)) {
      throw new Error("This file holds no votes of this version.");
    }
    if (file.report !== this.report) throw new Error("These votes are for another report.");
    if (!file.runs.every(isRun)) throw new Error("This file's votes are damaged.");
    file.runs.forEach((/** @type {Run} */ run) => this.#add(run));
  }

  /** @param {Run} run */
  #add(run) {
    const index = this.runs.findIndex((known) => known.id === run.id);
    if (index < 0) this.runs.push(run);
    else if (run.votes.length >= this.runs[index].votes.length) this.runs[index] = run;
  }

  #store() {
    try {
      localStorage.setItem(this.key, JSON.stringify(this.exported()));
    } catch {
      this.persistent = false;
    }
    this.dispatchEvent(new Event("change"));
  }
}

/**
 * @param {any} run  JSON from anywhere
 * @returns {run is Run}
 */
function isRun(run) {
  return (
    TEXTS.every((name) => typeof run?.[name] === "string") &&
    ["abx", "preference"].includes(run.test) &&
    Number.isInteger(run.planned) &&
    run.planned > 0 &&
    typeof run.stopped === "boolean" &&
    Array.isArray(run.votes) &&
    run.votes.length <= run.planned &&
    run.votes.every(isVote)
  );
}

/** @param {any} vote  JSON from anywhere */
function isVote(vote) {
  return SIDES.includes(vote?.x) && [...SIDES, "none"].includes(vote.answer);
}

/**
 * Whether a run has come to its end, so that its score may be seen.
 *
 * @param {Run} run
 */
export function over(run) {
  return run.stopped || run.votes.length >= run.planned;
}

/**
 * Scores of the runs that are over, one for each test, variant and listener.
 *
 * @param {Run[]} runs
 */
export function scores(runs) {
  /** @type {Map<string, Run[]>} */
  const groups = new Map();
  for (const run of runs.filter(over)) {
    const key = JSON.stringify([run.test, run.variant, run.listener]);
    groups.set(key, [...(groups.get(key) ?? []), run]);
  }
  return [...groups.values()].map(score);
}

/**
 * One score of runs of the same test and variant.
 *
 * @param {Run[]} runs  at least one
 */
export function score(runs) {
  const { test, variant, listener } = runs[0];
  const votes = runs.flatMap((run) => run.votes).filter((vote) => vote.answer !== "none");
  /** @param {Vote} vote */
  const right = (vote) => vote.answer === (test === "abx" ? vote.x : "variant");
  const hits = votes.filter(right).length;
  const trials = votes.length;
  return {
    test,
    variant,
    listener,
    runs: runs.length,
    cutShort: runs.filter((run) => run.votes.length < run.planned).length,
    hits,
    trials,
    p: (test === "abx" ? guessing : indifference)(hits, trials),
  };
}
