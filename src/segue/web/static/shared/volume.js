// @ts-check
// How loud the page is: one number for everything that it plays, kept by the browser.

import { h } from "./dom.js";

const STORED = "segue.volume";

/** Time constant of a change, in seconds. */
const FADE = 0.01;

/** @type {WeakMap<BaseAudioContext, GainNode>} */
const outputs = new WeakMap();

class Volume extends EventTarget {
  /** From 0 to 1, as the slider stands. */
  level = stored();

  /** What samples are multiplied by: loudness follows the slider more evenly than the level. */
  get gain() {
    return this.level ** 2;
  }

  /** @param {number} level  0 to 1 */
  set(level) {
    this.level = level;
    try {
      localStorage.setItem(STORED, String(level));
    } catch {
      // Without storage, it lasts as long as the page.
    }
    this.dispatchEvent(new Event("change"));
  }
}

export const volume = new Volume();

/**
 * Where the sound of a context goes: through the page's volume.
 *
 * @param {BaseAudioContext} context
 * @returns {AudioNode}
 */
export function outputOf(context) {
  const known = outputs.get(context);
  if (known) return known;
  const gain = new GainNode(context, { gain: volume.gain });
  gain.connect(context.destination);
  volume.addEventListener("change", () => {
    gain.gain.setTargetAtTime(volume.gain, context.currentTime, FADE);
  });
  outputs.set(context, gain);
  return gain;
}

/** A slider of the volume; all of them move together. */
export function volumeControl() {
  const slider = h("input", {
    type: "range",
    min: 0,
    max: 100,
    step: 1,
    "data-own-keys": "",
  });
  slider.addEventListener("input", () => volume.set(Number(slider.value) / 100));
  const show = () => {
    const percent = Math.round(100 * volume.level);
    slider.value = String(percent);
    slider.setAttribute("aria-valuetext", `${percent} %`);
  };
  volume.addEventListener("change", show);
  show();
  return h("label", { class: "volume" }, "Volume ", slider);
}

function stored() {
  try {
    const found = localStorage.getItem(STORED);
    const level = found === null ? 1 : Number(found);
    return level >= 0 && level <= 1 ? level : 1;
  } catch {
    return 1;
  }
}
