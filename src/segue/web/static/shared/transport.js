// @ts-check
// Play, seek and loop: the controls that everything with takes shares, and their keys.

import { clock, h, svg, typing } from "./dom.js";

/** How long the loop around the current position is, in seconds. */
const AROUND = 4;

/** @import { Takes } from "./takes.js" */
/** @typedef {ReturnType<typeof transport>} Transport */

/** What the keys act on now. @type {HTMLElement | null} */
let inUse = null;

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
  const loop = h(
    "select",
    {
      onchange: () => {
        setLoop(takes, loop.value, join);
      },
    },
    h("option", { value: "" }, "nothing"),
    join !== null && h("option", { value: "continuation" }, "the continuation"),
    h("option", { value: "all" }, "all of it"),
    h("option", { value: "around" }, `${AROUND} s around here`),
  );
  const element = h(
    "div",
    { class: "transport" },
    play,
    slider,
    time,
    h("label", { class: "loop" }, "Repeat ", loop),
  );
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
    /** @param {"" | Region} region */
    loop(region) {
      loop.value = region;
      setLoop(takes, region, join);
    },
    cycleLoop() {
      loop.selectedIndex = (loop.selectedIndex + 1) % loop.options.length;
      setLoop(takes, loop.value, join);
    },
  });
}

/** @typedef {"continuation" | "all" | "around"} Region */

/** @param {Takes} takes */
function toggle(takes) {
  if (takes.playing) takes.pause();
  else takes.play();
}

/**
 * @param {Takes} takes
 * @param {string} what  a Region, or "" for no loop
 * @param {number | null} join
 */
function setLoop(takes, what, join) {
  const { currentTime, duration } = takes;
  const start = Math.min(Math.max(0, currentTime - AROUND / 2), Math.max(0, duration - AROUND));
  /** @type {Record<string, [number, number]>} */
  const regions = {
    continuation: [join ?? 0, duration],
    all: [0, duration],
    around: [start, Math.min(start + AROUND, duration)],
  };
  takes.setLoop(regions[what] ?? null);
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
 * Keys of `root`, while the focus is in it or, with the focus nowhere, when it was used last:
 * space, left and right, L.
 *
 * @param {HTMLElement} root
 * @param {() => { takes: Takes, controls: Transport } | null} state  null while nothing is there
 * @param {(event: KeyboardEvent) => boolean} handle  whether it handled any other key
 */
export function keys(root, state, handle) {
  /** @param {KeyboardEvent} event */
  const press = (event) => {
    const current = state();
    if (!current || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.defaultPrevented || typing(event.target, event.key)) return;
    const { takes, controls } = current;
    const seconds = event.shiftKey ? 5 : 1;
    if (event.key === " ") toggle(takes);
    else if (event.key === "ArrowLeft") takes.currentTime -= seconds;
    else if (event.key === "ArrowRight") takes.currentTime += seconds;
    else if (event.key === "l") controls.cycleLoop();
    else if (!handle(event)) return;
    event.preventDefault();
  };
  const use = () => (inUse = root);
  root.addEventListener("focusin", use);
  root.addEventListener("pointerdown", use);
  root.addEventListener("keydown", press);
  document.addEventListener("keydown", (event) => {
    if (inUse === root && event.target === document.body) press(event);
  });
}
