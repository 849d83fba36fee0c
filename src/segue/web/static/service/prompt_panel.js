// @ts-check
// The user's music: a file, a recording or a take, its tempo, and the slice that is the prompt.

import "./slice.js";
import * as api from "./api.js";
import * as http from "./http.js";
import { clear, complain, lineOf } from "./complaint.js";
import { dropZone, receiveDrops } from "./drop_zone.js";
import { seconds, wait } from "./format.js";
import { recordButton } from "./record_button.js";
import { inputOf } from "./sending.js";
import { tempoField } from "./tempo_field.js";
import { inspect, UploadError } from "./upload.js";
import { h } from "../shared/dom.js";
import { registerKeys } from "../shared/keys.js";
import { Source, Takes } from "../shared/takes.js";
import { follow } from "../shared/transport.js";

/** @import { BuiltInPrompt } from "../../types/service.js" */
/** @import { Limits } from "./connection.js" */
/** @import { Grid, Snap } from "../shared/grid.js" */
/** @import { SegueSlice } from "./slice.js" */
/** @import { Found, TempoField } from "./tempo_field.js" */
/** @import { Upload } from "./upload.js" */

/** In seconds. */
const USUAL_PROMPT = 6;

/**
 * How a piece of music is opened: with a tempo that is known, a slice of this length that ends
 * there, both in seconds, and what is said of it.
 *
 * @typedef {object} Opening
 * @property {Found | null} [tempo]
 * @property {number} [end]
 * @property {number} [length]
 * @property {string} [note]
 */

/** Events: `open` (other music is there, or none is wanted), `change` (another slice or tempo). */
export class PromptPanel extends EventTarget {
  /** The music; null as long as there is none, or where none is wanted. @type {Upload | null} */
  upload = null;

  /** Whether the music begins without a prompt. */
  alone = false;

  /** The prompt in it. @type {SegueSlice | null} */
  slice = null;

  #limits;
  #stage;

  /** Whether the service can find a tempo. */
  #beats;

  /** @type {TempoField | null} */
  #tempo = null;

  /** Plays the slice, if this browser can decode the file. @type {Takes | null} */
  #preview = null;

  #unregister = () => {};
  #complaint = h("p", { role: "alert", class: "complaint", id: "file-complaint" });
  #chosen = h("div", { class: "chosen", hidden: true });
  #drop;

  /**
   * @param {HTMLElement} stage
   * @param {{ limits: Limits, prompts?: BuiltInPrompt[], beats?: boolean }} service
   */
  constructor(stage, { limits, prompts = [], beats = false }) {
    super();
    this.#stage = stage;
    this.#limits = limits;
    this.#beats = beats;
    this.chooser = h("input", {
      type: "file",
      id: "file",
      class: "unseen",
      accept: "audio/*,.wav,.flac,.ogg,.oga,.opus,.mp3,.m4a,.aac,.aif,.aiff,.caf,.webm,.mka,.wma",
      "aria-label": "Choose a file",
      "aria-describedby": "file-complaint",
      onchange: () => this.#openChosen(),
    });
    const alone = this.#alone("Begin without music, from words");
    const record = recordButton({
      recorded: (file) => this.#open(file),
      failed: (line) => (this.#complaint.textContent = line),
    });
    const take = (/** @type {BuiltInPrompt} */ prompt) => this.#openPrompt(prompt);
    this.#drop = dropZone({ chooser: this.chooser, record, alone, prompts, take });
    stage.replaceChildren(this.#drop, this.#chosen, this.#complaint);
    receiveDrops(stage, (file) => this.#open(file));
  }

  /** Where beats lie in the music; null without a tempo. @type {Grid | null} */
  get grid() {
    return this.#tempo?.grid() ?? null;
  }

  /** @returns {Snap} */
  get snap() {
    return this.#tempo?.snap() ?? "off";
  }

  /** Stop the sound of the slice. */
  pause() {
    this.#preview?.pause();
  }

  /** @param {string} line  on a button that begins without a prompt */
  #alone(line) {
    const onclick = () => this.#showAlone();
    return h("button", { type: "button", class: "quiet alone", onclick }, line);
  }

  /** Want no prompt. */
  #showAlone() {
    this.#leave();
    this.upload = this.slice = null;
    this.alone = true;
    // The music has no beats yet; whoever wants bars says how fast they are to be.
    this.#tempo = this.#tempoField(false);
    const heading = h("h3", { tabindex: -1 }, "From words alone");
    const file = h("label", { for: "file", class: "button" }, "Choose a file");
    this.#fill(
      h("div", { class: "run-head alone-head" }, heading, note("The music begins by itself.")),
      this.#tempo,
      h("div", { class: "buttons" }, this.chooser, file),
    );
    this.dispatchEvent(new Event("open"));
    heading.focus();
  }

  #openChosen() {
    const file = this.chooser.files?.[0];
    if (!file) return;
    this.#open(file);
    // So that the same file can be chosen again, after it was changed.
    this.chooser.value = "";
  }

  /** @param {BuiltInPrompt} prompt */
  async #openPrompt({ name, url, title }) {
    try {
      const last = url.replace(/\?.*/, "").replace(/.*\//, "");
      const bytes = await http.bytes(url);
      const file = /\.\w+$/.test(last) ? last : `${title ?? name}.wav`;
      await this.#open(new File([bytes], file, { lastModified: 0 }));
    } catch (error) {
      complain(this.#complaint, error);
    }
  }

  /** @param {File} file */
  async #open(file) {
    clear(this.#complaint);
    this.#stage.classList.add("reading");
    this.#stage.setAttribute("aria-busy", "true");
    try {
      this.show(await inspect(file, this.#limits));
    } catch (error) {
      if (!(error instanceof UploadError)) throw error;
      complain(this.#complaint, error);
    } finally {
      this.#stage.classList.remove("reading");
      this.#stage.removeAttribute("aria-busy");
    }
  }

  /**
   * Choose from this music.
   *
   * @param {Upload} upload
   * @param {Opening} [opening]
   */
  show(upload, { tempo, end, length = USUAL_PROMPT, note: origin } = {}) {
    this.#leave();
    this.upload = upload;
    this.alone = false;
    const slice = document.createElement("segue-slice");
    this.slice = slice;
    const { buffer, peaks, seconds: duration } = upload;
    const play = h("button", { type: "button", class: "play", hidden: !buffer }, "Hear the slice");
    const other = h("label", { for: "file", class: "button" }, "Another file");
    const long = duration === null ? "" : `, ${duration < 90 ? seconds(duration) : wait(duration)}`;
    slice.open({ peaks, duration, longest: this.#limits.prompt, usual: length });
    slice.addEventListener("change", () => this.dispatchEvent(new Event("change")));
    this.#tempo = this.#tempoField(true);
    if (tempo) this.#tempo.set(tempo);
    if (end !== undefined) slice.endAt(end);
    if (buffer) this.#connectPreview(play, slice, Source.of(upload.name, buffer));
    this.#fill(
      h(
        "div",
        { class: "run-head" },
        h("h3", {}, upload.name, note(long)),
        origin && note(origin),
        !buffer && note("This browser cannot draw this file; the service may read it."),
        upload.cut && note("It is longer than the service takes: the slice alone is sent."),
      ),
      slice,
      this.#tempo,
      h("div", { class: "buttons" }, play, this.chooser, other, this.#alone("Words alone")),
    );
    this.dispatchEvent(new Event("open"));
    slice.focusFirst();
  }

  /** Let go of what was there. */
  #leave() {
    this.pause();
    this.#preview = null;
    this.#unregister();
    clear(this.#complaint);
  }

  /** @param {HTMLElement[]} parts */
  #fill(...parts) {
    this.#drop.hidden = true;
    this.#chosen.hidden = false;
    this.#chosen.replaceChildren(...parts);
  }

  /** @param {boolean} there  whether there is music that may have beats already */
  #tempoField(there) {
    return tempoField({
      there,
      change: () => {
        this.slice?.lay(this.grid, this.snap);
        this.dispatchEvent(new Event("change"));
      },
      find: there && this.#beats && !this.upload?.take ? () => this.#findTempo() : null,
      start: () => this.slice?.start ?? 0,
    });
  }

  /** @returns {Promise<Found | string>} */
  async #findTempo() {
    const { upload, slice } = this;
    try {
      if (!upload || !slice) return "There is no music to listen to.";
      const input = await inputOf(upload, slice.start, slice.end);
      if (!("input_id" in input)) return "The tempo of a take is that of its job.";
      const found = await api.beats(input.input_id, null);
      const from = upload.cut ? slice.start : 0;
      const { bpm, beats_per_bar: beatsPerBar, downbeat_seconds: downbeat } = found;
      return { bpm, beatsPerBar, downbeat: from + downbeat };
    } catch (error) {
      return lineOf(error);
    }
  }

  /**
   * Let a button play the slice, over and over.
   *
   * @param {HTMLButtonElement} button
   * @param {SegueSlice} slice
   * @param {Source} source  the whole file
   */
  #connectPreview(button, slice, source) {
    const takes = new Takes([source]);
    this.#preview = takes;
    /** @returns {[number, number]} */
    const region = () => [slice.start, slice.end];
    const toggle = () => {
      if (takes.playing) return takes.pause();
      takes.setLoop(region());
      takes.currentTime = slice.start;
      takes.play();
    };
    button.addEventListener("click", toggle);
    slice.addEventListener("settle", () => takes.playing && takes.setLoop(region()));
    this.#unregister = registerKeys(this.#chosen, () => ({
      toggle,
      seek: (by) => takes.playing && (takes.currentTime += by),
      handle: ({ key }) => slice.viewport.press(key, slice.start),
    }));
    follow(takes, () => {
      button.textContent = takes.playing ? "Pause" : "Hear the slice";
      slice.at(takes.playing ? takes.currentTime : null);
    });
  }
}

/** @param {string} text */
function note(text) {
  return h("span", { class: "note" }, text);
}
