// @ts-check
// Jobs on their way to the service: audio that it has already is not sent again.

import * as api from "./api.js";
import * as http from "./http.js";

/** @import { InputRef, JobParameters } from "../../types/service.js" */
/** @import { PromptPanel } from "./prompt_panel.js" */
/** @import { Upload } from "./upload.js" */

/**
 * Queue a job on the panel's music, or on words and a melody alone.
 *
 * @param {PromptPanel} panel
 * @param {Upload | null} melody
 * @param {JobParameters} parameters
 */
export async function send({ upload, slice }, melody, parameters) {
  const [start, end] = slice ? [slice.start, slice.end] : [0, 0];
  const input = upload && (await inputOf(upload, start, end));
  const followed = JSON.stringify([melody?.key, input]);
  if (melody?.sent?.as === followed) {
    const known = await unlessGone(api.retry(melody.sent.job, parameters));
    if (known) return known;
  }
  const files = (await melody?.encoded()) ?? null;
  const started =
    (await unlessGone(api.start(input, files, parameters))) ??
    // The service has forgotten the audio: once more, from the file.
    (await api.start(upload && (await inputOf(upload, start, end, true)), files, parameters));
  if (melody) melody.sent = { job: started.job_id, as: followed };
  return started;
}

/**
 * What the service has of some music, which is sent if it has none of it.
 *
 * @param {Upload} upload
 * @param {number} start  of the slice, in seconds
 * @param {number} end
 * @param {boolean} [anew]  whether what the service had is gone
 * @returns {Promise<InputRef>}
 */
export async function inputOf(upload, start, end, anew = false) {
  if (upload.take) return { ...upload.take, until_seconds: end };
  const as = upload.cut ? `${start} ${end}` : "";
  if (!upload.input || upload.input.as !== as || anew) {
    const audio = upload.cut ? await upload.encodedPart(start, end) : await upload.encoded();
    const { input_id: id } = await api.addInput(audio, upload.name);
    upload.input = { id, as };
  }
  return { input_id: upload.input.id };
}

/**
 * What a request answers; null where the service does not have any more what it is about.
 *
 * @template T
 * @param {Promise<T>} answer
 */
async function unlessGone(answer) {
  try {
    return await answer;
  } catch (error) {
    if (http.statusOf(error) !== 404) throw error;
    return null;
  }
}
