// The runs of a blind test: kept in the browser where it lets us, exported, merged, added up.
//
// A run is {id, test: "abx" | "preference", baseline, variant, listener, planned, started, stopped,
// votes}. A vote is {at, x, answer}: for "abx", x is what X was and answer what it was taken for;
// for "preference", x is what A was and answer what was preferred, or "none".

import { guessing, indifference } from "./stats.js";

const SCHEMA = 1;
const SIDES = ["baseline", "variant"];
const TEXTS = ["id", "baseline", "variant", "listener", "started"];

export class Votes extends EventTarget {
  /** The runs of one report. */
  constructor(report) {
    super();
    this.report = report;
    this.key = `segue-votes-${report}`;
    this.runs = [];
    this.kept = true;
    try {
      const text = localStorage.getItem(this.key);
      localStorage.setItem(this.key, text ?? JSON.stringify(this.exported()));
      if (text) this.#take(JSON.parse(text));
    } catch {
      // No storage here, or it holds nonsense: votes last as long as the page.
      this.kept = false;
    }
  }

  /** Add a run, or replace the shorter one of its id. */
  save(run) {
    this.#add(run);
    this.#keep();
  }

  clear() {
    this.runs = [];
    this.#keep();
  }

  /** What an export holds. */
  exported() {
    return { kind: "segue-votes", schema: SCHEMA, report: this.report, runs: this.runs };
  }

  /** Take in an export's text; how many runs were new. Throws an Error that says what is wrong. */
  merge(text) {
    const before = this.runs.length;
    let file;
    try {
      file = JSON.parse(text);
    } catch {
      throw new Error("This file is no JSON.");
    }
    this.#take(file);
    this.#keep();
    return this.runs.length - before;
  }

  #take(file) {
    if (file?.kind !== "segue-votes" || file.schema !== SCHEMA || !Array.isArray(file.runs)) {
      throw new Error("This file holds no votes of this version.");
    }
    if (file.report !== this.report) throw new Error("These votes are for another report.");
    if (!file.runs.every(sound)) throw new Error("This file's votes are damaged.");
    file.runs.forEach((run) => this.#add(run));
  }

  #add(run) {
    const index = this.runs.findIndex((known) => known.id === run.id);
    if (index < 0) this.runs.push(run);
    else if (run.votes.length >= this.runs[index].votes.length) this.runs[index] = run;
  }

  #keep() {
    try {
      localStorage.setItem(this.key, JSON.stringify(this.exported()));
    } catch {
      this.kept = false;
    }
    this.dispatchEvent(new Event("change"));
  }
}

function sound(run) {
  return (
    TEXTS.every((name) => typeof run?.[name] === "string") &&
    ["abx", "preference"].includes(run.test) &&
    Number.isInteger(run.planned) &&
    run.planned > 0 &&
    typeof run.stopped === "boolean" &&
    Array.isArray(run.votes) &&
    run.votes.length <= run.planned &&
    run.votes.every((vote) => SIDES.includes(vote?.x) && [...SIDES, "none"].includes(vote.answer))
  );
}

/** Whether a run has come to its end, so that its score may be seen. */
export function over(run) {
  return run.stopped || run.votes.length >= run.planned;
}

/** Scores of the runs that are over, one for each test, variant and listener. */
export function scores(runs) {
  const groups = new Map();
  for (const run of runs.filter(over)) {
    const key = JSON.stringify([run.test, run.variant, run.listener]);
    groups.set(key, [...(groups.get(key) ?? []), run]);
  }
  return [...groups.values()].map(score);
}

/** One score of runs of the same test and variant. */
export function score(runs) {
  const { test, variant, listener } = runs[0];
  const votes = runs.flatMap((run) => run.votes).filter((vote) => vote.answer !== "none");
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
