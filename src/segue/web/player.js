// <segue-player>: several takes, one heard, switched at the same position.

import { h } from "./dom.js";
import { Takes } from "./takes.js";
import { follow, keys, peak, transport, waveform } from "./transport.js";

let players = 0;

class SeguePlayer extends HTMLElement {
  /** Show `sources`; `join`, in seconds, is where the continuation starts, or null. */
  open(sources, join = null) {
    this.takes = new Takes(sources);
    this.controls = transport(this.takes, join);
    this.head = h("div", { class: "playhead", "aria-hidden": "true" });
    this.rows = sources.map((source, index) => this.#row(source, index));
    const levelled = h("input", {
      type: "checkbox",
      checked: true,
      onchange: () => this.takes.level(levelled.checked),
    });
    const lanes = h("div", { class: "lanes" }, this.rows, h("div", { class: "ruler" }, this.head));
    if (join !== null) this.#mark(lanes, join);
    this.setAttribute("role", "group");
    this.setAttribute("aria-label", "Player");
    this.replaceChildren(
      this.controls,
      h("div", { role: "radiogroup", "aria-label": "Take" }, lanes),
      h("label", { class: "levelled" }, levelled, " Same loudness for all"),
      h(
        "p",
        { class: "keys" },
        hint(["Space"], "play"),
        hint(["1", "…", String(Math.min(9, sources.length))], "or"),
        hint(["↑", "↓"], "take"),
        hint(["←", "→"], "1 s"),
        hint(["Shift", "←", "→"], "5 s"),
        hint(["L"], "repeat"),
      ),
    );
    follow(this.takes, () => this.#update());
    this.ready = this.#decode();
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

  #row(source, index) {
    const radio = h("input", {
      type: "radio",
      name: (this.group ??= `take-${players++}`),
      checked: index === 0,
      onchange: () => this.takes.select(index),
    });
    const lane = h("span", {
      class: "lane",
      onclick: (event) => {
        const box = lane.getBoundingClientRect();
        this.takes.currentTime = ((event.clientX - box.left) / box.width) * this.takes.duration;
      },
    });
    const number = h("b", { class: "number" }, String(index + 1));
    const name = h("span", { class: "name" }, radio, number, " ", source.name);
    return h("label", { class: "take" }, name, lane);
  }

  async #decode() {
    try {
      await this.takes.load();
    } catch {
      this.controls.replaceWith(h("p", { role: "alert" }, "This browser cannot decode the audio."));
      return;
    }
    const loudest = Math.max(...this.takes.buffers.map(peak));
    this.takes.buffers.forEach((buffer, index) => {
      const lane = this.rows[index].querySelector(".lane");
      lane.append(waveform(buffer, loudest));
      // A take that ends early does not stretch.
      lane.firstChild.style.width = `${(100 * buffer.duration) / this.takes.duration}%`;
    });
  }

  #mark(lanes, join) {
    const mark = h("div", { class: "join", title: "the continuation starts here" });
    lanes.querySelector(".ruler").append(mark);
    this.takes.addEventListener("state", () => {
      if (this.takes.duration) mark.style.left = `${(100 * join) / this.takes.duration}%`;
    });
  }

  #update() {
    this.controls.update();
    const { currentTime, duration, selected } = this.takes;
    this.head.style.left = `${duration ? (100 * currentTime) / duration : 0}%`;
    this.rows.forEach((row, index) => {
      row.classList.toggle("heard", index === selected);
      row.querySelector("input").checked = index === selected;
    });
  }

  #press(event) {
    const { selected, sources } = this.takes;
    const step = { ArrowUp: -1, ArrowDown: 1 }[event.key];
    const index = step ? selected + step : /^[1-9]$/.test(event.key) ? Number(event.key) - 1 : null;
    if (index === null) return false;
    if (index < 0 || index >= sources.length) return true;
    this.takes.select(index);
    if (document.activeElement?.closest(".take")) this.rows[index].querySelector("input").focus();
    return true;
  }
}

function hint(pressed, what) {
  return h("span", {}, pressed.map((key) => h("kbd", {}, key)), ` ${what}`);
}

customElements.define("segue-player", SeguePlayer);
