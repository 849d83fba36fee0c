// @ts-check
// The finished takes on one prompt, of whatever jobs, side by side.

import "../shared/abx.js";
import "../shared/player.js";
import * as api from "./api.js";
import { clock, h, messageOf } from "../shared/dom.js";
import { Source } from "../shared/takes.js";
import { modeName, modeOf, seconds, sentence, shortName } from "./format.js";

/** @import { TakeAnswer } from "../../types/service.js" */
/** @import { JobCard } from "./job_card.js" */
/** @import { JobAbout } from "./session.js" */

/** The byte of a WAV file where its sample rate starts. */
const SAMPLE_RATE_OFFSET = 24;

/** How long to wait before a take is requested again, in milliseconds. */
const RETRY_MS = 2000;

/**
 * What belongs together: takes that start with the same slice of the same file.
 *
 * @param {JobAbout} about
 */
export function groupKey({ key, start, seconds: length }) {
  return JSON.stringify([key, start, length]);
}

/** @param {JobAbout} about */
function placeOf({ start, seconds: length }) {
  if (length === 0) return "There is no prompt: the music begins by itself.";
  if (start <= 0.05) return `The prompt is the first ${seconds(length)}.`;
  const range = `${clock(start)} to ${clock(start + length)}`;
  return `The prompt is ${range}. What lies before it is in the downloads, too.`;
}

/** Something has happened to the takes of `card`'s job. */
export class JobEvent extends Event {
  /**
   * @param {"retry" | "removed"} type
   * @param {JobCard} card
   */
  constructor(type, card) {
    super(type);
    this.card = card;
  }
}

/**
 * Events: `retry` and `removed`, both JobEvents (run the job once more; its last take is gone), and
 * `empty`.
 */
export class TakeGroup extends EventTarget {
  /** @type {Recording[]} */
  sources = [];

  /** @param {JobAbout} about  of any of its jobs */
  constructor(about) {
    super();
    this.about = about;
    const name = about.seconds ? about.file : sentence(about.file);
    this.heading = h("h3", { tabindex: -1 }, name);
    const where = placeOf(about);
    this.player = document.createElement("segue-player");
    this.complaint = h("p", { role: "alert", class: "complaint" });
    this.blind = h("details", { class: "blind", hidden: true }, h("summary", {}, "Blind test"));
    this.blind.addEventListener("toggle", () => this.blind.open && this.#openBlind());
    this.element = h(
      "article",
      { class: "take-group" },
      h("div", { class: "run-head" }, this.heading, h("p", { class: "note" }, where)),
      this.player,
      this.complaint,
      this.blind,
    );
  }

  /** @param {string} line  what went wrong; empty to clear it */
  showError(line) {
    this.complaint.textContent = line;
  }

  /**
   * Add the takes of a finished job; resolves to the first of them when they can be played. Throws
   * a ServiceError if the service has them no more.
   *
   * @param {JobCard} card
   */
  async add(card) {
    const sources = card.job.takes.map((take) => this.#source(card, take));
    await Promise.all(sources.map(fetched));
    const first = !this.sources.length;
    this.sources.push(...sources);
    if (first) this.player.open(this.sources.slice(), this.about.seconds || null);
    else this.player.ready = this.player.show(this.sources.slice());
    await this.player.ready;
    this.#level();
    this.#offerBlind();
    // Nobody who is listening is taken elsewhere.
    if (!this.player.takes.playing) this.player.takes.select(this.sources.indexOf(sources[0]));
    return sources[0];
  }

  /**
   * @param {JobCard} card
   * @param {TakeAnswer} take
   */
  #source(card, take) {
    const { parameters } = card.about;
    const mode = modeOf(card.job.quantization) ?? parameters.quantization_mode ?? "none";
    const model = shortName(card.job.model_name ?? parameters.model_name ?? "model");
    const title = mode === "none" ? model : `${model}, ${modeName(mode)}`;
    const unique = this.#unique(`${title}, seed ${take.seed}`);
    const source = new Recording(unique, take.url, this.about.start, card);
    const text = parameters.descriptions?.[take.number - 1] ?? parameters.description;
    const different = [
      text && `“${text}”`,
      card.about.melody && `after ${card.about.melody}`,
      ...(parameters.adapters ?? []).map((adapter) => adapter.replace(/:1$/, "")),
      parameters.temperature !== 1 && `temperature ${parameters.temperature}`,
      parameters.top_k !== 250 && `top k ${parameters.top_k}`,
      text && parameters.cfg_coef !== 3 && `guidance ${parameters.cfg_coef}`,
    ];
    source.title = title;
    source.note = [`seed ${take.seed}`, ...different.filter(Boolean)].join(", ");
    const stem = this.about.file.replace(/\.\w+$/, "");
    const name = `${stem} - ${title} - ${take.seed}.wav`.replace(/[/\\:*?"<>|]/g, "_");
    source.actions = [
      h(
        "a",
        {
          href: take.url,
          download: name,
          class: "button",
          "aria-label": `Download WAV of ${source.name}`,
          onclick: (event) => this.#download(event, take.url, name),
        },
        "Download WAV",
      ),
      h(
        "button",
        {
          type: "button",
          "aria-label": `Retry with a new seed: ${title}`,
          onclick: () => this.dispatchEvent(new JobEvent("retry", card)),
        },
        "Retry, new seed",
      ),
      h(
        "button",
        {
          type: "button",
          class: "quiet",
          title: "Remove from the page",
          "aria-label": `Remove ${source.name} from the page`,
          onclick: () => this.#remove(source),
        },
        "×",
      ),
    ];
    return source;
  }

  /**
   * A name that no other take has: the blind test tells takes apart by name.
   *
   * @param {string} name
   */
  #unique(name) {
    const taken = this.sources.filter((source) => source.name.startsWith(name)).length;
    return taken ? `${name} (${taken + 1})` : name;
  }

  /**
   * Download by script: a link by itself could not bring the token along, nor name the file as the
   * user knows it.
   *
   * @param {Event} event
   * @param {string} url
   * @param {string} name
   */
  async #download(event, url, name) {
    event.preventDefault();
    this.showError("");
    try {
      const blob = URL.createObjectURL(new Blob([await api.bytes(url)], { type: "audio/wav" }));
      h("a", { href: blob, download: name }).click();
      setTimeout(() => URL.revokeObjectURL(blob), 60_000);
    } catch (error) {
      this.showError(sentence(messageOf(error)));
    }
  }

  /** @param {Recording} source */
  async #remove(source) {
    const at = this.sources.indexOf(source);
    this.sources.splice(at, 1);
    const { card } = source;
    if (!this.sources.some((other) => other.card === card)) {
      this.dispatchEvent(new JobEvent("removed", card));
    }
    if (!this.sources.length) {
      this.player.takes.pause();
      this.dispatchEvent(new Event("empty"));
      return;
    }
    this.player.ready = this.player.show(this.sources.slice());
    await this.player.ready;
    this.#level();
    this.#offerBlind();
    const next = this.sources[Math.min(at, this.sources.length - 1)];
    this.player.rows.get(next)?.radio.focus();
  }

  /** Turn all down to the quietest continuation: what is louder sounds better. */
  async #level() {
    const buffers = await Promise.all(this.sources.map((source) => source.decoded()));
    const levels = buffers.map((buffer) => rootMeanSquare(buffer, this.about.seconds));
    const audible = levels.filter((level) => level > 1e-4);
    const target = Math.min(...audible);
    this.sources.forEach((source, n) => {
      source.gain = levels[n] > 1e-4 ? target / levels[n] : 1;
    });
    this.player.takes.level(this.player.takes.levelled);
  }

  #offerBlind() {
    this.blind.hidden = this.sources.length < 2;
    this.blind.open = false;
    this.blind.querySelector("segue-blind")?.remove();
  }

  #openBlind() {
    if (this.blind.querySelector("segue-blind")) return;
    const test = document.createElement("segue-blind");
    this.blind.append(test);
    const [baseline, ...variants] = this.sources;
    const report = `page ${groupKey(this.about)}`;
    test.open({ report, baseline, variants, join: this.about.seconds });
  }
}

/** A take on the service, from the prompt on, at its own sample rate. */
class Recording extends Source {
  /**
   * @param {string} name
   * @param {string} url
   * @param {number} start  where the prompt starts, in seconds
   * @param {JobCard} card  of its job
   */
  constructor(name, url, start, card) {
    super(name, () => api.bytes(url));
    this.start = start;
    this.card = card;
  }

  /** @override */
  decoded() {
    this.buffer ??= this.#decoded();
    // A download that was cut off may be tried again.
    this.buffer.catch(() => (this.buffer = undefined));
    return this.buffer;
  }

  async #decoded() {
    const bytes = await this.bytes();
    this.sampleRate = new DataView(bytes).getUint32(SAMPLE_RATE_OFFSET, true);
    const context = new OfflineAudioContext(1, 1, this.sampleRate);
    return cropped(await context.decodeAudioData(bytes), this.start);
  }
}

/**
 * Wait until a source is here, however long the service does not answer.
 *
 * @param {Source} source
 */
async function fetched(source) {
  for (;;) {
    try {
      return await source.decoded();
    } catch (error) {
      if (!(error instanceof api.ServiceError) || error.status) throw error;
      await new Promise((done) => setTimeout(done, RETRY_MS));
    }
  }
}

/**
 * @param {AudioBuffer} buffer
 * @param {number} start  in seconds
 */
function cropped(buffer, start) {
  const { sampleRate, numberOfChannels } = buffer;
  const first = Math.min(Math.round(start * sampleRate), buffer.length - 1);
  if (first === 0) return buffer;
  const rest = new AudioBuffer({ length: buffer.length - first, numberOfChannels, sampleRate });
  for (let channel = 0; channel < numberOfChannels; channel++) {
    rest.copyToChannel(buffer.getChannelData(channel).subarray(first), channel);
  }
  return rest;
}

/**
 * The root of the mean square of what comes behind the join.
 *
 * @param {AudioBuffer} buffer
 * @param {number} join  in seconds
 */
function rootMeanSquare(buffer, join) {
  let [sum, count] = [0, 0];
  for (let channel = 0; channel < buffer.numberOfChannels; channel++) {
    const samples = buffer.getChannelData(channel);
    for (let t = Math.round(join * buffer.sampleRate); t < samples.length; t++) {
      sum += samples[t] * samples[t];
      count++;
    }
  }
  return count ? Math.sqrt(sum / count) : 0;
}
