// @ts-check
// The user's own audio: inspected before anything is sent, decoded to be drawn and played.

import { size, wait } from "./format.js";
import { Peaks } from "../shared/waveform.js";

/** @import { Limits } from "./connection.js" */

/**
 * A file that may be sent: the music, or a melody.
 *
 * @typedef {object} Upload
 * @property {string} name
 * @property {string} key  tells files apart
 * @property {AudioBuffer | null} buffer  null, as the next two, if this browser cannot decode it
 * @property {Peaks | null} peaks
 * @property {number | null} seconds
 * @property {() => Promise<Blob[]>} encoded  parts of its base64 text
 * @property {string | null} job  that the service has it from already
 * @property {string | null} melody  the key of the one that this job follows
 */

/** A multiple of three: chunks of base64 then join without padding between them. */
const CHUNK_BYTES = 3 * 2 ** 20;

const ENDINGS = /\.(wav|wave|flac|og[ga]|opus|mp[234]|m4[ab]|aac|aif[fc]?|caf|au|w64|rf64|bw64|webm|mka|wma|wv)$/i;

/** At which rate audio is decoded to be drawn and played; what is sent is the file as it is. */
const SAMPLE_RATE = 44100;

/** A file cannot be used; the message says why, and what can be. */
export class UploadError extends Error {}

/**
 * Inspect a file. Throws an UploadError if it cannot be used.
 *
 * @param {File} file
 * @param {Limits} limits
 * @returns {Promise<Upload>}
 */
export async function inspect(file, limits) {
  if (!ENDINGS.test(file.name) && !file.type.startsWith("audio/")) {
    throw new UploadError(
      `${file.name} is no audio file that can be read: take a WAV, FLAC, OGG, MP3 or M4A.`,
    );
  }
  if (file.size === 0) throw new UploadError(`${file.name} is empty.`);
  if (limits.bytes !== null && file.size > limits.bytes) {
    throw new UploadError(
      `${file.name} has ${size(file.size)}; the service takes ${size(limits.bytes)} at most. ` +
        "Cut it shorter, or save it as FLAC or MP3.",
    );
  }
  // Ten hours of silence are a small file, and would fill the memory once decoded.
  checkLength(file, await lengthOf(file), limits);
  const buffer = await decoded(file);
  if (buffer) checkLength(file, buffer.duration, limits);
  return {
    name: file.name,
    key: `${file.name} ${file.size} ${file.lastModified}`,
    buffer,
    peaks: buffer && (await Peaks.ofLong(buffer)),
    seconds: buffer && buffer.duration,
    encoded: once(() => encoded(file)),
    job: null,
    melody: null,
  };
}

/**
 * @param {File} file
 * @param {number | null} seconds
 * @param {Limits} limits
 */
function checkLength(file, seconds, limits) {
  if (seconds === null || limits.seconds === null || seconds <= limits.seconds) return;
  throw new UploadError(
    `${file.name} is ${wait(seconds)} long; the service takes ${wait(limits.seconds)} at most. ` +
      "Cut out the part that matters.",
  );
}

/**
 * The length in seconds that the file says it has, or null.
 *
 * @param {File} file
 * @returns {Promise<number | null>}
 */
function lengthOf(file) {
  const url = URL.createObjectURL(file);
  const audio = new Audio();
  /** @type {Promise<number | null>} */
  const length = new Promise((done) => {
    audio.preload = "metadata";
    audio.onloadedmetadata = () => done(Number.isFinite(audio.duration) ? audio.duration : null);
    audio.onerror = () => done(null);
    setTimeout(() => done(null), 3000);
    audio.src = url;
  });
  return length.finally(() => {
    audio.removeAttribute("src");
    URL.revokeObjectURL(url);
  });
}

/** @param {File} file */
async function decoded(file) {
  try {
    const context = new OfflineAudioContext(1, 1, SAMPLE_RATE);
    return await context.decodeAudioData(await file.arrayBuffer());
  } catch {
    return null;
  }
}

/**
 * The file as blobs of base64 text, made by the browser beside the page.
 *
 * @param {File} file
 */
async function encoded(file) {
  const parts = [];
  for (let start = 0; start < file.size; start += CHUNK_BYTES) {
    const url = await dataUrl(file.slice(start, start + CHUNK_BYTES));
    // A blob at once: joining them later copies nothing.
    parts.push(new Blob([url.slice(url.indexOf(",") + 1)]));
  }
  return parts;
}

/**
 * @param {Blob} blob
 * @returns {Promise<string>}
 */
function dataUrl(blob) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(String(reader.result));
    const lost = "The file cannot be read any more; choose it again.";
    reader.onerror = () => reject(new UploadError(lost));
    reader.readAsDataURL(blob);
  });
}

/**
 * @template T
 * @param {() => T} make
 */
function once(make) {
  /** @type {T | null} */
  let made = null;
  return () => (made ??= make());
}
