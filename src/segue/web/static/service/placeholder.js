// @ts-check
// The picture on the empty page: nobody's music, drawn by rule.

import { h } from "../shared/dom.js";
import { Peaks, waveform } from "../shared/waveform.js";

const SECONDS = 30;
const JOIN = 6;
const RATE = 400;

/** A waveform with its join, for the eye alone. */
export function placeholder() {
  const samples = Float32Array.from({ length: SECONDS * RATE }, (_, t) => {
    const time = t / RATE;
    // Beats that die away, louder and softer by the bar, over something slower.
    const beat = Math.exp(-5 * (time % 0.5)) * (time % 2 < 0.5 ? 1 : 0.62);
    const swell = 0.3 + 0.2 * Math.sin(time * 0.9 + 1) + 0.12 * Math.sin(time * 2.3);
    return (0.55 * beat + swell * 0.6) * (t % 2 ? -0.85 : 1);
  });
  const peaks = new Peaks();
  peaks.add([samples], RATE);
  const join = h("span", { class: "join" }, h("span", { class: "direction" }, "segue"));
  join.style.left = `${(100 * JOIN) / SECONDS}%`;
  const picture = waveform(peaks, { join: JOIN });
  return h("div", { class: "placeholder", "aria-hidden": "true" }, picture, join);
}
