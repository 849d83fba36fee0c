// The user's music: a file dropped, chosen or borrowed, and the slice of it that is the prompt.

import "./slice.js";
import * as api from "./api.js";
import { seconds, wait } from "./format.js";
import { placeholder } from "./placeholder.js";
import { inspect, UploadError } from "./upload.js";
import { h } from "../shared/dom.js";
import { Source, Takes } from "../shared/takes.js";
import { follow } from "../shared/transport.js";

const USUAL_PROMPT = 6;

/**
 * Events: `open` (another file is there), `change` (another slice).
 * `upload` is what `inspect` found of the file, `slice` the `segue-slice` on it; null at first.
 */
export class PromptPanel extends EventTarget {
  #limits;
  #stage;
  #complaint = h("p", { role: "alert", class: "complaint", id: "file-complaint" });
  #drop = h("div", { class: "drop" });
  #chosen = h("div", { class: "chosen", hidden: true });

  constructor(stage, { limits, prompts = [] }) {
    super();
    this.upload = null;
    this.slice = null;
    this.#stage = stage;
    this.#limits = limits;
    this.chooser = h("input", {
      type: "file",
      id: "file",
      class: "unseen",
      accept: "audio/*,.wav,.flac,.ogg,.oga,.opus,.mp3,.m4a,.aac,.aif,.aiff,.caf,.webm,.mka,.wma",
      "aria-label": "Choose a file",
      "aria-describedby": "file-complaint",
      onchange: () => this.#take(),
    });
    this.#offer(prompts);
    this.#receiveDrops();
  }

  /** Stop the sound of the slice. */
  pause() {
    this.upload?.takes?.pause();
  }

  #offer(prompts) {
    const ready = prompts.map((prompt) => {
      const borrow = () => this.#borrow(prompt);
      return h("button", { type: "button", onclick: borrow }, prompt.title ?? prompt.name);
    });
    const label = h("label", { for: "file", class: "button primary" }, "Choose a file");
    const formats = note("WAV, FLAC, OGG, MP3 or M4A");
    this.#drop.replaceChildren(
      placeholder(),
      h("p", { class: "invitation" }, "Drop a piece of music here"),
      h("p", { class: "choosing" }, this.chooser, label, formats),
      ...(ready.length ? [h("p", { class: "ready" }, note("or take one of these"), ready)] : []),
    );
    this.#stage.replaceChildren(this.#drop, this.#chosen, this.#complaint);
  }

  #receiveDrops() {
    // A file that misses must not make the browser leave the page.
    let inside = 0;
    const over = (on) => this.#stage.classList.toggle("over", on);
    addEventListener("dragenter", () => over(++inside > 0));
    addEventListener("dragleave", () => over(--inside > 0));
    addEventListener("dragover", (event) => event.preventDefault());
    addEventListener("drop", (event) => {
      event.preventDefault();
      inside = 0;
      over(false);
      if (event.dataTransfer.files.length) this.#open(event.dataTransfer.files[0]);
    });
  }

  #take() {
    const [file] = this.chooser.files;
    if (!file) return;
    this.#open(file);
    // So that the same file can be chosen again, after it was changed.
    this.chooser.value = "";
  }

  async #borrow({ name, url, title }) {
    try {
      const file = url.split("/").at(-1).split("?")[0];
      const bytes = await api.bytes(url);
      const named = /\.\w+$/.test(file) ? file : `${title ?? name}.wav`;
      await this.#open(new File([bytes], named, { lastModified: 0 }));
    } catch (error) {
      this.#complaint.textContent = error.message;
    }
  }

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

  #show(upload) {
    this.pause();
    this.upload = upload;
    this.slice = document.createElement("segue-slice");
    const { buffer, peaks, seconds: duration } = upload;
    const hear = h("button", { type: "button", class: "play", hidden: !buffer }, "Hear the slice");
    const other = h("label", { for: "file", class: "button" }, "Another file");
    const length = duration === null ? "" : `, ${duration < 90 ? seconds(duration) : wait(duration)}`;
    const { prompt: longest } = this.#limits;
    this.slice.open({ peaks, duration, longest, usual: USUAL_PROMPT });
    this.slice.addEventListener("change", () => this.dispatchEvent(new Event("change")));
    if (buffer) this.#hearSlice(hear);
    this.#drop.hidden = true;
    this.#chosen.hidden = false;
    this.#chosen.replaceChildren(
      h(
        "div",
        { class: "run-head" },
        h("h3", {}, upload.name, note(length)),
        !buffer && note("This browser cannot draw this file; the service may read it."),
      ),
      this.slice,
      h("div", { class: "buttons" }, hear, this.chooser, other),
    );
    this.dispatchEvent(new Event("open"));
    const first = this.slice.querySelector("[role=slider]") ?? this.slice.querySelector("input");
    first.focus({ focusVisible: false });
  }

  #hearSlice(button) {
    const { slice, upload } = this;
    const whole = new Source(upload.name, null, { sampleRate: upload.buffer.sampleRate });
    whole.buffer = Promise.resolve(upload.buffer);
    const takes = (upload.takes = new Takes([whole]));
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

function note(text) {
  return h("span", { class: "note" }, text);
}
