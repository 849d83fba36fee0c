// @ts-check
// The events of a job that runs.

import { pathOf } from "./api.js";
import { request } from "./http.js";

/** @import { StreamEvent } from "../../types/service.js" */

/**
 * Yield the events of a job's stream until it ends.
 *
 * @param {string} id
 * @param {AbortSignal} signal
 * @returns {AsyncGenerator<StreamEvent, void>}
 */
export async function* eventsOf(id, signal) {
  const headers = { Accept: "text/event-stream" };
  const { body } = await request(`${pathOf(id)}/stream`, { headers, signal });
  if (!body) return;
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  // A chunk of the network is no event: what is not finished waits for the rest, unsearched.
  /** @type {string[]} */
  let waiting = [];
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    waiting.push(value);
    if (!value.includes("\n")) continue;
    const blocks = waiting.join("").replaceAll("\r\n", "\n").split("\n\n");
    waiting = [blocks.pop() ?? ""];
    for (const block of blocks) {
      const event = parseEvent(block);
      if (event) yield event;
    }
  }
}

/**
 * @param {string} block  lines of an event stream
 * @returns {StreamEvent | null}
 */
function parseEvent(block) {
  let event = "message";
  const data = [];
  for (const line of block.split("\n")) {
    if (line.startsWith("event:")) event = line.slice(6).trim();
    else if (line.startsWith("data:")) data.push(line.slice(5).trimStart());
  }
  if (!data.length) return null;
  return /** @type {StreamEvent} */ ({ event, data: JSON.parse(data.join("\n")) });
}
