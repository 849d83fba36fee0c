// @ts-check
// The generation parameters: a form, and what it last held in this tab.

import { h } from "../shared/dom.js";
import { adaptersField } from "./adapters_field.js";
import { clear, complain } from "./complaint.js";
import { modeName } from "./format.js";
import { lengthField } from "./length_field.js";
import { melodyField } from "./melody_field.js";
import { modelField } from "./model_field.js";
import { partsField } from "./parts_field.js";
import { wordsField } from "./words_field.js";

/** @import { GenerationParameters } from "../../types/service.js" */
/** @import { Grid } from "../shared/grid.js" */
/** @import { Service } from "./connection.js" */
/** @import { Length } from "./length_field.js" */
/** @import { Part } from "./parts_field.js" */

/**
 * What the form holds: the parameters, and what only the page uses. `length` is of the
 * continuation's first part, `then` are the further ones; with `listen`, jobs play while they are
 * generated.
 *
 * @typedef {GenerationParameters & { length: Length, then: Part[], listen: boolean }} Values
 */

/**
 * What is stored of them: a seed that nobody chose is empty; `finer` is whether those are unfolded.
 *
 * @typedef {Partial<Omit<Values, "seed" | "length" | "then">> & {
 *   seed?: number | "", length?: number, finer?: boolean
 * }} Stored
 */

/** @typedef {{ min: number, max: number, step: number | "any" }} Range */

/** @typedef {ReturnType<typeof parametersForm>} ParametersForm */

const STORED = "segue.wishes";

/**
 * A form on what the service offers. Events: `change`, `submit` from its button, and `arrived`
 * (a model has been downloaded).
 *
 * @param {Service} service
 */
export function parametersForm(service) {
  const { limits } = service;
  const saved = stored();
  const model = modelField(service.models, saved.model_name ?? service.default_model);
  const mode = h("select", { name: "quantization_mode", "aria-describedby": "mode-note" });
  const modes = service.quantization?.modes ?? [];
  const usual = service.quantization?.default_mode ?? "none";
  for (const name of modes.length ? modes : [usual]) {
    const label = name === usual ? `${modeName(name)} (the default here)` : modeName(name);
    mode.append(h("option", { value: name, selected: name === usual }, label));
  }
  choose(mode, saved.quantization_mode);
  mode.disabled = modes.length < 2;
  const modeNote = h(
    "small",
    { id: "mode-note" },
    mode.disabled
      ? "This service offers no other."
      : "Fewer bits: faster, less memory, a little worse.",
  );
  const words = wordsField(limits.description, limits.variations, saved);
  const melody = melodyField(limits);
  const adapters = adaptersField(service.adapters ?? [], saved.adapters);
  const length = lengthField("Plays on for", saved.length ?? 24);
  const parts = partsField(limits.description, limits.parts);
  const variations = h(
    "span",
    { class: "segments", role: "radiogroup", "aria-label": "Takes" },
    Array.from({ length: limits.variations }, (_, n) =>
      h(
        "label",
        {},
        h("input", {
          type: "radio",
          name: "variations",
          value: n + 1,
          checked: n + 1 === (saved.variations ?? 1),
        }),
        h("span", {}, String(n + 1)),
      ),
    ),
  );
  const topK = number("top_k", saved.top_k ?? 250, { min: 0, max: 2048, step: 1 });
  /** @type {Range} */
  const heat = { min: 0, max: 10, step: "any" };
  const temperature = number("temperature", saved.temperature ?? 1, heat);
  const guidance = number("cfg_coef", saved.cfg_coef ?? 3, { min: 0, max: 20, step: "any" });
  const seed = number("seed", saved.seed ?? "", { min: 0, max: 2 ** 32 - 1, step: 1 });
  seed.placeholder = "random";
  seed.required = false;
  const listen = h("input", { type: "checkbox", name: "listen", checked: saved.listen ?? true });
  const go = h("button", { type: "submit", class: "primary generate" }, "Generate");
  const summary = h("p", { class: "sum" });
  const complaint = h("p", { role: "alert", class: "complaint" });

  const finer = h(
    "details",
    { class: "finer", open: Boolean(saved.finer) },
    h("summary", {}, "Finer controls"),
    h(
      "div",
      { class: "finer-fields" },
      field("Top k", topK, h("small", {}, "draw from the k likeliest; 0: all")),
      field("Temperature", temperature, h("small", {}, "higher is wilder; 0 repeats itself")),
      field("Guidance", guidance, h("small", {}, "how much the words count")),
      field("Seed", seed, h("small", {}, "the same number, the same music")),
    ),
  );
  const form = h(
    "form",
    { class: "parameters", "aria-label": "What to play" },
    model,
    field("Quantization", mode, modeNote, "mode"),
    words,
    length,
    h("div", { class: "field takes" }, h("span", {}, "Takes"), variations),
    parts,
    melody,
    adapters,
    finer,
    h(
      "div",
      { class: "go" },
      go,
      h("div", {}, summary, h("label", { class: "listen" }, listen, " Listen while it is made")),
      complaint,
    ),
  );

  const takes = () => Number(new FormData(form).get("variations") ?? 1);
  /**
   * `seed` is -1 to draw one.
   *
   * @returns {Values}
   */
  const parameters = () => ({
    model_name: model.path(),
    quantization_mode: mode.disabled ? undefined : mode.value,
    ...words.words(),
    adapters: adapters.adapters(),
    length: length.length(),
    then: parts.parts(),
    variations: takes(),
    top_k: Number(topK.value),
    temperature: Number(temperature.value),
    cfg_coef: Number(guidance.value),
    seed: seed.value === "" ? -1 : Number(seed.value),
    listen: listen.checked,
  });
  const save = () => store(parameters(), finer.open);
  const explain = () => {
    const chosen = model.model();
    words.suggest(chosen?.description || "strings and piano, slow");
    words.fit(takes());
    melody.offer(Boolean(chosen?.takes?.includes("melody")));
  };
  let prompted = true;
  const demand = () => words.require(!prompted && !melody.file());
  melody.addEventListener("melody", demand);
  form.addEventListener("input", () => {
    model.explain();
    explain();
    clear(complaint);
    form.dispatchEvent(new Event("change"));
  });
  model.addEventListener("arrived", () => form.dispatchEvent(new Event("arrived")));
  parts.addEventListener("parts", () => form.dispatchEvent(new Event("change")));
  finer.addEventListener("toggle", save);
  explain();

  let busy = false;
  go.addEventListener("click", (event) => {
    length.check();
    parts.check();
    if (busy) event.preventDefault();
  });

  // A wrong number in there would be complained about where nobody sees it.
  /** @param {Event} event */
  const unfold = ({ target }) => {
    if (target instanceof Node && finer.contains(target)) finer.open = true;
  };
  form.addEventListener("invalid", unfold, true);

  return Object.assign(form, {
    parameters,
    /** The melody that the model is to follow, or null. */
    melodyFile: () => melody.file(),
    /** @param {boolean} on  whether there is a prompt; without one, words are needed */
    expectPrompt(on) {
      prompted = on;
      demand();
    },
    store: save,
    /** @param {unknown} error  what went wrong; null to clear it */
    showError(error) {
      if (error === null) clear(complaint);
      else complain(complaint, error);
    },
    /** @param {string} line  what the parameters come to */
    summarize(line) {
      summary.textContent = line;
    },
    /**
     * Offer the models anew: one may have been downloaded.
     *
     * @param {Service} service
     */
    refresh(service) {
      model.refresh(service.models);
      explain();
    },
    /** @param {string | null} line  on the button, while it cannot be used; null when it can */
    busy(line) {
      // Not disabled: the focus would be lost.
      busy = line !== null;
      go.setAttribute("aria-disabled", String(busy));
      go.textContent = line ?? "Generate";
    },
    focusGenerate: () => go.focus(),
    /**
     * Count lengths in this grid's bars, or in seconds alone.
     *
     * @param {Grid | null} grid
     */
    count(grid) {
      length.count(grid);
      parts.count(grid);
    },
    /**
     * Leave room for a prompt in the longest output.
     *
     * @param {number} prompt  in seconds
     */
    limitLength(prompt) {
      const further = parts.parts().reduce((sum, part) => sum + part.length.seconds, 0);
      length.limit(Math.max(1, limits.output - prompt - further));
    },
  });
}

/**
 * Choose an option, if there is one of that value.
 *
 * @param {HTMLSelectElement} select
 * @param {string | undefined} value
 */
function choose(select, value) {
  const option = [...select.options].find((one) => one.value === value);
  if (option) select.value = option.value;
}

/**
 * @param {string} label
 * @param {HTMLElement} control
 * @param {HTMLElement | null} note
 * @param {string} [name]  a class
 */
function field(label, control, note, name = "") {
  return h("label", { class: `field ${name}` }, h("span", {}, label), control, note);
}

/**
 * @param {string} name
 * @param {number | ""} value
 * @param {Range} range
 */
function number(name, value, { min, max, step }) {
  const range = { min, max, step, inputmode: "decimal" };
  return h("input", { type: "number", name, value, required: true, ...range });
}

/** @returns {Stored} */
function stored() {
  try {
    const found = JSON.parse(sessionStorage.getItem(STORED) ?? "{}");
    return typeof found === "object" && !Array.isArray(found) ? (found ?? {}) : {};
  } catch {
    return {};
  }
}

/**
 * @param {Values} values
 * @param {boolean} finer
 */
function store(values, finer) {
  try {
    const { then: _, length, ...rest } = values;
    const seed = values.seed === -1 ? "" : values.seed;
    // Of what is counted in bars, the tempo is not stored.
    const kept = length.bars === null ? { length: length.seconds } : {};
    sessionStorage.setItem(STORED, JSON.stringify({ ...rest, ...kept, seed, finer }));
  } catch {
    // Without storage, the form starts afresh after a reload.
  }
}
