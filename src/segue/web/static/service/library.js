// @ts-check
// The finished takes that the service keeps: in groups on one prompt each, and as a tree.

import * as api from "./api.js";
import { clear, complain } from "./complaint.js";
import * as http from "./http.js";
import { JobCard } from "./job_card.js";
import { TakeEvent, TakeGroup } from "./take_group.js";
import { takeTree } from "./take_tree.js";
import { undoLine } from "./undo_line.js";
import { find, h } from "../shared/dom.js";

/** @import { Job } from "../../types/service.js" */
/** @import { Recording } from "./recording.js" */

const ENDED = ["failed", "cancelled", "unknown"];

/**
 * What is done with takes elsewhere.
 *
 * @typedef {object} Elsewhere
 * @property {(source: Recording, group: TakeGroup, at: number | null) => void} playOn
 * @property {(source: Recording, group: TakeGroup) => void} retry
 * @property {(group: TakeGroup) => void} reopen  choose from its music again
 */

export class Library {
  /** @type {Map<string, TakeGroup>} */
  #groups = new Map();

  /** Jobs by their id. @type {Map<string, JobCard>} */
  #cards = new Map();

  #section;
  #undo = undoLine();
  #complaint = h("p", { role: "alert", class: "complaint" });
  #tree = takeTree((card, take) => this.#reveal(card, take));
  #older = h("button", { type: "button", class: "older", hidden: true }, "Older takes");

  /** Where the next list begins. @type {number | null} */
  #next = null;

  #elsewhere;

  /**
   * @param {HTMLElement} section
   * @param {Elsewhere} elsewhere
   */
  constructor(section, elsewhere) {
    this.#section = section;
    this.#elsewhere = elsewhere;
    find(section, "h2").after(this.#undo, this.#tree);
    section.append(this.#complaint, this.#older);
  }

  /**
   * Show what the service keeps; what runs there still is for `follow`.
   *
   * @param {(job: Job) => void} follow
   */
  async restore(follow) {
    this.#older.addEventListener("click", () => this.#load(() => {}));
    await this.#load(follow);
    const newest = this.#section.querySelector(".take-group");
    await [...this.#groups.values()].find(({ element }) => element === newest)?.open();
    this.#offerRemoved((await api.removedJobs().catch(() => ({ jobs: [] }))).jobs);
  }

  /**
   * Offer to restore what was removed before the page was opened, the latest first.
   *
   * @param {Job[]} jobs
   */
  #offerRemoved([latest, ...others]) {
    if (!latest || this.#undo.textContent) return;
    const line = `Removed lately: ${new JobCard(latest).title}, seed ${latest.parameters.seed}.`;
    this.#undo.offer(line, latest.undo_until ?? 0, async () => {
      try {
        const card = new JobCard(await api.restore(latest.job_id));
        const group = this.groupOf(card);
        await group.add(card);
      } catch (error) {
        complain(this.#complaint, error);
      }
      this.#offerRemoved(others);
      this.#show();
    });
    this.#show();
  }

  /** @param {(job: Job) => void} follow */
  async #load(follow) {
    clear(this.#complaint);
    try {
      const { jobs, next } = await api.jobs(this.#next);
      this.#next = next;
      this.#older.hidden = next === null;
      const finished = jobs.filter(({ status }) => status === "completed");
      // The list begins with the newest, and so does the page.
      for (const job of finished) {
        if (this.#cards.has(job.job_id)) continue;
        const card = new JobCard(job);
        this.groupOf(card, false).addLater(card);
      }
      for (const job of jobs.toReversed()) {
        if (job.status !== "completed" && !ENDED.includes(job.status)) follow(job);
      }
    } catch (error) {
      complain(this.#complaint, error);
    }
    this.#show();
  }

  /**
   * The group that a finished job belongs to.
   *
   * @param {JobCard} card
   * @param {boolean} [first]  whether a new group comes before all others
   */
  groupOf(card, first = true) {
    this.#cards.set(card.id, card);
    const { key } = card.about;
    const known = this.#groups.get(key);
    if (known) return known;
    const group = new TakeGroup(card.about, this.#origin(card));
    this.#groups.set(key, group);
    const { playOn, retry, reopen } = this.#elsewhere;
    /**
     * @param {string} type
     * @param {(event: TakeEvent) => void} act
     */
    const on = (type, act) =>
      group.addEventListener(type, (event) => event instanceof TakeEvent && act(event));
    on("playon", ({ source, at }) => playOn(source, group, at));
    on("retry", ({ source }) => retry(source, group));
    on("remove", ({ source }) => this.#remove(source, group));
    group.addEventListener("reopen", () => reopen(group));
    group.addEventListener("change", () => this.#show());
    if (first) this.#tree.after(group.element);
    else this.#complaint.before(group.element);
    this.#section.hidden = false;
    return group;
  }

  /**
   * Put a group away that has nothing to show.
   *
   * @param {TakeGroup} group
   */
  tidy(group) {
    if (group.cards.length) return;
    group.element.remove();
    this.#groups.delete(group.about.key);
    this.#show();
  }

  /**
   * What a group goes on from, in words; empty where that is no take.
   *
   * @param {JobCard} card
   */
  #origin({ about: { parent } }) {
    if (!parent) return "";
    const from = this.#cards.get(parent.job);
    const take = from?.job.takes.find(({ number }) => number === parent.take);
    if (!from || !take) return "On from a take that is gone";
    return `On from ${take.name || `${from.title}, seed ${take.seed}`}`;
  }

  /**
   * Remove a take, until somebody undoes it.
   *
   * @param {Recording} source
   * @param {TakeGroup} group
   */
  async #remove(source, group) {
    const { card, take } = source;
    group.showError(null);
    try {
      const { undo_until: until } = await api.removeTake(card.id, take.number);
      card.job.takes = card.job.takes.filter(({ number }) => number !== take.number);
      await group.take(source);
      this.#undo.offer(`Removed: ${take.name || source.name}.`, until, () =>
        this.#restore(source, group),
      );
    } catch (error) {
      // It was gone already.
      if (http.statusOf(error) === 404) await group.take(source);
      else group.showError(error);
    }
    this.tidy(group);
    this.#show();
  }

  /**
   * @param {Recording} source
   * @param {TakeGroup} group
   */
  async #restore({ card, take }, group) {
    try {
      card.job = await api.restoreTake(card.id, take.number);
      const known = this.#groups.get(group.about.key);
      await (known ? known.putBack(card) : this.groupOf(card).add(card));
    } catch (error) {
      complain(this.#complaint, error);
      this.#section.hidden = false;
    }
    this.#show();
  }

  #show() {
    const cards = [...this.#cards.values()].filter(({ job }) => job.takes.length);
    this.#tree.show(cards);
    const empty = !this.#groups.size && !this.#undo.textContent && !this.#complaint.textContent;
    this.#section.hidden = empty;
  }

  /**
   * Show a take in its group.
   *
   * @param {JobCard} card
   * @param {number} number  of the take
   */
  async #reveal(card, number) {
    const group = this.#groups.get(card.about.key);
    if (!group) return;
    await group.open();
    const source = group.sources.find((one) => one.card === card && one.take.number === number);
    if (!source) return;
    group.player.takes.select(group.sources.indexOf(source));
    const row = group.player.rows.get(source);
    row?.element.scrollIntoView({ block: "center" });
    row?.radio.focus({ preventScroll: true });
  }
}
