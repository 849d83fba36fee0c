// @ts-check
// A part of the music, marked by dragging over its waveform.

import { dragging, isFree } from "./pointer.js";

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
    const { left, width } = lane.getBoundingClientRect();
    /** @param {PointerEvent} event */
    const second = ({ clientX }) => viewport.at((clientX - left) / width);
    const start = second(down);
    let dragged = false;
    dragging(lane, down, {
      move: (moved) => {
        dragged ||= Math.abs(moved.clientX - down.clientX) >= DRAG;
        if (!dragged) return;
        const [from, to] = [start, second(moved)]
          .map((at) => (isFree(moved) ? at : (grid()?.nearest(at, "beat") ?? at)))
          .sort((a, b) => a - b);
        mark(from, to);
      },
      drop: (up) => {
        if (!dragged && up.type === "pointerup") click(second(up));
      },
    });
  });
}
