// @ts-check
// A part of the music, marked by dragging over its waveform.

/** @import { Grid } from "./grid.js" */
/** @import { Viewport } from "./viewport.js" */

/** From how many pixels on a press is a drag. */
const DRAG = 5;

/**
 * Let the pointer mark a part of what `lane` shows, from beat to beat where there are any, freely
 * with Alt, Ctrl or Command; a press without a drag is a click.
 *
 * @param {HTMLElement} lane  as wide as the viewport
 * @param {Viewport} viewport
 * @param {object} handlers
 * @param {() => Grid | null} handlers.grid
 * @param {(from: number, to: number) => void} handlers.mark
 * @param {(seconds: number) => void} handlers.click
 */
export function markByDragging(lane, viewport, { grid, mark, click }) {
  lane.addEventListener("pointerdown", (down) => {
    if (down.button !== 0) return;
    const { pointerId, clientX } = down;
    const { left, width } = lane.getBoundingClientRect();
    /** @param {PointerEvent} event */
    const second = (event) => viewport.at((event.clientX - left) / width);
    const start = second(down);
    let dragged = false;
    /** @param {PointerEvent} moved */
    const move = (moved) => {
      if (moved.pointerId !== pointerId) return;
      dragged ||= Math.abs(moved.clientX - clientX) >= DRAG;
      if (!dragged) return;
      const free = moved.altKey || moved.ctrlKey || moved.metaKey;
      const [from, to] = [start, second(moved)]
        .map((at) => (free ? at : (grid()?.nearest(at, "beat") ?? at)))
        .sort((a, b) => a - b);
      mark(from, to);
    };
    /** @param {PointerEvent} up */
    const drop = (up) => {
      if (up.pointerId !== pointerId) return;
      lane.removeEventListener("pointermove", move);
      lane.removeEventListener("pointerup", drop);
      lane.removeEventListener("pointercancel", drop);
      if (!dragged && up.type === "pointerup") click(second(up));
    };
    lane.setPointerCapture(pointerId);
    lane.addEventListener("pointermove", move);
    lane.addEventListener("pointerup", drop);
    lane.addEventListener("pointercancel", drop);
  });
}
