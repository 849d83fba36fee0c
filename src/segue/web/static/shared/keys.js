// @ts-check
// Keys for whatever was used last, wherever the focus is but in a field that wants them itself.

import { typing } from "./dom.js";

/**
 * What keys do somewhere. `handle` is for all other keys, and returns whether it was for one.
 *
 * @typedef {object} Actions
 * @property {() => void} toggle  play or pause
 * @property {(seconds: number) => void} seek  by so much
 * @property {(event: KeyboardEvent) => boolean} [handle]
 */

/** @type {Map<Element, () => Actions | null>} */
const registered = new Map();

/** What the keys act on while the focus is elsewhere. @type {Element | null} */
let inUse = null;

/** The button that has the focus because it was clicked. @type {Element | null} */
let clicked = null;

/** Whether a space is down that was for the music: its release must press no button. */
let spent = false;

/**
 * Let keys act on what `element` shows: space, left and right, and what else it handles. The result
 * ends that.
 *
 * @param {HTMLElement} element
 * @param {() => Actions | null} actions  null while nothing is there
 */
export function registerKeys(element, actions) {
  if (!registered.size) {
    document.addEventListener("keydown", press);
    document.addEventListener("keyup", release);
    document.addEventListener("pointerdown", point, true);
    document.addEventListener("focusin", ({ target }) => {
      if (target !== clicked) clicked = null;
    });
  }
  registered.set(element, actions);
  const use = () => useKeys(element);
  element.addEventListener("focusin", use);
  element.addEventListener("pointerdown", use);
  return () => {
    registered.delete(element);
    if (inUse === element) inUse = null;
    element.removeEventListener("focusin", use);
    element.removeEventListener("pointerdown", use);
  };
}

/**
 * Let keys act on this element from now on.
 *
 * @param {Element} element
 */
export function useKeys(element) {
  inUse = element;
}

/** @param {KeyboardEvent} event */
function press(event) {
  if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
  const target = event.target instanceof Element ? event.target : null;
  const around = elementAround(target);
  const element = around ?? inUse;
  if (!element?.isConnected) return;
  // What was clicked keeps the focus, but the next space is meant for the music.
  const free = event.key === " " && clicked !== null && clicked === target;
  if (!free && typing(target, event.key, around === null)) return;
  const actions = registered.get(element)?.();
  if (!actions) return;
  const seconds = event.shiftKey ? 5 : 1;
  if (event.key === " ") actions.toggle();
  else if (event.key === "ArrowLeft") actions.seek(-seconds);
  else if (event.key === "ArrowRight") actions.seek(seconds);
  else if (!actions.handle?.(event)) return;
  spent ||= event.key === " ";
  event.preventDefault();
}

/** @param {KeyboardEvent} event */
function release(event) {
  if (event.key !== " " || !spent) return;
  spent = false;
  event.preventDefault();
}

/** @param {PointerEvent} event */
function point({ target }) {
  clicked = target instanceof Element ? target.closest("button, summary") : null;
}

/** @param {Element | null} target */
function elementAround(target) {
  for (let element = target; element; element = element.parentElement) {
    if (registered.has(element)) return element;
  }
  return null;
}
