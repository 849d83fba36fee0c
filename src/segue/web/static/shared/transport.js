// Play, seek and loop: the controls that everything with takes shares, and their keys.

import { clock, h, svg, typing } from "./dom.js";

/** How long the loop around the current position is, in seconds. */
const AROUND = 4;

let inUse = null;

/**
 * Controls of `takes`. `join`, in seconds, is where the continuation starts, or null.
 * What they show is brought up to date by `update()`.
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
    oninput: () => (takes.currentTime = Number(slider.value)),
  });
  const time = h("output", { class: "time" });
  const loop = h(
    "select",
    { onchange: () => setLoop(takes, loop.value, join) },
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
  element.update = () => {
    const { currentTime, duration, playing } = takes;
    if (play.dataset.playing !== String(playing)) {
      play.dataset.playing = playing;
      play.replaceChildren(icon(playing), playing ? "Pause" : "Play");
    }
    slider.max = duration || 1;
    slider.value = currentTime;
    slider.setAttribute("aria-valuetext", `${clock(currentTime)} of ${clock(duration)}`);
    time.textContent = `${clock(currentTime)} / ${clock(duration)}`;
  };
  element.loop = (what) => {
    loop.value = what;
    setLoop(takes, what, join);
  };
  element.cycleLoop = () => {
    loop.selectedIndex = (loop.selectedIndex + 1) % loop.options.length;
    setLoop(takes, loop.value, join);
  };
  element.update();
  return element;
}

function toggle(takes) {
  if (takes.playing) takes.pause();
  else takes.play();
}

function setLoop(takes, what, join) {
  const { currentTime, duration } = takes;
  const start = Math.min(Math.max(0, currentTime - AROUND / 2), Math.max(0, duration - AROUND));
  const regions = {
    continuation: [join, duration],
    all: [0, duration],
    around: [start, Math.min(start + AROUND, duration)],
  };
  takes.setLoop(regions[what] ?? null);
}

function icon(playing) {
  const path = playing ? "M3 2h3v10H3zM8 2h3v10H8z" : "M3 1.5v11l9-5.5z";
  return svg("svg", { viewBox: "0 0 14 14", "aria-hidden": "true" }, svg("path", { d: path }));
}

/**
 * Call `update()` once for every frame while `takes` play, and whenever their state changes;
 * the result ends that.
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
 * space, left and right, L; `own(event)` says whether it took any other.
 */
export function keys(root, state, own) {
  const press = (event) => {
    const { takes, controls } = state();
    if (!takes || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.defaultPrevented || typing(event.target, event.key)) return;
    const seconds = event.shiftKey ? 5 : 1;
    if (event.key === " ") toggle(takes);
    else if (event.key === "ArrowLeft") takes.currentTime -= seconds;
    else if (event.key === "ArrowRight") takes.currentTime += seconds;
    else if (event.key === "l") controls.cycleLoop();
    else if (!own(event)) return;
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
