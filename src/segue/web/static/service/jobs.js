// @ts-check
// The page's jobs: started, followed, put among the takes when they are done, and run again.

import * as api from "./api.js";
import { JobCard } from "./job_card.js";
import { parametersOf } from "./request.js";
import { send } from "./sending.js";
import { showDone, showInTitle } from "./tab_title.js";
import { find } from "../shared/dom.js";
import { useKeys } from "../shared/keys.js";
import { isPlaying, newContext } from "../shared/takes.js";

/** @import { Job, JobStarted } from "../../types/service.js" */
/** @import { Sound } from "./job_card.js" */
/** @import { Library } from "./library.js" */
/** @import { ParametersForm } from "./parameters_form.js" */
/** @import { PromptPanel } from "./prompt_panel.js" */
/** @import { Recording } from "./recording.js" */
/** @import { TakeGroup } from "./take_group.js" */

const UNDECODABLE = "This browser cannot decode the music.";

/** At which rate a job plays whose prompt this browser cannot decode. */
const SAMPLE_RATE = 44100;

/** Events: `done` (a job is; the service may offer other models now). */
export class Jobs extends EventTarget {
  #form;
  #panel;
  #library;
  #running;
  #announcements;

  /** Those that run. @type {Set<JobCard>} */
  #cards = new Set();

  /**
   * @param {object} page
   * @param {ParametersForm} page.form
   * @param {PromptPanel} page.panel
   * @param {Library} page.library  where finished jobs go
   * @param {HTMLElement} page.running  the section for job cards
   * @param {HTMLElement} page.announcements  what screen readers read out
   */
  constructor({ form, panel, library, running, announcements }) {
    super();
    this.#form = form;
    this.#panel = panel;
    this.#library = library;
    this.#running = running;
    this.#announcements = announcements;
  }

  /** Continue the slice with what the form says, or begin without one. */
  async start() {
    const { upload, slice, alone } = this.#panel;
    if (!alone && !slice) return;
    const values = this.#form.parameters();
    const melody = this.#form.melodyFile();
    this.#form.store();
    const buffer = upload?.buffer ?? null;
    const sound = { prompt: buffer, at: slice?.start ?? 0 };
    this.#panel.pause();
    this.#form.showError(null);
    this.#form.busy("Sending…");
    const parameters = parametersOf(this.#panel, values);
    await this.#begin(send(this.#panel, melody, parameters), values.listen, sound, (error) =>
      this.#form.showError(error),
    );
    this.#form.busy(null);
  }

  /**
   * Run a take's job once more, with a seed that nobody chose.
   *
   * @param {Recording} source
   * @param {TakeGroup} group
   */
  async retry(source, group) {
    group.player.takes.pause();
    group.showError(null);
    // A finished take starts with the prompt.
    const sound = { prompt: await source.decoded(), at: 0 };
    const { listen } = this.#form.parameters();
    await this.#begin(api.retry(source.card.id, {}), listen, sound, (error) =>
      group.showError(error),
    );
  }

  /**
   * Follow a job that runs already.
   *
   * @param {Job} job
   */
  follow(job) {
    this.#add(new JobCard(job)).follow();
  }

  /**
   * @param {Promise<JobStarted>} sent
   * @param {boolean} listen
   * @param {Sound} sound
   * @param {(error: unknown) => void} showError
   * @returns {Promise<boolean>}  whether it has begun
   */
  async #begin(sent, listen, sound, showError) {
    const context = contextFor(listen, sound.prompt ?? null);
    try {
      const { job_id: id } = await sent;
      const card = this.#add(new JobCard(await api.job(id), { ...sound, context }));
      reveal(card.element);
      // What was begun is what one listens to next: space plays it.
      card.view.heading.focus({ preventScroll: true, focusVisible: false });
      useKeys(card.element);
      this.#announcements.textContent = `Begun: ${card.title}`;
      card.follow();
      return true;
    } catch (error) {
      context?.close();
      showError(error);
      return false;
    }
  }

  /** @param {JobCard} card */
  #add(card) {
    card.addEventListener("done", () => this.#finish(card));
    card.addEventListener("removed", () => this.#remove(card));
    card.addEventListener("retry", () => this.#again(card));
    card.addEventListener("progress", () => this.#showProgress());
    this.#cards.add(card);
    find(this.#running, "h2").after(card.element);
    this.#running.hidden = false;
    this.#showProgress();
    return card;
  }

  /**
   * Run a job again that has failed, in its place.
   *
   * @param {JobCard} card
   */
  async #again(card) {
    const { prompt, at } = card;
    const { listen } = this.#form.parameters();
    const begun = await this.#begin(api.retry(card.id, {}), listen, { prompt, at }, (error) =>
      card.showError(error),
    );
    if (begun) this.#remove(card);
  }

  /** @param {JobCard} card */
  async #finish(card) {
    let first;
    const group = this.#library.groupOf(card);
    try {
      first = await group.add(card);
    } catch (error) {
      this.#library.tidy(group);
      card.fail(error instanceof Error && "status" in error ? error.message : UNDECODABLE);
      return;
    }
    const stream = card.player;
    const at = group.sources.indexOf(first) + stream.selected;
    // Playback goes on where it is, now in the group's player, with all takes beside it.
    const { takes } = group.player;
    if (!takes.playing) {
      const goesOn = stream.playing || (stream.requested && !isPlaying());
      takes.select(at);
      if (stream.started) takes.currentTime = stream.currentTime;
      if (goesOn) takes.play();
    }
    const focused = card.element.contains(document.activeElement);
    const seen = visible(card.element);
    this.#remove(card);
    const play = group.player.querySelector(".play");
    if (focused && play instanceof HTMLElement) play.focus({ preventScroll: true });
    if (seen) reveal(group.element);
    group.player.use();
    this.#announcements.textContent = `Done: ${first.name}`;
    showDone();
    this.dispatchEvent(new Event("done"));
  }

  /** @param {JobCard} card */
  #remove(card) {
    card.close();
    this.#cards.delete(card);
    this.#showProgress();
    this.#running.hidden = !this.#running.querySelector(".run");
  }

  /** Show in the tab how far all is. */
  #showProgress() {
    const running = [...this.#cards].filter((card) => !card.ended);
    const sum = running.reduce((all, { job }) => all + (Number(job.progress) || 0), 0);
    showInTitle(running.length ? sum / running.length : null);
  }
}

/**
 * What a job plays with; made while the user's hand is on the button, as browsers demand.
 *
 * @param {boolean} listen
 * @param {AudioBuffer | null} buffer  of the prompt
 */
function contextFor(listen, buffer) {
  if (!listen) return null;
  const context = newContext(buffer?.sampleRate ?? SAMPLE_RATE);
  context.resume().catch(() => {});
  return context;
}

/** @param {Element} element */
function visible(element) {
  const { top, bottom } = element.getBoundingClientRect();
  return bottom > 0 && top < innerHeight;
}

/** @param {Element} element */
export function reveal(element) {
  const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  element.scrollIntoView({ behavior: calm ? "auto" : "smooth", block: "nearest" });
}
