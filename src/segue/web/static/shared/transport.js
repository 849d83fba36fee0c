// @ts-check
// Play, seek and loop: the controls that everything with takes shares.

import { clock, h, svg } from "./dom.js";
import { timeField } from "./time.js";
import { volumeControl } from "./volume.js";

/** How long the loop around the current position is, in seconds. */
const AROUND = 4;

/** The shortest loop, in seconds. */
const SHORTEST = 0.05;

/** @import { Takes } from "./takes.js" */
/** @typedef {ReturnType<typeof transport>} Transport */

/** What is repeated. @typedef {"continuation" | "all" | "around" | "region"} Loop */

/**
 * Controls of `takes`; `update()` brings what they show up to date.
 *
 * @param {Takes} takes
 * @param {number | null} join  where the continuation starts, in seconds
 */
export function transport(takes, join) {
  const play = h("button", { type: "button", class: "play", onclick: () => toggle(takes) });
  const slider = h("input", {
    type: "range",
    min: 0,
    step: 0.01,
    value: 0,
    class: "seek",
    "aria-label": "Position",
    oninput: () => {
      takes.currentTime = Number(slider.value);
    },
  });
  const time = h("output", { class: "time" });
  const region = h("option", { value: "region", disabled: true, hidden: true }, "a part of it");
  const loop = h(
    "select",
    { onchange: () => choose() },
    h("option", { value: "" }, "nothing"),
    join !== null && h("option", { value: "continuation" }, "the continuation"),
    h("option", { value: "all" }, "all of it"),
    h("option", { value: "around" }, `${AROUND} s around here`),
    region,
  );
  /** What was marked. @type {[number, number]} */
  let marked = [0, 0];
  const start = timeField("from", (from) => mark(from, marked[1]));
  const end = timeField("to", (to) => mark(marked[0], to));
  const ends = h("span", { class: "ends", hidden: true }, start, end);
  const element = h(
    "div",
    { class: "transport" },
    play,
    slider,
    time,
    h("span", { class: "loop" }, h("label", {}, "Repeat ", loop), ends),
    volumeControl(),
  );
  const choose = () => {
    ends.hidden = loop.value !== "region";
    takes.setLoop(loop.value === "region" ? marked : regionOf(takes, loop.value, join));
  };
  /**
   * Repeat a part that somebody marked.
   *
   * @param {number} from  in seconds
   * @param {number} to
   */
  const mark = (from, to) => {
    const last = Math.max(0, takes.duration - SHORTEST);
    const first = Math.min(Math.max(0, from), last);
    marked = [first, Math.min(takes.duration, Math.max(to, first + SHORTEST))];
    start.set(marked[0]);
    end.set(marked[1]);
    region.disabled = region.hidden = false;
    loop.value = "region";
    choose();
  };
  const update = () => {
    const { currentTime, duration, playing } = takes;
    if (play.dataset.playing !== String(playing)) {
      play.dataset.playing = String(playing);
      play.replaceChildren(icon(playing), playing ? "Pause" : "Play");
    }
    slider.max = String(duration || 1);
    slider.value = String(currentTime);
    slider.setAttribute("aria-valuetext", `${clock(currentTime)} of ${clock(duration)}`);
    time.textContent = `${clock(currentTime)} / ${clock(duration)}`;
  };
  update();
  return Object.assign(element, {
    update,
    mark,
    /** @param {"" | Loop} what */
    loop(what) {
      loop.value = what;
      choose();
    },
    cycleLoop() {
      do loop.selectedIndex = (loop.selectedIndex + 1) % loop.options.length;
      while (loop.selectedOptions[0].disabled);
      choose();
    },
  });
}

/** @param {Takes} takes */
function toggle(takes) {
  if (takes.playing) takes.pause();
  else takes.play();
}

/**
 * @param {Takes} takes
 * @param {string} what  a Loop but `region`, or "" for no loop
 * @param {number | null} join
 * @returns {[number, number] | null}
 */
function regionOf(takes, what, join) {
  const { currentTime, duration } = takes;
  const start = Math.min(Math.max(0, currentTime - AROUND / 2), Math.max(0, duration - AROUND));
  /** @type {Record<string, [number, number]>} */
  const regions = {
    continuation: [join ?? 0, duration],
    all: [0, duration],
    around: [start, Math.min(start + AROUND, duration)],
  };
  return regions[what] ?? null;
}

/** @param {boolean} playing */
function icon(playing) {
  const path = playing ? "M3 2h3v10H3zM8 2h3v10H8z" : "M3 1.5v11l9-5.5z";
  return svg("svg", { viewBox: "0 0 14 14", "aria-hidden": "true" }, svg("path", { d: path }));
}

/**
 * Call `update()` once for every frame while `takes` play, and whenever their state changes;
 * the result ends that.
 *
 * @param {Takes} takes
 * @param {() => void} update
 */
export function follow(takes, update) {
  let frame = 0;
  const tick = () => {
    update();
    cancelAnimationFrame(frame);
    if (takes.playing) frame = requestAnimationFrame(tick);
  };
  takes.addEventListener("state", tick);
  tick();
  return () => {
    takes.removeEventListener("state", tick);
    cancelAnimationFrame(frame);
  };
}

/**
 * What keys do to takes and their controls.
 *
 * @param {Takes} takes
 * @param {Transport} controls
 * @param {(event: KeyboardEvent) => boolean} handle  whether it handled any other key
 * @returns {import("./keys.js").Actions}
 */
export function actionsOf(takes, controls, handle) {
  return {
    toggle: () => toggle(takes),
    seek: (seconds) => {
      takes.currentTime += seconds;
    },
    handle: (event) => {
      const [from, to] = takes.loop ?? [0, takes.duration];
      if (event.key === "l") controls.cycleLoop();
      else if (event.key === "[") controls.mark(takes.currentTime, to);
      else if (event.key === "]") controls.mark(from, takes.currentTime);
      else return handle(event);
      return true;
    },
  };
}
