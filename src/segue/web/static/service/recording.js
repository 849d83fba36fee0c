// @ts-check
// Takes as the service has them: decoded when they are first needed, shown from the prompt on.

import * as http from "./http.js";
import { Source } from "../shared/takes.js";

/** @import { TakeAnswer } from "../../types/service.js" */
/** @import { JobCard } from "./job_card.js" */

/** The byte of a WAV file where its sample rate starts. */
const SAMPLE_RATE_OFFSET = 24;

/** How long to wait before a take is requested again, in milliseconds. */
const RETRY_MS = 2000;

/** A take on the service, from the prompt on, at its own sample rate. */
export class Recording extends Source {
  /** All of it, with what lies before the prompt. @type {Promise<AudioBuffer> | undefined} */
  #whole;

  /**
   * @param {string} name
   * @param {TakeAnswer} take
   * @param {JobCard} card  of its job
   */
  constructor(name, take, card) {
    super(name, () => http.bytes(take.url));
    this.take = take;
    this.card = card;
  }

  /** @override */
  decoded() {
    this.buffer ??= this.whole().then((buffer) => cropped(buffer, this.card.about.start));
    // A download that was cut off may be tried again.
    this.buffer.catch(() => (this.buffer = undefined));
    return this.buffer;
  }

  /** With what lies before the prompt. */
  whole() {
    this.#whole ??= this.#decoded();
    this.#whole.catch(() => (this.#whole = undefined));
    return this.#whole;
  }

  async #decoded() {
    const bytes = await this.bytes();
    this.sampleRate = new DataView(bytes).getUint32(SAMPLE_RATE_OFFSET, true);
    const context = new OfflineAudioContext(1, 1, this.sampleRate);
    return context.decodeAudioData(bytes);
  }
}

/**
 * Wait until a source is here, however long the service does not answer.
 *
 * @param {Source} source
 */
export async function fetched(source) {
  for (;;) {
    try {
      return await source.decoded();
    } catch (error) {
      if (!(error instanceof http.ServiceError) || error.status) throw error;
      await new Promise((done) => setTimeout(done, RETRY_MS));
    }
  }
}

/**
 * Turn all down to the quietest continuation: what is louder sounds better.
 *
 * @param {Source[]} sources
 * @param {number} join  in seconds
 */
export async function evenOut(sources, join) {
  const buffers = await Promise.all(sources.map((source) => source.decoded()));
  const levels = buffers.map((buffer) => rootMeanSquare(buffer, join));
  const target = Math.min(...levels.filter((level) => level > 1e-4));
  sources.forEach((source, n) => {
    source.gain = levels[n] > 1e-4 ? target / levels[n] : 1;
  });
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
