// What is asked of the model: a form, and what was last asked in this tab.

import { h } from "../shared/dom.js";
import { modeName, shortName, size } from "./format.js";

const KEPT = "segue.wishes";
const SIZES = ["small", "medium", "large"];

/**
 * A form on what `service` (the answer of `/api/service`, with `limits` as `limitsOf` has them)
 * offers. Events: `change`, and `submit` from its button.
 */
export function parametersForm(service) {
  const { limits } = service;
  const kept = stored();
  const described = { name: "model_name", "aria-describedby": "model-note" };
  const model = h("select", described, models(service));
  choose(model, kept.model_name ?? service.default_model);
  const modelNote = h("small", { id: "model-note" });
  const mode = h("select", { name: "quantization_mode", "aria-describedby": "mode-note" });
  const modes = service.quantization?.modes ?? [];
  const usual = service.quantization?.default_mode ?? "none";
  for (const name of modes.length ? modes : [usual]) {
    const label = name === usual ? `${modeName(name)} (the default here)` : modeName(name);
    mode.append(h("option", { value: name, selected: name === usual }, label));
  }
  choose(mode, kept.quantization_mode);
  mode.disabled = modes.length < 2;
  const modeNote = h(
    "small",
    { id: "mode-note" },
    mode.disabled
      ? "This service offers no other."
      : "Fewer bits: faster, less memory, a little worse.",
  );
  const text = h("input", {
    name: "description",
    autocomplete: "off",
    maxlength: limits.description,
    value: kept.description ?? "",
  });
  const length = number("length", kept.length ?? 24, { min: 1, max: limits.output, step: 1 });
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
          checked: n + 1 === (kept.variations ?? 1),
        }),
        h("span", {}, String(n + 1)),
      ),
    ),
  );
  const topK = number("top_k", kept.top_k ?? 250, { min: 0, max: 2048, step: 1 });
  const warmth = { min: 0, max: 10, step: "any" };
  const temperature = number("temperature", kept.temperature ?? 1, warmth);
  const guidance = number("cfg_coef", kept.cfg_coef ?? 3, { min: 0, max: 20, step: "any" });
  const seed = number("seed", kept.seed ?? "", { min: 0, max: 2 ** 32 - 1, step: 1 });
  seed.placeholder = "random";
  seed.required = false;
  const listen = h("input", { type: "checkbox", name: "listen", checked: kept.listen ?? true });
  const go = h("button", { type: "submit", class: "primary generate" }, "Generate");
  const sum = h("p", { class: "sum" });
  const complaint = h("p", { role: "alert", class: "complaint" });

  const form = h(
    "form",
    { class: "wishes", "aria-label": "What to play" },
    field("Model", model, modelNote, "model"),
    field("Quantization", mode, modeNote, "mode"),
    field("In words, if you like", text, null, "words"),
    field("Plays on for", h("span", { class: "unit" }, length, " s"), null, "length"),
    h("div", { class: "field takes" }, h("span", {}, "Takes"), variations),
    h(
      "details",
      { class: "finer", open: Boolean(kept.finer) },
      h("summary", {}, "Finer controls"),
      h(
        "div",
        { class: "finer-fields" },
        field("Top k", topK, h("small", {}, "draw from the k likeliest; 0: all")),
        field("Temperature", temperature, h("small", {}, "higher is wilder; 0 repeats itself")),
        field("Guidance", guidance, h("small", {}, "how much the words count")),
        field("Seed", seed, h("small", {}, "the same number, the same music")),
      ),
    ),
    h(
      "div",
      { class: "go" },
      go,
      h("div", {}, sum, h("label", { class: "listen" }, listen, " Listen while it is made")),
      complaint,
    ),
  );
  const finer = form.querySelector("details");

  const explain = () => {
    const chosen = model.selectedOptions[0];
    modelNote.textContent = chosen?.dataset.note ?? "";
    text.placeholder = chosen?.dataset.words || "strings and piano, slow";
  };
  form.addEventListener("input", () => {
    explain();
    complaint.textContent = "";
    form.dispatchEvent(new Event("change"));
  });
  finer.addEventListener("toggle", () => keep(form.wanted(), finer.open));
  explain();

  /** The parameters as the service takes them, without the slice; `length` is of what is new. */
  form.wanted = () => ({
    model_name: model.value || undefined,
    quantization_mode: mode.disabled ? undefined : mode.value,
    description: text.value.trim(),
    length: Number(length.value) || 0,
    variations: Number(variations.querySelector(":checked")?.value ?? 1),
    top_k: Number(topK.value),
    temperature: Number(temperature.value),
    cfg_coef: Number(guidance.value),
    seed: seed.value === "" ? -1 : Number(seed.value),
    listen: listen.checked,
  });
  form.keep = () => keep(form.wanted(), finer.open);
  form.say = (line) => (complaint.textContent = line);
  form.sum = (line) => (sum.textContent = line);
  /** Offer the models anew: one may have come down. */
  form.refresh = (again) => {
    const chosen = model.value;
    model.replaceChildren(...models(again));
    choose(model, chosen);
    explain();
  };
  form.busy = (line) => {
    go.disabled = line !== null;
    go.textContent = line ?? "Generate";
  };
  /** The longest continuation that leaves room for a prompt of so many seconds. */
  form.room = (prompt) => (length.max = Math.max(1, Math.floor(limits.output - prompt)));
  // A wrong number in there would be complained about where nobody sees it.
  const unfold = ({ target }) => finer.contains(target) && (finer.open = true);
  form.addEventListener("invalid", unfold, true);
  return form;
}

function models({ models: found }) {
  const groups = new Map([["", []], ...SIZES.map((name) => [name, []])]);
  for (const { name, path, downloaded, size_class: group, bytes, description } of found) {
    const where = SIZES.find((one) => String(group ?? "").includes(one)) ?? "";
    const away = downloaded === false;
    const much = Number(bytes) > 0 ? `, about ${size(Number(bytes))}` : "";
    const note = away
      ? `Not downloaded yet${much}; the first run fetches it.`
      : path === "built-in"
        ? "Small, and always here: for trying things out."
        : "On this machine.";
    groups.get(where).push(
      h(
        "option",
        { value: path ?? name, "data-note": note, "data-words": description },
        `${shortName(name ?? path)}${away ? " (not downloaded yet)" : ""}`,
      ),
    );
  }
  return [...groups].flatMap(([label, options]) =>
    !options.length ? [] : label ? h("optgroup", { label }, options) : options,
  );
}

function choose(select, value) {
  if ([...select.options].some((option) => option.value === value)) select.value = value;
}

function field(label, control, note, name = "") {
  return h("label", { class: `field ${name}` }, h("span", {}, label), control, note);
}

function number(name, value, { min, max, step }) {
  const range = { min, max, step, inputmode: "decimal" };
  return h("input", { type: "number", name, value, required: true, ...range });
}

function stored() {
  try {
    return JSON.parse(sessionStorage.getItem(KEPT)) ?? {};
  } catch {
    return {};
  }
}

function keep(wanted, finer) {
  try {
    const seed = wanted.seed === -1 ? "" : wanted.seed;
    sessionStorage.setItem(KEPT, JSON.stringify({ ...wanted, seed, finer }));
  } catch {
    // Without storage, the form starts afresh after a reload.
  }
}
