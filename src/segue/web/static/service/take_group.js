// @ts-check
// The finished takes on one prompt, of whatever jobs, side by side.

import "../shared/abx.js";
import "../shared/player.js";
import { clear, complain } from "./complaint.js";
import { exportFields } from "./export_choice.js";
import { seconds, sentence } from "./format.js";
import { evenOut, fetched, Recording } from "./recording.js";
import { takeRow } from "./take_row.js";
import { h } from "../shared/dom.js";
import { exactClock } from "../shared/time.js";

/** @import { Source } from "../shared/takes.js" */
/** @import { JobAbout } from "./job_about.js" */
/** @import { JobCard } from "./job_card.js" */

/** How near a take's end the position may be to be its end, in seconds. */
const END = 0.25;

/** Something is to happen to a take. */
export class TakeEvent extends Event {
  /**
   * @param {"playon" | "retry" | "remove"} type
   * @param {Recording} source
   * @param {number | null} [at]  position in the group, in seconds; null for its end
   */
  constructor(type, source, at = null) {
    super(type);
    this.source = source;
    this.at = at;
  }
}

/**
 * Events: `playon`, `retry` and `remove`, all TakeEvents; `reopen` (choose from its music again),
 * `change` (its takes are others).
 */
export class TakeGroup extends EventTarget {
  /** @type {Recording[]} */
  sources = [];

  /** Whose takes are not shown yet. @type {JobCard[]} */
  #later = [];

  player = document.createElement("segue-player");
  complaint = h("p", { role: "alert", class: "complaint" });

  /**
   * @param {JobAbout} about  of any of its jobs
   * @param {string} origin  what it goes on from, if that is a take
   */
  constructor(about, origin) {
    super();
    this.about = about;
    const name = origin || (about.seconds ? about.file : sentence(about.file));
    this.heading = h("h3", { tabindex: -1 }, name);
    this.blind = h("details", { class: "blind", hidden: true }, h("summary", {}, "Blind test"));
    this.blind.addEventListener("toggle", () => this.blind.open && this.#openBlind());
    this.here = h("button", { type: "button", class: "here", hidden: true });
    this.here.addEventListener("click", () => this.#playOn(true));
    this.more = h("button", { type: "button", hidden: true, onclick: () => this.open() });
    const again = h("button", { type: "button", class: "quiet reopen" }, "Another slice of it");
    again.hidden = !about.input || Boolean(about.parent);
    again.addEventListener("click", () => this.dispatchEvent(new Event("reopen")));
    this.foot = h("div", { class: "group-foot", hidden: true }, this.here, exportFields(), again);
    this.element = h(
      "article",
      { class: "take-group", "aria-label": name },
      h("div", { class: "run-head" }, this.heading, h("p", { class: "note" }, placeOf(about))),
      this.more,
      this.player,
      this.foot,
      this.complaint,
      this.blind,
    );
    this.player.otherKeys = ({ key }) => key === "p" && this.#playOn(true);
  }

  /** @param {unknown} error  what went wrong; null to clear it */
  showError(error) {
    if (error === null) clear(this.complaint);
    else complain(this.complaint, error);
  }

  /**
   * Add the takes of a finished job when somebody wants to see them.
   *
   * @param {JobCard} card
   */
  addLater(card) {
    this.#later.push(card);
    const count = this.#later.reduce((sum, { job }) => sum + job.takes.length, 0);
    this.more.hidden = false;
    this.more.textContent = `Show ${count} ${count === 1 ? "take" : "takes"}`;
  }

  /** Show all that was added for later. */
  async open() {
    const cards = this.#later;
    this.#later = [];
    this.more.hidden = true;
    for (const card of cards) {
      try {
        await this.#add(card);
      } catch (error) {
        this.showError(error);
      }
    }
  }

  /** All jobs, shown or not. */
  get cards() {
    return [...new Set([...this.sources.map((source) => source.card), ...this.#later])];
  }

  /**
   * Add the takes of a finished job; resolves to the first of them when they can be played. Throws
   * a ServiceError if the service has them no more.
   *
   * @param {JobCard} card
   */
  async add(card) {
    await this.open();
    return this.#add(card);
  }

  /** @param {JobCard} card */
  async #add(card) {
    const sources = card.job.takes.map((take) => this.#source(card, take));
    await Promise.all(sources.map(fetched));
    const first = !this.sources.length;
    this.sources.push(...sources);
    if (first) {
      this.player.open(this.sources.slice(), this.about.seconds || null, this.about.grid);
      this.player.takes.addEventListener("state", () => this.#showHere());
    }
    await this.#show(!first);
    // Nobody who is listening is taken elsewhere.
    if (!this.player.takes.playing) this.player.takes.select(this.sources.indexOf(sources[0]));
    return sources[0];
  }

  /**
   * Take one out.
   *
   * @param {Recording} source
   */
  async take(source) {
    const at = this.sources.indexOf(source);
    this.sources.splice(at, 1);
    if (!this.sources.length) {
      this.player.takes.pause();
      this.dispatchEvent(new Event("change"));
      return;
    }
    await this.#show();
    const next = this.sources[Math.min(at, this.sources.length - 1)];
    this.player.rows.get(next)?.radio.focus();
  }

  /**
   * Put one in its place again.
   *
   * @param {JobCard} card  with its takes, as they are now
   */
  async putBack(card) {
    const there = this.sources.filter((source) => source.card.id === card.id);
    const missing = card.job.takes.filter(
      (take) => !there.some((source) => source.take.number === take.number),
    );
    const sources = missing.map((take) => this.#source(card, take));
    await Promise.all(sources.map(fetched));
    this.sources.push(...sources);
    await this.#show();
    this.player.rows.get(sources[0])?.radio.focus();
  }

  /**
   * @param {JobCard} card
   * @param {import("../../types/service.js").TakeAnswer} take
   */
  #source(card, take) {
    return takeRow(card, take, (name) => this.#unique(name), {
      playOn: (source) => this.dispatchEvent(new TakeEvent("playon", source)),
      retry: (source) => this.dispatchEvent(new TakeEvent("retry", source)),
      remove: (source) => this.dispatchEvent(new TakeEvent("remove", source)),
      changed: () => {
        this.player.describe();
        this.dispatchEvent(new Event("change"));
      },
      showError: (error) => this.showError(error),
    });
  }

  /**
   * A name that no other take has: the blind test tells takes apart by name.
   *
   * @param {string} name
   */
  #unique(name) {
    const taken = this.sources.filter((source) => source.name.startsWith(name)).length;
    return taken ? `${name} (${taken + 1})` : name;
  }

  /** @param {boolean} [again]  whether the player shows takes already */
  async #show(again = true) {
    if (again) this.player.ready = this.player.show(this.sources.slice());
    await this.player.ready;
    this.foot.hidden = false;
    evenOut(this.sources, this.about.seconds).then(() => {
      this.player.takes.level(this.player.takes.levelled);
    }, () => {});
    this.#offerBlind();
    this.#showHere();
    this.dispatchEvent(new Event("change"));
  }

  /** The position to go on from, where it lies inside of what is new; null elsewhere. */
  get #inside() {
    const { takes } = this.player;
    const length = takes.buffers[takes.selected]?.duration ?? 0;
    const at = this.about.grid?.nearest(takes.currentTime, "beat") ?? takes.currentTime;
    return at > this.about.seconds + END && at < length - END ? at : null;
  }

  #showHere() {
    const { playing } = this.player.takes;
    const at = this.#inside;
    this.here.hidden = at === null && !playing;
    const line = playing ? "Play on from here" : `Play on from ${exactClock(at ?? 0)}`;
    this.here.replaceChildren(line, h("kbd", {}, "P"));
  }

  /**
   * @param {boolean} here  at the playhead, not at the end
   * @returns {true}
   */
  #playOn(here) {
    const source = this.sources[this.player.takes.selected];
    this.dispatchEvent(new TakeEvent("playon", source, here ? this.#inside : null));
    return true;
  }

  #offerBlind() {
    this.blind.hidden = this.sources.length < 2;
    this.blind.open = false;
    this.blind.querySelector("segue-blind")?.remove();
  }

  #openBlind() {
    if (this.blind.querySelector("segue-blind")) return;
    const test = document.createElement("segue-blind");
    this.blind.append(test);
    const [baseline, ...variants] = this.sources;
    // Between two seeds there is nothing to tell apart: it is other music.
    const alike = (/** @type {Source} */ variant) => variant.kind === baseline.kind;
    const join = this.about.seconds;
    test.open({ report: `page ${this.about.key}`, baseline, variants, join, alike });
  }
}

/** @param {JobAbout} about */
function placeOf({ start, seconds: length }) {
  if (length === 0) return "There is no prompt: the music begins by itself.";
  if (start <= 0.05) return `The prompt is the first ${seconds(length)}.`;
  const range = `${exactClock(start)} to ${exactClock(start + length)}`;
  return `The prompt is ${range}. “Everything” has what lies before it, too.`;
}
