// @ts-check
// The service behind the page: looked for until it answers, and what it offers.

import { h } from "../shared/dom.js";
import * as api from "./api.js";
import * as http from "./http.js";
import { sentence } from "./format.js";

/** @import { Model, ServiceAnswer, ServiceLimits } from "../../types/service.js" */

/** How long to wait before the service is looked for again, in milliseconds. */
const RETRY_MS = 3000;

/** MusicGen's window has 30 s; a second of it stays to continue in. */
const LONGEST_PROMPT = 29;

/** @typedef {ReturnType<typeof limitsOf>} Limits */

/** @typedef {Omit<ServiceAnswer, "limits"> & { models: Model[], limits: Limits }} Service */

export class Connection {
  #about;
  #stage;

  /**
   * @param {HTMLElement} about  where the service is described
   * @param {HTMLElement} stage  for the form that asks for its token
   */
  constructor(about, stage) {
    this.#about = about;
    this.#stage = stage;
    http.reachability.addEventListener("lost", () => this.#lookAgain());
  }

  /**
   * The service, once it answers.
   *
   * @returns {Promise<Service>}
   */
  async open() {
    for (;;) {
      try {
        return await this.refresh();
      } catch (error) {
        if (!(error instanceof http.ServiceError)) throw error;
        if (error.status === 401) {
          await this.#askForToken(error.message);
        } else {
          if (error.status) this.#about.textContent = error.message;
          await new Promise((done) => setTimeout(done, RETRY_MS));
        }
      }
    }
  }

  /**
   * The same after one request. Throws a ServiceError if the service does not answer.
   *
   * @returns {Promise<Service>}
   */
  async refresh() {
    const answer = await api.service();
    this.#describe(answer);
    return { ...answer, models: answer.models ?? [], limits: limitsOf(answer.limits ?? {}) };
  }

  /** Say that the service does not answer, until it does. */
  async #lookAgain() {
    let lost = true;
    http.reachability.addEventListener("back", () => (lost = false), { once: true });
    this.#about.textContent = "The service does not answer. Looking for it again.";
    while (lost) {
      await new Promise((done) => setTimeout(done, RETRY_MS));
      if (lost) await this.refresh().catch(() => {});
    }
    await this.refresh().catch(() => {});
  }

  /** @param {ServiceAnswer} answer */
  #describe({ engine, device, version }) {
    // Which engine "auto" is shows when it has run.
    const names = [engine === "auto" ? null : engine, device].filter((name) => name != null);
    this.#about.textContent = [names.map(displayName).join(" on "), version && `version ${version}`]
      .filter(Boolean)
      .join(", ");
  }

  /**
   * @param {string} line  the service's error
   * @returns {Promise<void>}
   */
  #askForToken(line) {
    return new Promise((done) => {
      const token = h("input", { type: "password", autocomplete: "off", required: true });
      const form = h(
        "form",
        { class: "token" },
        h("label", { class: "field" }, h("span", {}, "Token"), token),
        h("button", { type: "submit", class: "primary" }, "Open"),
        h("p", { class: "note" }, sentence(line)),
      );
      form.addEventListener("submit", (event) => {
        event.preventDefault();
        http.storeToken(token.value.trim());
        form.remove();
        done();
      });
      this.#stage.replaceChildren(form);
      token.focus();
    });
  }
}

/**
 * What may be sent, in bytes, seconds, takes, characters and further parts; what the service leaves out is null,
 * or what any service takes.
 *
 * @param {ServiceLimits} answer
 */
function limitsOf(answer) {
  // Base64 takes four bytes for three, and the parameters some more.
  const bytes = answer.body_bytes ? Math.floor((answer.body_bytes - 65_536) * 0.75) : null;
  return {
    bytes,
    seconds: answer.audio_seconds ?? null,
    output: answer.output_seconds ?? 300,
    prompt: Math.min(LONGEST_PROMPT, answer.prompt_seconds ?? LONGEST_PROMPT),
    variations: Math.min(4, answer.variations ?? 4),
    description: answer.description ?? 2000,
    parts: answer.parts ?? 0,
  };
}

/** @param {string} name  of an engine or a device */
function displayName(name) {
  /** @type {Record<string, string>} */
  const names = { openvino: "OpenVINO", mlx: "MLX", cpu: "CPU", gpu: "GPU" };
  return names[name.toLowerCase()] ?? name;
}
