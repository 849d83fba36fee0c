// @ts-check
// The user's own audio: inspected before anything is sent, decoded to be drawn and played.

import { size, wait } from "./format.js";
import { wavOfPart } from "./wav.js";
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
 * @property {boolean} cut  whether it is more than the service takes, so that a part of it is sent
 * @property {() => Promise<Blob[]>} encoded  parts of its base64 text
 * @property {(from: number, to: number) => Promise<Blob[]>} encodedPart  the same of a part of it
 * @property {{ id: string, as: string } | null} input  what the service has of it: all of it, or
 *   the part that `as` says
 * @property {{ job: string, as: string } | null} sent  the job that followed it as a melody, on what
 * @property {{ job: string, take: number } | null} take  the take that it is, on the service
 */

/** A multiple of three: chunks of base64 then join without padding between them. */
const CHUNK_BYTES = 3 * 2 ** 20;

const ENDINGS = /\.(wav|wave|flac|og[ga]|opus|mp[234]|m4[ab]|aac|aif[fc]?|caf|au|w64|rf64|bw64|webm|mka|wma|wv)$/i;

/** At which rate audio is decoded to be drawn and played; what is sent is the file as it is. */
const SAMPLE_RATE = 44100;

/** The longest file that is decoded, in seconds: an hour of stereo fills 1.3 GB. */
const LONGEST = 3600;

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
  // Ten hours of silence are a small file, and would fill the memory once decoded.
  const length = await lengthOf(file);
  if (length !== null && length > LONGEST) throw tooLong(file, length, LONGEST);
  const buffer = await decoded(file);
  const seconds = buffer?.duration ?? length;
  const large = limits.bytes !== null && file.size > limits.bytes;
  const long = seconds !== null && limits.seconds !== null && seconds > limits.seconds;
  if (!buffer && large) {
    throw new UploadError(
      `${file.name} has ${size(file.size)}; the service takes ${size(limits.bytes ?? 0)} at most. ` +
        "Cut it shorter, or save it as FLAC or MP3.",
    );
  }
  if (!buffer && long) throw tooLong(file, seconds, limits.seconds ?? 0);
  return {
    name: file.name,
    key: `${file.name} ${file.size} ${file.lastModified}`,
    buffer,
    peaks: buffer && (await Peaks.ofLong(buffer)),
    seconds: buffer && buffer.duration,
    cut: large || long,
    encoded: once(() => encoded(file)),
    encodedPart: async (from, to) => {
      if (!buffer) throw new UploadError(`${file.name} cannot be cut in this browser.`);
      return encoded(wavOfPart(buffer, from, to));
    },
    input: null,
    sent: null,
    take: null,
  };
}

/**
 * Music that the service has: an input of jobs before, or a take.
 *
 * @param {object} music
 * @param {string} music.name
 * @param {AudioBuffer} music.buffer
 * @param {string} [music.input]  its id
 * @param {{ job: string, take: number }} [music.take]
 * @returns {Promise<Upload>}
 */
export async function known({ name, buffer, input, take }) {
  const lost = () => Promise.reject(new UploadError(`The service does not have ${name} any more.`));
  return {
    name,
    key: JSON.stringify([input, take]),
    buffer,
    peaks: await Peaks.ofLong(buffer),
    seconds: buffer.duration,
    cut: false,
    encoded: lost,
    encodedPart: lost,
    input: input ? { id: input, as: "" } : null,
    sent: null,
    take: take ?? null,
  };
}

/**
 * @param {File} file
 * @param {number} seconds
 * @param {number} longest
 */
function tooLong(file, seconds, longest) {
  return new UploadError(
    `${file.name} is ${wait(seconds)} long; ${wait(longest)} are taken at most. ` +
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

/**
 * Audio as the page draws and plays it.
 *
 * @param {ArrayBuffer} bytes  of a file
 */
export function decodedBytes(bytes) {
  return new OfflineAudioContext(1, 1, SAMPLE_RATE).decodeAudioData(bytes);
}

/** @param {File} file */
async function decoded(file) {
  try {
    return await decodedBytes(await file.arrayBuffer());
  } catch {
    return null;
  }
}

/**
 * A file as blobs of base64 text, made by the browser beside the page.
 *
 * @param {Blob} file
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
