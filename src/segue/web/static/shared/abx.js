// @ts-check
// <segue-blind>: a blind test of one variant against the baseline, trial by trial.
//
// ABX: A is the baseline, B the variant, X one of both; which?  Preference: A and B are both, in an
// order that nobody knows; which is better?  Scores stay hidden until a run is over: a listener who
// stops when the score looks good finds differences where there are none.

import { h } from "./dom.js";
import { registerKeys, useKeys } from "./keys.js";
import { hitsNeeded } from "./stats.js";
import { Takes } from "./takes.js";
import { actionsOf, follow, transport } from "./transport.js";
import { verdict } from "./verdict.js";
import { over, scores, Votes } from "./votes.js";
import { quiet, scoreList, TESTS, votesFile } from "./votes_panel.js";

/** @import { Source } from "./takes.js" */
/** @import { Transport } from "./transport.js" */
/** @import { Run, Side } from "./votes.js" */

/** @type {Side[]} */
const SIDES = ["baseline", "variant"];
const SIZES = [5, 10, 16, 24, 32];

/** 16: someone who is right four times in five passes four times in five; 24 takes long. */
const USUAL = 16;

/**
 * Tests of `variants` against `baseline`. `report` names what the votes are for; `join` is where
 * the continuation starts, in seconds. `alike` is whether a variant has the baseline's quality, so
 * that only the music differs: then there is nothing to tell apart, and a preference is asked for.
 *
 * @typedef {object} Comparison
 * @property {string} report
 * @property {Source} baseline
 * @property {Source[]} variants
 * @property {number | null} [join]
 * @property {(variant: Source) => boolean} [alike]
 */

export class SegueBlind extends HTMLElement {
  /** The run that goes on. @type {Run | null} */
  run = null;

  /** Its sound. @type {Takes | null} */
  takes = null;

  /** @type {Transport | null} */
  controls = null;

  /** What is hidden in the trial: X in ABX, A in a preference. @type {Side} */
  x = "baseline";

  stage = h("div", { class: "stage" });
  results = h("div", { class: "results" });
  status = h("p", { role: "status", class: "status" });

  /** @type {(Comparison & { votes: Votes }) | null} */
  #opened = null;

  /** The buttons for A, B and X. @type {HTMLButtonElement[]} */
  #choices = [];

  #listener = "";

  /** Ends the keys. */
  #unregister = () => {};

  /** Ends the updates of the controls. */
  #unfollow = () => {};

  /** @param {Comparison} comparison */
  open(comparison) {
    const votes = new Votes(comparison.report);
    this.#opened = { ...comparison, votes };
    votes.addEventListener("change", () => this.#showScores());
    this.setAttribute("role", "group");
    this.setAttribute("aria-label", "Blind test");
    const file = votesFile(votes, {
      showStatus: (line) => this.#showStatus(line),
      imported: () => {
        if (!this.run) this.#setUp();
      },
      cleared: () => this.#setUp(),
    });
    this.replaceChildren(this.stage, this.status, this.results, file);
    this.#setUp();
    this.#showScores();
  }

  get votes() {
    return this.#comparison.votes;
  }

  get #comparison() {
    if (!this.#opened) throw new Error("a blind test needs to be opened first");
    return this.#opened;
  }

  connectedCallback() {
    this.#unregister();
    this.#unregister = registerKeys(this, () => {
      const { takes, controls } = this;
      return takes && controls && actionsOf(takes, controls, (event) => this.#press(event));
    });
  }

  disconnectedCallback() {
    this.#unregister();
    this.takes?.pause();
  }

  // Before a run.

  #setUp(focus = false) {
    this.#leave();
    const { baseline, variants, alike = () => false } = this.#comparison;
    /**
     * @param {string} label
     * @param {[string | number, string][]} options  values with what is shown of them
     * @param {string | number} chosen
     * @returns {[HTMLSelectElement, HTMLLabelElement]}
     */
    const pick = (label, options, chosen) => {
      const select = h(
        "select",
        {},
        options.map(([value, text]) => h("option", { value, selected: value === chosen }, text)),
      );
      return [select, h("label", {}, label, select)];
    };
    const against = `${baseline.name} against`;
    const [variant, variantLabel] = pick(against, variants.map(({ name }, n) => [n, name]), 0);
    const [test, testLabel] = pick("Question", Object.entries(TESTS), "abx");
    const [planned, plannedLabel] = pick("Trials", SIZES.map((n) => [n, String(n)]), USUAL);
    const listener = h("input", { autocomplete: "off", maxlength: 60, value: this.#listener });
    const need = h("p", { class: "need" });
    const explain = () => {
      const trials = Number(planned.value);
      need.textContent =
        test.value === "abx"
          ? `X is one of both: which? ${hitsNeeded(trials)} of ${trials} must be right; ` +
            "guessing manages that less than once in 20 runs."
          : "Which is better, A or B? They change places at random. “No difference” is an " +
            "answer, and counts for neither.";
    };
    const ask = () => {
      test.value = alike(variants[Number(variant.value)]) ? "preference" : "abx";
      explain();
    };
    [test, planned].forEach((select) => select.addEventListener("change", explain));
    variant.addEventListener("change", ask);
    ask();
    const start = h("button", { type: "submit", class: "primary" }, "Start");
    const form = h(
      "form",
      {
        onsubmit: (event) => {
          event.preventDefault();
          this.#listener = listener.value.trim();
          this.#start({
            id: random(8),
            test: test.value === "abx" ? "abx" : "preference",
            baseline: baseline.name,
            variant: variants[Number(variant.value)].name,
            listener: this.#listener,
            planned: Number(planned.value),
            started: new Date().toISOString(),
            stopped: false,
            votes: [],
          });
        },
      },
      variantLabel, testLabel, plannedLabel,
      h("label", {}, "Listener", listener),
      start,
    );
    this.stage.replaceChildren(form, need, ...this.#unfinished());
    if (focus) start.focus();
  }

  #unfinished() {
    return this.votes.runs
      .filter((run) => !over(run) && this.#variantOf(run))
      .map((run) =>
        h(
          "p",
          { class: "unfinished" },
          `A run with ${run.variant} stands at ${run.votes.length} of ${run.planned}. `,
          h("button", { type: "button", onclick: () => this.#start(run) }, "Go on"), " ",
          h("button", { type: "button", onclick: () => this.#stop(run) }, "End it"),
        ),
      );
  }

  /** @param {Run} run */
  #variantOf(run) {
    return this.#comparison.variants.find((variant) => variant.name === run.variant);
  }

  // A run.

  /** @param {Run} run */
  async #start(run) {
    const { baseline, join = null } = this.#comparison;
    const variant = this.#variantOf(run);
    if (!variant) return;
    this.run = run;
    useKeys(this);
    this.results.hidden = true;
    this.#showStatus("");
    this.votes.save(run);
    const takes = new Takes([baseline, variant], { dip: true });
    const controls = transport(takes, join);
    this.takes = takes;
    this.controls = controls;
    this.#unfollow = follow(takes, controls.update);
    this.#trial(run);
    await takes.load();
    // What comes before the join is the same in both.
    if (join !== null && this.run === run) controls.loop("continuation");
  }

  /** @param {Run} run */
  #trial(run) {
    const abx = run.test === "abx";
    this.x = SIDES[randomBit()];
    /** @type {[string, string][]} */
    const labels = abx
      ? [["A", ` ${run.baseline}`], ["B", ` ${run.variant}`], ["X", " unknown"]]
      : [["A", ""], ["B", ""]];
    this.#choices = labels.map(([label, known], index) =>
      h(
        "button",
        { type: "button", "aria-pressed": "false", onclick: () => this.#listen(index) },
        h("b", {}, label), known,
        h("kbd", {}, String(index + 1)),
      ),
    );
    const answers = abx ? ["X is A", "X is B"] : ["A is better", "B is better", "No difference"];
    const question = h(
      "h3",
      { tabindex: -1 },
      `Trial ${run.votes.length + 1} of ${run.planned}: `,
      abx ? "is X A or B?" : "which is better?",
    );
    this.stage.replaceChildren(
      question,
      h("progress", { max: run.planned, value: run.votes.length, "aria-label": "Trials done" }),
      ...(this.controls ? [this.controls] : []),
      h("div", { class: "choices", role: "group", "aria-label": "Listen to" }, this.#choices),
      h(
        "div",
        { class: "answers", role: "group", "aria-label": "Answer" },
        answers.map((answer, index) =>
          h(
            "button",
            { type: "button", class: "primary", onclick: () => this.#answer(index) },
            answer,
            h("kbd", {}, `Shift ${"ABN"[index]}`),
          ),
        ),
      ),
      quiet("End this run", () => this.#stop(run)),
    );
    this.#listen(abx ? 2 : 0);
    question.focus({ preventScroll: true });
  }

  /**
   * Switch to A, B or X.
   *
   * @param {number} index
   */
  #listen(index) {
    const abx = this.run?.test === "abx";
    const hidden = SIDES.indexOf(this.x);
    this.takes?.select(abx ? (index === 2 ? hidden : index) : index === 0 ? hidden : 1 - hidden);
    this.#choices.forEach((choice, n) => choice.setAttribute("aria-pressed", String(n === index)));
  }

  /** @param {number} index */
  #answer(index) {
    const { run, x } = this;
    if (!run) return;
    const other = SIDES[1 - SIDES.indexOf(x)];
    /** @type {(Side | "none")[]} */
    const preferences = [x, other, "none"];
    const answer = run.test === "abx" ? SIDES[index] : preferences[index];
    run.votes.push({ at: new Date().toISOString(), x, answer });
    this.votes.save(run);
    if (over(run)) this.#finish(run);
    else this.#trial(run);
  }

  /** @param {Run} run */
  #stop(run) {
    run.stopped = true;
    this.votes.save(run);
    this.#finish(run);
  }

  /** @param {Run} run */
  #finish(run) {
    this.#setUp(true);
    const [mine] = run.votes.length ? scores([run]) : [];
    this.status.textContent = mine ? verdict(mine) : "Ended before the first answer.";
  }

  #leave() {
    this.takes?.pause();
    this.#unfollow();
    this.takes = this.controls = this.run = null;
    this.results.hidden = false;
  }

  /** @param {KeyboardEvent} event */
  #press(event) {
    if (!this.run) return false;
    const key = event.key.toLowerCase();
    const answer = "abn".indexOf(key);
    if (event.shiftKey && answer >= 0 && answer < (this.run.test === "abx" ? 2 : 3)) {
      // A key held down is one answer, not ten.
      if (!event.repeat) this.#answer(answer);
      return true;
    }
    const index = /^[1-3]$/.test(key) ? Number(key) - 1 : "abx".indexOf(key);
    if (event.shiftKey || index < 0 || index >= this.#choices.length) return false;
    this.#listen(index);
    return true;
  }

  // After it.

  #showScores() {
    const { votes, baseline } = this.#comparison;
    this.results.replaceChildren(...scoreList(votes, baseline.name));
  }

  /** @param {string} text */
  #showStatus(text) {
    this.status.textContent = text;
  }
}

function randomBit() {
  return crypto.getRandomValues(new Uint8Array(1))[0] & 1;
}

/**
 * @param {number} bytes
 * @returns {string} hexadecimal
 */
function random(bytes) {
  const values = crypto.getRandomValues(new Uint8Array(bytes));
  return Array.from(values, (value) => value.toString(16).padStart(2, "0")).join("");
}

customElements.define("segue-blind", SegueBlind);
