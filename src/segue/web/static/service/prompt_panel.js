// @ts-check
// The user's music: a file dropped, chosen or built in, and the slice of it that is the prompt.

import "./slice.js";
import * as api from "./api.js";
import { seconds, wait } from "./format.js";
import { placeholder } from "./placeholder.js";
import { inspect, UploadError } from "./upload.js";
import { h, messageOf } from "../shared/dom.js";
import { Source, Takes } from "../shared/takes.js";
import { follow } from "../shared/transport.js";

/** @import { BuiltInPrompt } from "../../types/service.js" */
/** @import { Limits } from "./connection.js" */
/** @import { SegueSlice } from "./slice.js" */
/** @import { Upload } from "./upload.js" */

/** In seconds. */
const USUAL_PROMPT = 6;

/** Events: `open` (another file is there, or none is wanted), `change` (another slice). */
export class PromptPanel extends EventTarget {
  /** The file; null as long as there is none, or where none is wanted. @type {Upload | null} */
  upload = null;

  /** Whether the music begins without a prompt. */
  alone = false;

  /** The prompt in it. @type {SegueSlice | null} */
  slice = null;

  #limits;
  #stage;

  /** Plays the slice, if this browser can decode the file. @type {Takes | null} */
  #preview = null;

  #complaint = h("p", { role: "alert", class: "complaint", id: "file-complaint" });
  #drop = h("div", { class: "drop" });
  #chosen = h("div", { class: "chosen", hidden: true });

  /**
   * @param {HTMLElement} stage
   * @param {{ limits: Limits, prompts?: BuiltInPrompt[] }} service
   */
  constructor(stage, { limits, prompts = [] }) {
    super();
    this.#stage = stage;
    this.#limits = limits;
    this.chooser = h("input", {
      type: "file",
      id: "file",
      class: "unseen",
      accept: "audio/*,.wav,.flac,.ogg,.oga,.opus,.mp3,.m4a,.aac,.aif,.aiff,.caf,.webm,.mka,.wma",
      "aria-label": "Choose a file",
      "aria-describedby": "file-complaint",
      onchange: () => this.#openChosen(),
    });
    this.#showDropZone(prompts);
    this.#receiveDrops();
  }

  /** Stop the sound of the slice. */
  pause() {
    this.#preview?.pause();
  }

  /** @param {BuiltInPrompt[]} prompts */
  #showDropZone(prompts) {
    const ready = prompts.map((prompt) => {
      const onclick = () => this.#openPrompt(prompt);
      return h("button", { type: "button", onclick }, prompt.title ?? prompt.name);
    });
    const label = h("label", { for: "file", class: "button primary" }, "Choose a file");
    const formats = note("WAV, FLAC, OGG, MP3 or M4A");
    this.#drop.replaceChildren(
      placeholder(),
      h("p", { class: "invitation" }, "Drop a piece of music here"),
      h("p", { class: "choosing" }, this.chooser, label, formats),
      ...(ready.length ? [h("p", { class: "ready" }, note("or take one of these"), ready)] : []),
      h("p", { class: "ready" }, this.#alone("Begin without music, from words")),
    );
    this.#stage.replaceChildren(this.#drop, this.#chosen, this.#complaint);
  }

  /** @param {string} line  on a button that begins without a prompt */
  #alone(line) {
    const onclick = () => this.#showAlone();
    return h("button", { type: "button", class: "quiet alone", onclick }, line);
  }

  /** Want no prompt. */
  #showAlone() {
    this.pause();
    this.#preview = null;
    this.#complaint.textContent = "";
    this.upload = this.slice = null;
    this.alone = true;
    const heading = h("h3", { tabindex: -1 }, "From words alone");
    const file = h("label", { for: "file", class: "button" }, "Choose a file");
    this.#drop.hidden = true;
    this.#chosen.hidden = false;
    this.#chosen.replaceChildren(
      h("div", { class: "run-head alone-head" }, heading, note("The music begins by itself.")),
      h("div", { class: "buttons" }, this.chooser, file),
    );
    this.dispatchEvent(new Event("open"));
    heading.focus();
  }

  #receiveDrops() {
    // A file that misses must not make the browser leave the page.
    let inside = 0;
    /** @param {boolean} on */
    const over = (on) => this.#stage.classList.toggle("over", on);
    addEventListener("dragenter", () => over(++inside > 0));
    addEventListener("dragleave", () => over(--inside > 0));
    addEventListener("dragover", (event) => event.preventDefault());
    addEventListener("drop", (event) => {
      event.preventDefault();
      inside = 0;
      over(false);
      const file = event.dataTransfer?.files[0];
      if (file) this.#open(file);
    });
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
      const bytes = await api.bytes(url);
      const file = /\.\w+$/.test(last) ? last : `${title ?? name}.wav`;
      await this.#open(new File([bytes], file, { lastModified: 0 }));
    } catch (error) {
      this.#complaint.textContent = messageOf(error);
    }
  }

  /** @param {File} file */
  async #open(file) {
    this.#complaint.textContent = "";
    this.#stage.classList.add("reading");
    this.#stage.setAttribute("aria-busy", "true");
    try {
      this.#show(await inspect(file, this.#limits));
    } catch (error) {
      if (!(error instanceof UploadError)) throw error;
      this.#complaint.textContent = error.message;
    } finally {
      this.#stage.classList.remove("reading");
      this.#stage.removeAttribute("aria-busy");
    }
  }

  /** @param {Upload} upload */
  #show(upload) {
    this.pause();
    this.#preview = null;
    this.upload = upload;
    this.alone = false;
    const slice = document.createElement("segue-slice");
    this.slice = slice;
    const { buffer, peaks, seconds: duration } = upload;
    const play = h("button", { type: "button", class: "play", hidden: !buffer }, "Hear the slice");
    const other = h("label", { for: "file", class: "button" }, "Another file");
    const length = duration === null ? "" : `, ${duration < 90 ? seconds(duration) : wait(duration)}`;
    const { prompt: longest } = this.#limits;
    slice.open({ peaks, duration, longest, usual: USUAL_PROMPT });
    slice.addEventListener("change", () => this.dispatchEvent(new Event("change")));
    if (buffer) this.#connectPreview(play, slice, Source.of(upload.name, buffer));
    this.#drop.hidden = true;
    this.#chosen.hidden = false;
    this.#chosen.replaceChildren(
      h(
        "div",
        { class: "run-head" },
        h("h3", {}, upload.name, note(length)),
        !buffer && note("This browser cannot draw this file; the service may read it."),
      ),
      slice,
      h("div", { class: "buttons" }, play, this.chooser, other, this.#alone("Words alone")),
    );
    this.dispatchEvent(new Event("open"));
    slice.focusFirst();
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
    button.addEventListener("click", () => {
      if (takes.playing) return takes.pause();
      takes.setLoop(region());
      takes.currentTime = slice.start;
      takes.play();
    });
    slice.addEventListener("settle", () => takes.playing && takes.setLoop(region()));
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
