// @ts-check
// One job, from the queue to its end: followed, shown, and played while it is generated.

import * as api from "./api.js";
import * as http from "./http.js";
import { h, messageOf } from "../shared/dom.js";
import { registerKeys } from "../shared/keys.js";
import { eventsOf } from "./event_stream.js";
import { standing } from "./format.js";
import { aboutOf, titleOf } from "./job_about.js";
import { JobView } from "./job_view.js";
import { samplesOf, StreamPlayer } from "./stream_player.js";
import { Peaks } from "../shared/waveform.js";

/** @import { Job, StreamAudio, StreamFormat } from "../../types/service.js" */

/** How often the service is polled, and how seldom while it does not answer, in milliseconds. */
const POLL_MS = 1000;
const SLOWEST_POLL_MS = 5000;

const LOST = "The service does not have this run any more. It keeps them for a while only.";

/** While a job is in one of these, its stream can be opened. */
const STREAMING = ["warming", "processing"];

/**
 * What a job can be played with: the `prompt` from its second `at` on, if it is known here, and a
 * `context` if the job is to play while it is generated.
 *
 * @typedef {object} Sound
 * @property {AudioBuffer | null} [prompt]
 * @property {number} [at]
 * @property {AudioContext | null} [context]
 */

/**
 * Events: `progress`, `done` (`job` is its last state), `retry` (run it once more), `removed` (it
 * was cancelled, or put away).
 */
export class JobCard extends EventTarget {
  /** Whether nothing more is to come. */
  ended = false;

  #pollMs = POLL_MS;
  #unregister;
  #channels = 1;

  /** Of the takes, as far as they have come. @type {Peaks[]} */
  #tracks = [];

  /** Ends the stream, while there is one. @type {AbortController | null} */
  #stream = null;

  

  /**
   * @param {Job} job  the service's answer
   * @param {Sound} [sound]
   */
  constructor(job, { prompt = null, at = 0, context = null } = {}) {
    super();
    this.job = job;
    this.id = job.job_id;
    this.about = aboutOf(job);
    this.prompt = prompt;
    this.at = at;
    const { about } = this;
    const { start: from, seconds } = about;
    this.player = new StreamPlayer({ prompt, start: at, seconds, from, context });
    this.view = new JobView(job, about, {
      toggle: () => this.#toggle(),
      stop: () => this.player.stop(),
      cancel: () => this.#cancel(),
    });
    this.view.heading.textContent = this.title;
    this.view.draw([this.#promptPeaks()]);
    this.player.addEventListener("state", () => this.view.showPlayer(this.player));
    this.#unregister = registerKeys(this.element, () => ({
      toggle: () => this.#toggle(),
      seek: (seconds) => (this.player.currentTime += seconds),
    }));
    if (context) this.player.play({ automatic: true });
  }

  get element() {
    return this.view.element;
  }

  /** Follow the job until it ends. */
  async follow() {
    while (!this.ended) {
      await this.poll();
      if (!this.ended) await new Promise((done) => setTimeout(done, this.#pollMs));
    }
  }

  /** Ask once how the job is. */
  async poll() {
    try {
      this.#apply(await api.job(this.id));
      this.#pollMs = POLL_MS;
    } catch (error) {
      const status = http.statusOf(error);
      if (status === 404) this.fail(LOST);
      else if (status === 401) this.fail("The service asks for its token; reload the page.");
      else {
        this.view.showStatus("The service does not answer. Trying again; nothing is lost.", "");
        this.#pollMs = Math.min(SLOWEST_POLL_MS, this.#pollMs * 1.5);
      }
    }
  }

  /** A few words on what runs. */
  get title() {
    return titleOf(this.job);
  }

  /**
   * Show what went wrong when it was to run again.
   *
   * @param {unknown} error
   */
  showError(error) {
    this.view.showError(error);
  }

  /** Leave: no sound, no requests. */
  close() {
    this.ended = true;
    this.#unregister();
    this.#stream?.abort();
    this.view.close();
    this.player.close();
    this.element.remove();
  }

  // What comes from the service.

  /** @param {Job} job */
  #apply(job) {
    if (this.ended) return;
    this.job = job;
    this.about = aboutOf(job);
    this.view.heading.textContent = this.title;
    const { status } = job;
    if (status === "completed") this.#finish();
    else if (status === "failed") {
      this.fail(job.error ?? "It failed, and the service does not say why.");
    } else if (status === "cancelled") this.#remove();
    else if (status === "unknown") this.fail(LOST);
    else {
      if (STREAMING.includes(status) && !this.#stream) this.#listen();
      this.#show();
    }
  }

  async #listen() {
    const stream = new AbortController();
    this.#stream = stream;
    try {
      for await (const { event, data } of eventsOf(this.id, stream.signal)) {
        if (this.ended) return;
        if (event === "format") this.#format(data);
        else if (event === "audio") this.#addAudio(data);
        else if (event === "progress") {
          Object.assign(this.job, data);
          this.#show();
        } else if (event === "done") {
          this.player.end();
          await this.poll();
          return;
        }
      }
    } catch (error) {
      if (http.isAbort(error)) return;
    }
    // Cut off: it is opened again when the service answers that the job still runs.
    await new Promise((done) => setTimeout(done, POLL_MS));
    if (!this.ended) this.#stream = null;
  }

  /** @param {StreamFormat} format */
  #format(format) {
    this.#channels = format.channels;
    this.player.format(format);
    if (this.#tracks.length) return;
    this.#tracks = Array.from({ length: format.takes }, () => this.#promptPeaks());
    this.view.showTakes(format.takes, `take-of-${this.id}`, (take) => this.player.select(take));
    this.view.drawSoon(this.#tracks);
  }

  /** @param {StreamAudio} audio */
  #addAudio({ take, start, pcm }) {
    const index = take - 1;
    const samples = samplesOf(pcm, this.#channels);
    const before = this.player.ends[index];
    if (!this.player.add(index, start, samples)) return;
    const known = Math.max(0, before - start);
    this.#tracks[index].add(samples.map((s) => s.subarray(known)), this.player.sampleRate);
    this.view.drawSoon(this.#tracks);
  }

  #promptPeaks() {
    const peaks = new Peaks();
    const { prompt, at } = this;
    const { seconds } = this.about;
    if (prompt) {
      const rate = prompt.sampleRate;
      const [first, last] = [Math.round(at * rate), Math.round((at + seconds) * rate)];
      const channels = Array.from({ length: prompt.numberOfChannels }, (_, channel) =>
        prompt.getChannelData(channel).subarray(first, last),
      );
      peaks.add(channels, rate);
    }
    if (peaks.seconds < seconds) peaks.skip(seconds - peaks.seconds);
    return peaks;
  }

  #show() {
    if (this.ended) return;
    const { phase, detail, percent } = standing(this.job);
    this.view.showStatus(phase, detail);
    this.view.showProgress(percent);
    this.dispatchEvent(new Event("progress"));
  }

  #toggle() {
    if (this.player.playing || this.player.requested) this.player.pause();
    else this.player.play();
  }

  // How it ends.

  #finish() {
    this.ended = true;
    this.#stream?.abort();
    this.dispatchEvent(new Event("done"));
  }

  /**
   * End it, and show why.
   *
   * @param {string} line
   */
  fail(line) {
    this.ended = true;
    this.#stream?.abort();
    this.player.pause();
    /** @param {string} name */
    const event = (name) => () => this.dispatchEvent(new Event(name));
    this.view.showFailure(line, [
      h("button", { type: "button", onclick: event("retry") }, "Try again"),
      h("button", { type: "button", class: "quiet", onclick: event("removed") }, "Put away"),
    ]);
  }

  async #cancel() {
    this.view.showCancelling(true);
    try {
      await api.cancel(this.id);
      this.#remove();
    } catch (error) {
      const status = http.statusOf(error);
      this.view.showCancelling(false);
      // It was faster: the next answer says how it ended.
      if (status !== 409) this.view.showStatus(messageOf(error), "");
      if (status === 404) this.#remove();
    }
  }

  #remove() {
    this.ended = true;
    this.dispatchEvent(new Event("removed"));
  }
}
