// A piece from the prompt on: what is yours, the join, and room for what follows.

import { clock, h } from "../shared/dom.js";
import { waveform } from "../shared/waveform.js";

/** An element; `show()` says what is on it, `at(seconds)` moves its playhead, null hides it. */
export function timeline() {
  const join = h("div", { class: "join" }, h("span", { class: "direction" }, "segue"));
  const head = h("div", { class: "playhead", hidden: true });
  const tracks = h("div", { class: "tracks" });
  const end = h("span", { class: "end" });
  const joined = h("span", { class: "joined" });
  const times = h("div", { class: "times" }, joined, end);
  const element = h("div", { class: "score", "aria-hidden": "true" }, tracks, join, head, times);
  let shown = {};
  let drawn = [];

  /**
   * `peaks` has one Peaks for every track; `from` and `seconds` say which part of them is seen,
   * `join` where the continuation starts and `until` where what is known ends, all in seconds.
   */
  element.show = ({ peaks, from = 0, seconds, join: at, until = Infinity, loudest = 1 }) => {
    shown = { from, seconds };
    const options = { from, to: from + seconds, join: from + at, until, loudest };
    if (peaks.length !== drawn.length || peaks.some((one, n) => one !== drawn[n].peaks)) {
      drawn = peaks.map((one) => ({ peaks: one, picture: waveform(one, options) }));
      tracks.replaceChildren(...drawn.map(({ picture }) => h("div", { class: "track" }, picture)));
    } else {
      drawn.forEach(({ picture }) => picture.redraw(options));
    }
    const share = at / seconds;
    join.style.left = joined.style.left = `${100 * share}%`;
    joined.textContent = clock(at);
    end.textContent = clock(seconds);
    // Nothing must lie on top of another, or stick out.
    element.classList.toggle("late", share > 0.75);
  };
  element.at = (seconds) => {
    head.hidden = seconds === null;
    if (seconds !== null) head.style.left = `${(100 * seconds) / shown.seconds}%`;
  };
  return element;
}
