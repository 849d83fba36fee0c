// <segue-player>: several takes, one heard, switched at the same position.

import { h } from "./dom.js";
import { Takes } from "./takes.js";
import { follow, keys, transport } from "./transport.js";
import { Peaks, waveform } from "./waveform.js";

let players = 0;

class SeguePlayer extends HTMLElement {
  /**
   * Show `sources`; `join`, in seconds, is where the continuation starts, or null.
   * A source may have a `title` to be seen instead of its name, a `note`, the line below it, and
   * `actions`, elements beside it.
   */
  open(sources, join = null) {
    this.join = join;
    this.takes = new Takes(sources);
    this.controls = transport(this.takes, join);
    this.lanes = h("div", { class: "lanes" });
    this.rowOf = new Map();
    const levelled = h("input", {
      type: "checkbox",
      checked: true,
      onchange: () => this.takes.level(levelled.checked),
    });
    this.setAttribute("role", "group");
    this.setAttribute("aria-label", "Player");
    this.replaceChildren(
      this.controls,
      h("div", { role: "radiogroup", "aria-label": "Take" }, this.lanes),
      h("label", { class: "levelled" }, levelled, " Same loudness for all"),
      h(
        "p",
        { class: "keys" },
        hint(["Space"], "play"),
        hint(["1", "…", "9"], "or"),
        hint(["↑", "↓"], "take"),
        hint(["←", "→"], "1 s"),
        hint(["Shift", "←", "→"], "5 s"),
        hint(["L"], "repeat"),
      ),
    );
    follow(this.takes, () => this.#update());
    this.ready = this.show(sources);
  }

  /** Show these `sources` instead; what is heard goes on, if it is among them. */
  async show(sources) {
    const rows = sources.map((source) => {
      if (!this.rowOf.has(source)) this.rowOf.set(source, this.#row(source));
      return this.rowOf.get(source);
    });
    const focused = document.activeElement;
    this.lanes.replaceChildren(...rows);
    if (focused !== document.activeElement && rows.some((row) => row.contains(focused))) {
      focused.focus();
    }
    rows.forEach((row, n) => (row.querySelector(".number").textContent = String(n + 1)));
    try {
      await this.takes.change(sources);
    } catch {
      this.controls.replaceWith(h("p", { role: "alert" }, "This browser cannot decode the audio."));
      return;
    }
    this.#draw();
    this.#update();
  }

  /** In seconds; may be set. */
  get currentTime() {
    return this.takes.currentTime;
  }

  set currentTime(seconds) {
    this.takes.currentTime = seconds;
  }

  connectedCallback() {
    if (this.listening) return;
    this.listening = true;
    keys(this, () => this, (event) => this.#press(event));
  }

  #row(source) {
    const select = () => this.takes.select(this.takes.sources.indexOf(source));
    const radio = h("input", {
      type: "radio",
      name: (this.group ??= `take-${players++}`),
      onchange: select,
    });
    const seek = ({ clientX }) => {
      const box = lane.getBoundingClientRect();
      select();
      this.takes.currentTime = ((clientX - box.left) / box.width) * this.takes.duration;
    };
    const lane = h(
      "span",
      { class: "lane", onclick: seek },
      this.join !== null && h("span", { class: "join", title: "the continuation starts here" }),
      h("span", { class: "playhead", "aria-hidden": "true" }),
    );
    const note = source.note && h("small", {}, source.note);
    const text = h("span", {}, source.title ?? source.name, note);
    const name = h("label", { class: "name" }, radio, h("b", { class: "number" }), " ", text);
    const actions = source.actions && h("span", { class: "actions" }, source.actions);
    return h("div", { class: "take" }, name, lane, actions);
  }

  #draw() {
    const { buffers, sources, duration } = this.takes;
    const peaks = buffers.map((buffer) => (buffer.peaks ??= Peaks.of(buffer)));
    const loudest = Math.max(...peaks.map((one) => one.loudest));
    sources.forEach((source, index) => {
      const lane = this.rowOf.get(source).querySelector(".lane");
      let drawn = lane.querySelector(".waveform");
      if (!drawn) lane.prepend((drawn = waveform(peaks[index], { join: this.join })));
      drawn.redraw({ loudest });
      // A take that ends early does not stretch.
      drawn.style.width = `${(100 * buffers[index].duration) / duration}%`;
    });
  }

  #update() {
    this.controls.update();
    const { currentTime, duration, selected, sources } = this.takes;
    const share = (seconds) => `${duration ? (100 * seconds) / duration : 0}%`;
    sources.forEach((source, index) => {
      const row = this.rowOf.get(source);
      if (!row) return;
      row.classList.toggle("heard", index === selected);
      row.querySelector("input").checked = index === selected;
      row.querySelector(".playhead").style.left = share(currentTime);
      if (this.join !== null) row.querySelector(".join").style.left = share(this.join);
    });
  }

  #press(event) {
    const { selected, sources } = this.takes;
    const step = { ArrowUp: -1, ArrowDown: 1 }[event.key];
    const index = step ? selected + step : /^[1-9]$/.test(event.key) ? Number(event.key) - 1 : null;
    if (index === null) return false;
    if (index < 0 || index >= sources.length) return true;
    this.takes.select(index);
    if (document.activeElement?.closest(".take")) {
      this.rowOf.get(sources[index]).querySelector("input").focus();
    }
    return true;
  }
}

function hint(pressed, what) {
  return h("span", {}, pressed.map((key) => h("kbd", {}, key)), ` ${what}`);
}

customElements.define("segue-player", SeguePlayer);
