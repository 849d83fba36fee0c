// @ts-check
// What is seen of a job from the queue to its end.

import { h } from "../shared/dom.js";
import { complain } from "./complaint.js";
import { sentence } from "./format.js";
import { timeline } from "./timeline.js";

/** @import { Peaks } from "../shared/waveform.js" */
/** @import { Job } from "../../types/service.js" */
/** @import { JobAbout } from "./job_about.js" */
/** @import { StreamPlayer } from "./stream_player.js" */

/** The shortest time between two pictures while sound comes, in milliseconds. */
const REDRAW_MS = 150;

/**
 * What the view's controls do.
 *
 * @typedef {object} Handlers
 * @property {() => void} toggle  play or pause
 * @property {() => void} stop
 * @property {() => void} cancel
 */

export class JobView {
  heading = h("h3", { tabindex: -1 });

  #about;
  #phase = h("span", { role: "status" }, "Waiting");
  #detail = h("span", { class: "detail" });
  #status = h("p", { class: "standing" }, this.#phase, " ", this.#detail);
  #trouble = h("p", { role: "alert", class: "complaint" });
  #bar = h("progress", { max: 100, "aria-label": "Progress" });
  #timeline = timeline();
  #takes = h("div", { class: "segments", role: "radiogroup", "aria-label": "Take to hear" });
  #lag = h("span", { class: "note", hidden: true }, "The music waits for the model.");
  #play;
  #stop;
  #cancel;
  #buttons;

  #frame = 0;

  /** The next picture's timer. @type {number | null} */
  #drawing = null;

  /**
   * @param {Job} job
   * @param {JobAbout} about
   * @param {Handlers} handlers
   */
  constructor(job, about, { toggle, stop, cancel }) {
    this.#about = about;
    this.#play = h(
      "button",
      { type: "button", class: "play", hidden: true, onclick: toggle },
      "Listen",
    );
    this.#stop = h("button", { type: "button", hidden: true, onclick: stop }, "Stop listening");
    this.#cancel = h("button", { type: "button", onclick: cancel }, "Cancel");
    this.#buttons = h(
      "div",
      { class: "buttons" },
      this.#play, this.#stop, this.#takes, this.#cancel, this.#lag,
    );
    this.element = h(
      "article",
      { class: "run", "aria-label": "A run" },
      h("div", { class: "run-head" }, this.heading, h("p", { class: "note" }, origin(job, about))),
      this.#timeline,
      this.#bar,
      this.#status,
      this.#trouble,
      this.#buttons,
    );
  }

  /**
   * Show where the job stands.
   *
   * @param {string} phase
   * @param {string} detail
   */
  showStatus(phase, detail) {
    // Only what is new is read out.
    if (this.#phase.textContent !== phase) this.#phase.textContent = phase;
    this.#detail.textContent = detail;
  }

  /** @param {number | null} percent  null if nobody knows */
  showProgress(percent) {
    if (percent === null) this.#bar.removeAttribute("value");
    else this.#bar.value = percent;
  }

  /**
   * Show what went wrong.
   *
   * @param {unknown} error
   */
  showError(error) {
    complain(this.#trouble, error);
  }

  /**
   * Show that the job has failed, with the buttons that remain.
   *
   * @param {string} line
   * @param {HTMLElement[]} buttons
   */
  showFailure(line, buttons) {
    this.#bar.hidden = true;
    this.#status.hidden = true;
    this.#trouble.textContent = sentence(line);
    this.element.classList.add("failed");
    this.#buttons.replaceChildren(...buttons);
  }

  /** @param {boolean} on  while the job is being cancelled */
  showCancelling(on) {
    this.#cancel.disabled = on;
  }

  /**
   * Offer the takes that are generated together.
   *
   * @param {number} takes
   * @param {string} name  of the radio buttons
   * @param {(take: number) => void} select
   */
  showTakes(takes, name, select) {
    const choices = Array.from({ length: takes }, (_, take) => {
      const onchange = () => select(take);
      const radio = h("input", { type: "radio", name, checked: take === 0, onchange });
      const unseen = h("span", { class: "unseen" }, "Take ");
      return h("label", {}, radio, h("span", {}, unseen, String(take + 1)));
    });
    this.#takes.replaceChildren(...(takes > 1 ? choices : []));
  }

  /**
   * Draw the tracks now.
   *
   * @param {Peaks[]} peaks
   */
  draw(peaks) {
    const { seconds, output, grid } = this.#about;
    const loudest = Math.max(0.05, ...peaks.map((one) => one.loudest));
    this.#timeline.show({ peaks, seconds: output, join: seconds, loudest, grid });
  }

  /**
   * Draw the tracks soon: more sound may come until then.
   *
   * @param {Peaks[]} peaks
   */
  drawSoon(peaks) {
    this.#drawing ??= setTimeout(() => {
      this.#drawing = null;
      this.draw(peaks);
    }, REDRAW_MS);
  }

  /**
   * Show the player's state, frame by frame while it plays.
   *
   * @param {StreamPlayer} player
   */
  showPlayer(player) {
    const playable = player.available > player.join;
    const active = player.playing || player.requested;
    this.#play.hidden = !playable;
    this.#stop.hidden = !playable || !active;
    this.#play.textContent = active ? "Pause" : "Listen";
    cancelAnimationFrame(this.#frame);
    const tick = () => {
      player.check();
      const idle = !player.playing && (player.offset === 0 || !playable);
      this.#timeline.at(idle ? null : player.currentTime);
      this.#lag.hidden = !player.waiting;
      if (player.playing) this.#frame = requestAnimationFrame(tick);
    };
    tick();
  }

  /** Draw nothing any more. */
  close() {
    if (this.#drawing !== null) clearTimeout(this.#drawing);
    this.#drawing = null;
    cancelAnimationFrame(this.#frame);
  }
}

/**
 * @param {Job} job
 * @param {JobAbout} about
 */
function origin({ melody }, { file, parameters }) {
  const texts = parameters.descriptions?.length
    ? parameters.descriptions
    : [parameters.description];
  const words = texts.filter(Boolean).map((text) => `, “${text}”`);
  return `from ${file}${melody && file !== "a melody alone" ? ", after a melody" : ""}${words.join("")}`;
}
