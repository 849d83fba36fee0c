// @ts-check
// Music that the service has, as the next prompt: a take, or what takes were made from.

import * as http from "./http.js";
import { decodedBytes, known } from "./upload.js";

/** @import { JobAbout } from "./job_about.js" */
/** @import { PromptPanel } from "./prompt_panel.js" */
/** @import { Recording } from "./recording.js" */
/** @import { TakeGroup } from "./take_group.js" */

/**
 * Let the next prompt end where a take does, or at some moment of it.
 *
 * @param {PromptPanel} panel
 * @param {Recording} source
 * @param {TakeGroup} group  that it is in
 * @param {number | null} at  in seconds from the group's prompt on; null for its end
 */
export async function playOn(panel, source, group, at) {
  const { card, take } = source;
  const { start, seconds, file } = card.about;
  group.player.takes.pause();
  const upload = await known({
    name: take.name || `${file}, seed ${take.seed}`,
    buffer: await source.whole(),
    take: { job: card.id, take: take.number },
  });
  panel.show(upload, {
    tempo: tempoOf(card.about),
    end: at === null ? undefined : start + at,
    length: seconds || undefined,
    note: "The next part goes on from the end of the slice; what lies before it stays.",
  });
}

/**
 * Choose another slice of what a group's takes were made from. Returns whether it is there.
 *
 * @param {PromptPanel} panel
 * @param {TakeGroup} group
 */
export async function reopen(panel, group) {
  const { input, file, start, seconds } = group.about;
  if (!input) return false;
  group.player.takes.pause();
  group.showError(null);
  try {
    const buffer = await decodedBytes(await http.bytes(input.url));
    const upload = await known({ name: file, buffer, input: input.input_id });
    panel.show(upload, { tempo: tempoOf(group.about), end: start + seconds, length: seconds });
    return true;
  } catch (error) {
    group.showError(error);
    return false;
  }
}

/** @param {JobAbout} about */
function tempoOf({ grid, start }) {
  if (!grid) return null;
  const { bpm, beatsPerBar } = grid;
  return { bpm, beatsPerBar, downbeat: grid.moved(-start).first };
}
