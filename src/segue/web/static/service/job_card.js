// One job, from the queue to its end: what is shown and heard of it meanwhile.

import * as api from "./api.js";
import { h } from "../shared/dom.js";
import { samplesOf, StreamPlayer } from "./stream_player.js";
import { timeline } from "./timeline.js";
import { Peaks } from "../shared/waveform.js";
import { modeName, sentence, shortName, standing } from "./format.js";

/** How often the service is asked, and how seldom while it does not answer, in milliseconds. */
const OFTEN = 1000;
const SELDOM = 5000;

/** How long a picture stays as it is while sound comes, in milliseconds. */
const PICTURE = 150;

const LOST = "The service does not have this run any more. It keeps them for a while only.";

const SOUNDING = ["warming", "processing"];

/**
 * Events: `done` (`answer` is the job's last state), `again` (run it once more), `gone` (it was
 * cancelled, or put away).
 */
export class JobCard extends EventTarget {
  /**
   * `about` is what is kept of it in this tab: `file`, `key`, `start`, `seconds`, `parameters`.
   * `prompt` is the AudioBuffer that has the prompt from `at` seconds on, or null;
   * `context`, an AudioContext, is there if it shall be heard while it is made.
   */
  constructor(id, about, { prompt = null, at = 0, context = null } = {}) {
    super();
    Object.assign(this, { id, about, prompt, at });
    this.answer = { status: "queued", progress: 0 };
    const { start: from, seconds } = about;
    this.live = new StreamPlayer({ prompt, start: at, seconds, from, context });
    this.live.addEventListener("state", () => this.#showLive());
    this.tracks = [];
    this.element = this.#card();
    this.over = false;
    this.pause = OFTEN;
    if (context) this.live.play({ byItself: true });
  }

  /** Follow the job until it ends. */
  async follow() {
    while (!this.over) {
      await this.ask();
      if (!this.over) await new Promise((done) => setTimeout(done, this.pause));
    }
  }

  /** See once how it stands. */
  async ask() {
    try {
      this.#take(await api.job(this.id));
      this.pause = OFTEN;
    } catch (error) {
      if (error.status === 404) this.fail(LOST);
      else if (error.status === 401) this.fail("The service asks for its token; reload the page.");
      else {
        this.#say("The service does not answer. Trying again; nothing is lost.", "");
        this.pause = Math.min(SELDOM, this.pause * 1.5);
      }
    }
  }

  /** A few words on what runs. */
  get title() {
    const { model_name: model, quantization_mode: mode } = this.about.parameters;
    const ran = modeOf(this.answer.quantization) ?? mode;
    const name = shortName(this.answer.model_name ?? model ?? "the usual model");
    return ran && ran !== "none" ? `${name}, ${modeName(ran)}` : name;
  }

  /** Say what went wrong when it was to run again. */
  complain(line) {
    this.said.replaceChildren(h("span", { role: "alert" }, sentence(line)));
  }

  /** Leave: no sound, no requests. */
  close() {
    this.over = true;
    this.stream?.abort();
    cancelAnimationFrame(this.frame);
    this.live.close();
    this.element.remove();
  }

  // What comes from the service.

  #take(answer) {
    if (this.over) return;
    this.answer = answer;
    this.heading.textContent = this.title;
    const { status } = answer;
    if (status === "completed") return this.#finish();
    if (status === "failed") {
      return this.fail(answer.error ?? "It failed, and the service does not say why.");
    }
    if (status === "cancelled") return this.#leave();
    if (status === "unknown") return this.fail(LOST);
    if (SOUNDING.includes(status) && !this.stream) this.#listen();
    this.#show();
  }

  async #listen() {
    this.stream = new AbortController();
    try {
      for await (const { event, data } of api.events(this.id, this.stream.signal)) {
        if (this.over) return;
        if (event === "format") this.#format(data);
        else if (event === "audio") this.#sound(data);
        else if (event === "progress") this.#show(Object.assign(this.answer, data));
        else if (event === "done") {
          this.live.end();
          await this.ask();
          return;
        }
      }
    } catch (error) {
      if (error.name === "AbortError") return;
    }
    // Cut off: it is opened again when the service says that it is still at it.
    await new Promise((done) => setTimeout(done, OFTEN));
    if (!this.over) this.stream = null;
  }

  #format(format) {
    this.stereo = format.channels;
    this.live.format(format);
    if (this.tracks.length) return;
    this.tracks = Array.from({ length: format.takes }, () => this.#promptPeaks());
    this.choice.replaceChildren(...(format.takes > 1 ? this.#choices(format.takes) : []));
    this.#draw();
  }

  #sound({ take, start, pcm }) {
    const index = take - 1;
    const samples = samplesOf(pcm, this.stereo);
    const before = this.live.ends[index];
    if (!this.live.add(index, start, samples)) return;
    const known = Math.max(0, before - start);
    this.tracks[index].add(samples.map((s) => s.subarray(known)), this.live.sampleRate);
    this.#draw();
  }

  #promptPeaks() {
    const peaks = new Peaks();
    const { seconds } = this.about;
    if (this.prompt) {
      const rate = this.prompt.sampleRate;
      const [first, last] = [Math.round(this.at * rate), Math.round((this.at + seconds) * rate)];
      const channels = Array.from({ length: this.prompt.numberOfChannels }, (_, channel) =>
        this.prompt.getChannelData(channel).subarray(first, last),
      );
      peaks.add(channels, rate);
    }
    if (peaks.seconds < seconds) peaks.skip(seconds - peaks.seconds);
    return peaks;
  }

  // What is seen of it.

  #card() {
    const { about } = this;
    this.heading = h("h3", { tabindex: -1 }, this.title);
    this.phase = h("span", { role: "status" }, "Waiting");
    this.detail = h("span", { class: "detail" });
    this.bar = h("progress", { max: 100, "aria-label": "Progress" });
    this.picture = timeline();
    this.choice = h("div", { class: "segments", role: "radiogroup", "aria-label": "Take to hear" });
    this.hear = h(
      "button",
      { type: "button", class: "play", hidden: true, onclick: () => this.#toggle() },
      "Listen",
    );
    this.stop = h(
      "button",
      { type: "button", hidden: true, onclick: () => this.live.stop() },
      "Stop listening",
    );
    this.cancel = h("button", { type: "button", onclick: () => this.#cancel() }, "Cancel");
    this.lag = h("span", { class: "note", hidden: true }, "The music waits for the model.");
    this.buttons = h(
      "div",
      { class: "buttons" },
      this.hear, this.stop, this.choice, this.cancel, this.lag,
    );
    this.said = h("p", { class: "standing" }, this.phase, " ", this.detail);
    const card = h(
      "article",
      { class: "run", "aria-label": "A run" },
      h("div", { class: "run-head" }, this.heading, h("p", { class: "note" }, from(about))),
      this.picture,
      this.bar,
      this.said,
      this.buttons,
    );
    this.tracks = [];
    this.#drawNow([this.#promptPeaks()]);
    return card;
  }

  #choices(takes) {
    return Array.from({ length: takes }, (_, take) => {
      const select = () => this.live.select(take);
      const name = `heard-${this.id}`;
      const radio = h("input", { type: "radio", name, checked: take === 0, onchange: select });
      const unseen = h("span", { class: "unseen" }, "Take ");
      return h("label", {}, radio, h("span", {}, unseen, String(take + 1)));
    });
  }

  #show() {
    if (this.over) return;
    const { phase, detail, percent } = standing(this.answer);
    this.#say(phase, detail);
    if (percent === null) this.bar.removeAttribute("value");
    else this.bar.value = percent;
  }

  #say(phase, detail) {
    // Only what is new is read out.
    if (this.phase.textContent !== phase) this.phase.textContent = phase;
    this.detail.textContent = detail;
  }

  #draw() {
    this.drawing ??= setTimeout(() => {
      this.drawing = null;
      if (!this.over) this.#drawNow(this.tracks);
    }, PICTURE);
  }

  #drawNow(peaks) {
    const { seconds, parameters } = this.about;
    const loudest = Math.max(0.05, ...peaks.map((one) => one.loudest));
    this.picture.show({ peaks, seconds: parameters.output_seconds, join: seconds, loudest });
  }

  #showLive() {
    const { live } = this;
    const there = live.available > live.join;
    this.hear.hidden = !there;
    this.stop.hidden = !there || (!live.playing && !live.wanted);
    this.hear.textContent = live.playing || live.wanted ? "Pause" : "Listen";
    cancelAnimationFrame(this.frame);
    const tick = () => {
      live.check();
      const idle = !live.playing && (live.offset === 0 || !there);
      this.picture.at(idle ? null : live.currentTime);
      this.lag.hidden = !live.waiting;
      if (live.playing) this.frame = requestAnimationFrame(tick);
    };
    tick();
  }

  #toggle() {
    if (this.live.playing || this.live.wanted) this.live.pause();
    else this.live.play();
  }

  // How it ends.

  #finish() {
    this.over = true;
    this.stream?.abort();
    this.dispatchEvent(new Event("done"));
  }

  /** End it, and say why. */
  fail(line) {
    this.over = true;
    this.stream?.abort();
    this.live.pause();
    this.bar.hidden = true;
    this.complain(line);
    this.element.classList.add("failed");
    const event = (name) => () => this.dispatchEvent(new Event(name));
    this.buttons.replaceChildren(
      h("button", { type: "button", onclick: event("again") }, "Try again"),
      h("button", { type: "button", class: "quiet", onclick: event("gone") }, "Put away"),
    );
  }

  async #cancel() {
    this.cancel.disabled = true;
    try {
      await api.cancel(this.id);
      this.#leave();
    } catch (error) {
      this.cancel.disabled = false;
      // It was faster: the next answer says how it ended.
      if (error.status !== 409) this.#say(error.message, "");
      if (error.status === 404) this.#leave();
    }
  }

  #leave() {
    this.over = true;
    this.dispatchEvent(new Event("gone"));
  }
}

/** The mode in what a job says that ran: a name, or an object that has one. */
export function modeOf(quantization) {
  if (quantization === null || quantization === undefined) return null;
  return typeof quantization === "string" ? quantization : (quantization.mode ?? null);
}

function from({ file, parameters }) {
  const words = parameters.description ? `, “${parameters.description}”` : "";
  return `from ${file}${words}`;
}
