// The reader's own audio: inspected before anything is sent, decoded to be seen and heard.

import { size, wait } from "./format.js";
import { Peaks } from "../shared/waveform.js";

/** A multiple of three: pieces of base64 then join without padding between them. */
const PIECE = 3 * 2 ** 20;

const ENDINGS = /\.(wav|wave|flac|og[ga]|opus|mp[234]|m4[ab]|aac|aif[fc]?|caf|au|w64|rf64|bw64|webm|mka|wma|wv)$/i;

/** At which rate audio is decoded to be seen and heard; what is sent is the file as it is. */
const SAMPLE_RATE = 44100;

/** A file cannot be used; the message says why, and what can be. */
export class UploadError extends Error {}

/**
 * Inspect `file`. `limits` has `bytes` and `seconds`, or null for either.
 * The result's `buffer` and `peaks` are null if this browser cannot decode the file.
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
  tooLong(file, await lengthOf(file), limits);
  const buffer = await decoded(file);
  if (buffer) tooLong(file, buffer.duration, limits);
  return {
    name: file.name,
    key: `${file.name} ${file.size} ${file.lastModified}`,
    buffer,
    peaks: buffer && (await Peaks.ofLong(buffer)),
    seconds: buffer && buffer.duration,
    encoded: once(() => encoded(file)),
  };
}

function tooLong(file, seconds, limits) {
  if (seconds === null || limits.seconds === null || seconds <= limits.seconds) return;
  throw new UploadError(
    `${file.name} is ${wait(seconds)} long; the service takes ${wait(limits.seconds)} at most. ` +
      "Cut out the part that matters.",
  );
}

/** The length in seconds that the file says it has, or null. */
function lengthOf(file) {
  const url = URL.createObjectURL(file);
  const audio = new Audio();
  return new Promise((done) => {
    audio.preload = "metadata";
    audio.onloadedmetadata = () => done(Number.isFinite(audio.duration) ? audio.duration : null);
    audio.onerror = () => done(null);
    setTimeout(() => done(null), 3000);
    audio.src = url;
  }).finally(() => {
    audio.removeAttribute("src");
    URL.revokeObjectURL(url);
  });
}

async function decoded(file) {
  try {
    const context = new OfflineAudioContext(1, 1, SAMPLE_RATE);
    return await context.decodeAudioData(await file.arrayBuffer());
  } catch {
    return null;
  }
}

/** The file as blobs of base64 text, made by the browser beside the page. */
async function encoded(file) {
  const parts = [];
  for (let start = 0; start < file.size; start += PIECE) {
    const piece = await dataUrl(file.slice(start, start + PIECE));
    // A blob at once: joining them later copies nothing.
    parts.push(new Blob([piece.slice(piece.indexOf(",") + 1)]));
  }
  return parts;
}

function dataUrl(blob) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    const lost = "The file cannot be read any more; choose it again.";
    reader.onerror = () => reject(new UploadError(lost));
    reader.readAsDataURL(blob);
  });
}

function once(make) {
  let made = null;
  return () => (made ??= make());
}
