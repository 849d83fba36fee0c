// The service behind the page: looked for until it answers, and what it says of itself.

import { h } from "../shared/dom.js";
import * as api from "./api.js";
import { sentence } from "./format.js";

/** How long to wait before the service is looked for again, in milliseconds. */
const AGAIN = 3000;

/** MusicGen's window has 30 s; a second of it stays to continue in. */
const LONGEST_PROMPT = 29;

export class Connection {
  #about;
  #stage;

  /** `about` is where the service is described; `stage` is where it asks for its token. */
  constructor(about, stage) {
    this.#about = about;
    this.#stage = stage;
  }

  /** The answer of `/api/service`, with `limits` as `limitsOf` has them, once there is one. */
  async open() {
    for (;;) {
      try {
        return await this.refresh();
      } catch (error) {
        if (error.status === 401) {
          await this.#askForToken(error.message);
        } else if (error instanceof api.ServiceError) {
          this.#about.textContent = `${error.message} Looking for it again.`;
          await new Promise((done) => setTimeout(done, AGAIN));
        } else {
          throw error;
        }
      }
    }
  }

  /** The same, asked for once. Throws a ServiceError if it does not answer. */
  async refresh() {
    const answer = await api.service();
    const service = {
      ...answer,
      models: answer.models ?? [],
      limits: limitsOf(answer.limits ?? {}),
    };
    this.#introduce(service);
    return service;
  }

  #introduce({ engine, device, version }) {
    // Which engine "auto" is shows when it has run.
    const known = [engine !== "auto" && engine, device].filter(Boolean).map(spelled);
    this.#about.textContent = [known.join(" on "), version && `version ${version}`]
      .filter(Boolean)
      .join(", ");
  }

  #askForToken(line) {
    return new Promise((done) => {
      const token = h("input", { type: "password", autocomplete: "off", required: true });
      const form = h(
        "form",
        {
          class: "token",
          onsubmit: (event) => {
            event.preventDefault();
            api.keepToken(token.value.trim());
            form.remove();
            done();
          },
        },
        h("label", { class: "field" }, h("span", {}, "Token"), token),
        h("button", { type: "submit", class: "primary" }, "Open"),
        h("p", { class: "note" }, sentence(line)),
      );
      this.#stage.replaceChildren(form);
      token.focus();
    });
  }
}

/** What may be sent; what the service does not say is null, or what it is known to take. */
function limitsOf(said) {
  // Base64 takes four bytes for three, and the parameters some more.
  const bytes = said.body_bytes ? Math.floor((said.body_bytes - 65_536) * 0.75) : null;
  return {
    bytes,
    seconds: said.audio_seconds ?? null,
    output: said.output_seconds ?? 300,
    prompt: Math.min(LONGEST_PROMPT, said.prompt_seconds ?? LONGEST_PROMPT),
    variations: Math.min(4, said.variations ?? 4),
    description: said.description ?? 2000,
  };
}

function spelled(name) {
  return { openvino: "OpenVINO", mlx: "MLX", cpu: "CPU", gpu: "GPU" }[name.toLowerCase()] ?? name;
}
