// @ts-check
// The service behind the page: looked for until it answers, and what it offers.

import { h } from "../shared/dom.js";
import * as api from "./api.js";
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
        if (!(error instanceof api.ServiceError)) throw error;
        if (error.status === 401) {
          await this.#askForToken(error.message);
        } else {
          this.#about.textContent = `${error.message} Looking for it again.`;
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
        api.storeToken(token.value.trim());
        form.remove();
        done();
      });
      this.#stage.replaceChildren(form);
      token.focus();
    });
  }
}

/**
 * What may be sent, in bytes, seconds, takes and characters; what the service leaves out is null,
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
  };
}

/** @param {string} name  of an engine or a device */
function displayName(name) {
  /** @type {Record<string, string>} */
  const names = { openvino: "OpenVINO", mlx: "MLX", cpu: "CPU", gpu: "GPU" };
  return names[name.toLowerCase()] ?? name;
}
