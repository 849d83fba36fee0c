// <segue-blind>: a blind test of one variant against the baseline, trial by trial.
//
// ABX: A is the baseline, B the variant, X one of both; which?  Preference: A and B are both, in an
// order that nobody knows; which is better?  Scores stay hidden until a run is over: a listener who
// stops when the score looks good finds differences where there are none.

import { h } from "./dom.js";
import { ALPHA, hitsNeeded } from "./stats.js";
import { Takes } from "./takes.js";
import { follow, keys, transport } from "./transport.js";
import { verdict } from "./verdict.js";
import { over, scores, Votes } from "./votes.js";

const SIDES = ["baseline", "variant"];
const TESTS = { abx: "ABX", preference: "Preference" };
const SIZES = [5, 10, 16, 24, 32];

/** 16: someone who is right four times in five passes four times in five; 24 takes long. */
const USUAL = 16;

class SegueBlind extends HTMLElement {
  /**
   * Offer tests of `variants` against `baseline`, all Sources.
   * `report` names what the votes are for; `join`, in seconds, is where the continuation starts.
   */
  open({ report, baseline, variants, join = null }) {
    Object.assign(this, { baseline, variants, join });
    this.votes = new Votes(report);
    this.votes.addEventListener("change", () => this.#showScores());
    this.stage = h("div", { class: "stage" });
    this.results = h("div", { class: "results" });
    this.status = h("p", { role: "status", class: "status" });
    this.setAttribute("role", "group");
    this.setAttribute("aria-label", "Blind test");
    this.replaceChildren(this.stage, this.status, this.results, this.#file());
    this.#setUp();
    this.#showScores();
  }

  connectedCallback() {
    if (this.listening) return;
    this.listening = true;
    keys(this, () => this, (event) => this.#press(event));
  }

  // Before a run.

  #setUp(focus = false) {
    this.#leave();
    const pick = (label, options, chosen) => {
      const select = h(
        "select",
        {},
        options.map(([value, text]) => h("option", { value, selected: value === chosen }, text)),
      );
      return [select, h("label", {}, label, select)];
    };
    const names = this.variants.map((variant, index) => [index, variant.name]);
    const [variant, variantLabel] = pick(`${this.baseline.name} against`, names, 0);
    const [test, testLabel] = pick("Question", Object.entries(TESTS), "abx");
    const [planned, plannedLabel] = pick("Trials", SIZES.map((n) => [n, String(n)]), USUAL);
    const listener = h("input", { autocomplete: "off", maxlength: 60, value: this.listener ?? "" });
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
    [test, planned].forEach((select) => select.addEventListener("change", explain));
    explain();
    const start = h("button", { type: "submit", class: "primary" }, "Start");
    const form = h(
      "form",
      {
        onsubmit: (event) => {
          event.preventDefault();
          this.listener = listener.value.trim();
          this.#run({
            id: random(8),
            test: test.value,
            baseline: this.baseline.name,
            variant: this.variants[variant.value].name,
            listener: this.listener,
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
          h("button", { type: "button", onclick: () => this.#run(run) }, "Go on"), " ",
          h("button", { type: "button", onclick: () => this.#stop(run) }, "End it"),
        ),
      );
  }

  #variantOf(run) {
    return this.variants.find((variant) => variant.name === run.variant);
  }

  // A run.

  async #run(run) {
    this.run = run;
    this.results.hidden = true;
    this.#say("");
    this.votes.save(run);
    const variant = this.#variantOf(run);
    this.takes = new Takes([this.baseline, variant], { dip: true });
    this.controls = transport(this.takes, this.join);
    this.unfollow = follow(this.takes, () => this.controls.update());
    this.#trial();
    await this.takes.load();
    // What comes before the join is the same in both.
    if (this.join !== null && this.run === run) this.controls.loop("continuation");
  }

  #trial() {
    const { run } = this;
    const abx = run.test === "abx";
    this.x = SIDES[randomBit()];
    this.labels = abx ? ["A", "B", "X"] : ["A", "B"];
    const known = abx ? { A: ` ${run.baseline}`, B: ` ${run.variant}`, X: " unknown" } : {};
    this.choices = this.labels.map((label, index) =>
      h(
        "button",
        { type: "button", "aria-pressed": "false", onclick: () => this.#listen(index) },
        h("b", {}, label), known[label] ?? "",
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
      this.controls,
      h("div", { class: "choices", role: "group", "aria-label": "Listen to" }, this.choices),
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

  /** Hear A, B or X. */
  #listen(index) {
    const abx = this.run.test === "abx";
    const hidden = SIDES.indexOf(this.x);
    this.takes.select(abx ? (index === 2 ? hidden : index) : index === 0 ? hidden : 1 - hidden);
    this.choices.forEach((choice, n) => choice.setAttribute("aria-pressed", String(n === index)));
  }

  #answer(index) {
    const { run, x } = this;
    const other = SIDES[1 - SIDES.indexOf(x)];
    const answer = run.test === "abx" ? SIDES[index] : [x, other, "none"][index];
    run.votes.push({ at: new Date().toISOString(), x, answer });
    this.votes.save(run);
    if (over(run)) this.#finish(run);
    else this.#trial();
  }

  #stop(run) {
    run.stopped = true;
    this.votes.save(run);
    this.#finish(run);
  }

  #finish(run) {
    this.#setUp(true);
    const [mine] = run.votes.length ? scores([run]) : [];
    this.status.textContent = mine ? verdict(mine) : "Ended before the first answer.";
  }

  #leave() {
    this.takes?.pause();
    this.unfollow?.();
    this.takes = this.controls = this.run = null;
    this.results.hidden = false;
  }

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
    if (event.shiftKey || index < 0 || index >= this.labels.length) return false;
    this.#listen(index);
    return true;
  }

  // After it.

  #showScores() {
    const found = scores(this.votes.runs).filter((score) => score.trials > 0);
    this.results.replaceChildren();
    if (!found.length) return;
    this.results.append(
      h("h3", {}, "Votes so far"),
      h(
        "ul",
        {},
        found.map((score) =>
          h(
            "li",
            {},
            h("b", {}, TESTS[score.test]),
            ` · ${this.baseline.name} and ${score.variant}`,
            score.listener && ` · ${score.listener}`,
            h("p", {}, verdict(score)),
          ),
        ),
      ),
    );
    if (found.length > 1) {
      const chance = Math.round(100 * (1 - (1 - ALPHA) ** found.length));
      const note = `Of ${found.length} questions, one has p below ${ALPHA} by chance alone`;
      this.results.append(h("p", { class: "note" }, `${note} in ${chance} % of cases.`));
    }
  }

  #file() {
    const chooser = h("input", {
      type: "file",
      accept: "application/json,.json",
      hidden: true,
      onchange: async () => {
        try {
          const added = this.votes.merge(await chooser.files[0].text());
          this.#say(`${added} new ${added === 1 ? "run" : "runs"} taken in.`);
        } catch (error) {
          this.#say(error.message);
        }
        chooser.value = "";
        if (!this.run) this.#setUp();
      },
    });
    const clear = quiet("Clear votes", () => {
      if (!clear.dataset.sure) {
        clear.dataset.sure = true;
        clear.textContent = "Clear them for good?";
        return;
      }
      delete clear.dataset.sure;
      clear.textContent = "Clear votes";
      this.votes.clear();
      this.#setUp();
      this.#say("No votes are left.");
    });
    clear.onblur = () => {
      delete clear.dataset.sure;
      clear.textContent = "Clear votes";
    };
    if (!this.votes.kept) {
      this.#say("This browser keeps nothing for this page: export your votes before you close it.");
    }
    return h(
      "div",
      { class: "file" },
      quiet("Export votes", () => this.#save()),
      quiet("Import votes", () => chooser.click()),
      chooser,
      clear,
    );
  }

  #save() {
    const text = JSON.stringify(this.votes.exported(), null, 2);
    const url = URL.createObjectURL(new Blob([text], { type: "application/json" }));
    h("a", { href: url, download: `votes-${this.votes.report}.json` }).click();
    setTimeout(() => URL.revokeObjectURL(url), 1000);
  }

  #say(text) {
    this.status.textContent = text;
  }
}

function quiet(text, onclick) {
  return h("button", { type: "button", class: "quiet", onclick }, text);
}

function randomBit() {
  return crypto.getRandomValues(new Uint8Array(1))[0] & 1;
}

function random(bytes) {
  const values = crypto.getRandomValues(new Uint8Array(bytes));
  return Array.from(values, (value) => value.toString(16).padStart(2, "0")).join("");
}

customElements.define("segue-blind", SegueBlind);
