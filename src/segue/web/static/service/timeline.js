// @ts-check
// The result on a time axis from the prompt on: the prompt, the join, and room for what follows.

import { h } from "../shared/dom.js";
import { gridLines } from "../shared/grid.js";
import { exactClock } from "../shared/time.js";
import { waveform } from "../shared/waveform.js";

/** @import { Grid } from "../shared/grid.js" */
/** @import { Peaks, Waveform } from "../shared/waveform.js" */

/**
 * What a timeline shows. All but the tracks and `loudest` in seconds.
 *
 * @typedef {object} Span
 * @property {Peaks[]} peaks  one for every track
 * @property {number} [from]  where in the tracks the axis starts
 * @property {number} seconds  how long the axis is
 * @property {number} join  where on the axis the continuation starts
 * @property {number} [until]  where in the tracks that ends which is drawn
 * @property {Grid | null} [grid]  counted as the axis is
 * @property {number} [loudest]  the sample that is as high as a track
 */

/** @typedef {ReturnType<typeof timeline>} Timeline */

/** An element; `show()` sets what is on it, `at(seconds)` moves its playhead, null hides it. */
export function timeline() {
  const join = h("div", { class: "join" }, h("span", { class: "direction" }, "segue"));
  const head = h("div", { class: "playhead", hidden: true });
  const tracks = h("div", { class: "tracks" });
  const lines = gridLines();
  const picture = h("div", { class: "picture" }, tracks, lines);
  const end = h("span", { class: "end" });
  const joined = h("span", { class: "joined" });
  const times = h("div", { class: "times" }, joined, end);
  const classes = { class: "timeline", "aria-hidden": "true" };
  const element = h("div", classes, picture, join, head, times);
  let length = 1;
  /** @type {{ peaks: Peaks, picture: Waveform }[]} */
  let drawn = [];

  return Object.assign(element, {
    /** @param {Span} span */
    show({ peaks, from = 0, seconds, join: at, until = Infinity, loudest = 1, grid = null }) {
      length = seconds;
      const view = { from, to: from + seconds, join: from + at, until, loudest };
      if (peaks.length !== drawn.length || peaks.some((one, n) => one !== drawn[n].peaks)) {
        drawn = peaks.map((one) => ({ peaks: one, picture: waveform(one, view) }));
        const rows = drawn.map(({ picture }) => h("div", { class: "track" }, picture));
        tracks.replaceChildren(...rows);
      } else {
        drawn.forEach(({ picture }) => picture.redraw(view));
      }
      lines.show(grid, 0, seconds);
      const share = at / seconds;
      join.hidden = joined.hidden = at === 0;
      join.style.left = joined.style.left = `${100 * share}%`;
      joined.textContent = exactClock(at);
      end.textContent = exactClock(seconds);
      // Nothing must lie on top of another, or stick out.
      element.classList.toggle("late", share > 0.75);
    },
    /** @param {number | null} seconds */
    at(seconds) {
      head.hidden = seconds === null;
      if (seconds !== null) head.style.left = `${(100 * seconds) / length}%`;
    },
  });
}
