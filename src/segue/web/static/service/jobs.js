// @ts-check
// The page's jobs: started, followed, put among the takes when they are done, and run again.

import * as api from "./api.js";
import { sentence, wait } from "./format.js";
import { JobCard } from "./job_card.js";
import * as session from "./session.js";
import { groupKey, JobEvent, TakeGroup } from "./take_group.js";
import { UploadError } from "./upload.js";
import { isPlaying, newContext } from "../shared/takes.js";
import { find } from "../shared/dom.js";

/** @import { JobParameters } from "../../types/service.js" */
/** @import { ParametersForm } from "./parameters_form.js" */
/** @import { PromptPanel } from "./prompt_panel.js" */
/** @import { JobAbout } from "./session.js" */
/** @import { Upload } from "./upload.js" */

const UNDECODABLE = "This browser cannot decode the music.";

/** At which rate a job plays whose prompt this browser cannot decode. */
const SAMPLE_RATE = 44100;

/** Events: `done` (a job is; the service may offer other models now). */
export class Jobs extends EventTarget {
  #form;
  #panel;
  #running;
  #finished;
  #announcements;

  /** @type {Map<string, TakeGroup>} */
  #groups = new Map();

  /**
   * @param {object} page
   * @param {ParametersForm} page.form
   * @param {PromptPanel} page.panel
   * @param {HTMLElement} page.running  the section for job cards
   * @param {HTMLElement} page.finished  the section for takes
   * @param {HTMLElement} page.announcements  what screen readers read out
   */
  constructor({ form, panel, running, finished, announcements }) {
    super();
    this.#form = form;
    this.#panel = panel;
    this.#running = running;
    this.#finished = finished;
    this.#announcements = announcements;
  }

  /** Continue the slice with what the form says, or begin without one. */
  async start() {
    const { upload, slice, alone } = this.#panel;
    if (!alone && !slice) return;
    const { length, listen, ...generation } = this.#form.parameters();
    const melody = this.#form.melodyFile();
    const described = [generation.description, ...(generation.descriptions ?? [])].some(Boolean);
    this.#form.store();
    const [start, prompt] = slice ? [slice.start, slice.seconds] : [0, 0];
    /** @type {JobParameters} */
    const parameters = {
      ...generation,
      ...(slice ? { prompt_start: start, prompt_seconds: prompt } : {}),
      output_seconds: prompt + length,
    };
    const about = {
      file: upload?.name ?? `${melody && !described ? "a melody" : "words"} alone`,
      key: upload?.key ?? "",
      start,
      seconds: prompt,
      melody: melody?.name,
      parameters,
    };
    const buffer = upload?.buffer ?? null;
    const context = contextFor(listen, buffer);
    this.#panel.pause();
    this.#form.showError("");
    this.#form.busy("Sending…");
    try {
      const { job_id: id } = await send(upload, melody, parameters);
      if (upload) Object.assign(upload, { job: id, melody: melody?.key ?? null });
      this.#form.busy(null);
      const sound = { prompt: buffer, at: about.start, context };
      this.#add(new JobCard(id, about, sound), true);
    } catch (error) {
      context?.close();
      this.#form.busy(null);
      this.#form.showError(lineOf(error));
    }
  }

  /** Find the jobs again that this tab had before it was reloaded. */
  async restore() {
    for (const { id, about } of session.storedJobs()) {
      const card = new JobCard(id, about);
      this.#add(card);
      await card.poll();
      card.follow();
    }
  }

  /** @param {JobCard} card */
  #add(card, isNew = false) {
    card.addEventListener("done", () => this.#finish(card));
    card.addEventListener("removed", () => {
      session.forget(card);
      this.#remove(card);
    });
    card.addEventListener("retry", () => this.#retry(card));
    find(this.#running, "h2").after(card.element);
    this.#running.hidden = false;
    if (!isNew) return;
    session.remember(card);
    reveal(card.element);
    card.follow();
  }

  /** @param {JobCard} card */
  async #finish(card) {
    const key = groupKey(card.about);
    const group = this.#groups.get(key) ?? this.#newGroup(key, card.about);
    let first;
    try {
      first = await group.add(card);
    } catch (error) {
      card.fail(error instanceof api.ServiceError ? error.message : UNDECODABLE);
      if (!group.sources.length) group.dispatchEvent(new Event("empty"));
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
    this.#announcements.textContent = `Ready: ${first.name}`;
    this.dispatchEvent(new Event("done"));
  }

  /**
   * @param {string} key
   * @param {JobAbout} about
   */
  #newGroup(key, about) {
    const group = new TakeGroup(about);
    this.#groups.set(key, group);
    group.addEventListener("retry", (event) => {
      if (event instanceof JobEvent) this.#retry(event.card, group);
    });
    group.addEventListener("removed", (event) => {
      if (event instanceof JobEvent) session.forget(event.card);
      if (!group.sources.length) this.#panel.chooser.focus();
    });
    group.addEventListener("empty", () => {
      this.#groups.delete(key);
      group.element.remove();
      this.#finished.hidden = this.#groups.size === 0;
    });
    find(this.#finished, "h2").after(group.element);
    this.#finished.hidden = false;
    return group;
  }

  /**
   * Run the same once more, with a seed that nobody chose.
   *
   * @param {JobCard} card
   * @param {TakeGroup | null} [group]  that its takes are in
   */
  async #retry(card, group = null) {
    const parameters = { ...card.about.parameters, seed: -1 };
    const about = { ...card.about, parameters };
    const context = contextFor(this.#form.parameters().listen, card.prompt);
    group?.player.takes.pause();
    group?.showError("");
    try {
      const { job_id: id } = await this.#send(card, parameters);
      // A finished take starts with the prompt.
      const sound = group
        ? { prompt: await group.sources[0].decoded(), at: 0 }
        : { prompt: card.prompt, at: card.at };
      this.#add(new JobCard(id, about, { ...sound, context }), true);
      if (!group) {
        session.forget(card);
        this.#remove(card);
      }
    } catch (error) {
      context?.close();
      (group ?? card).showError(lineOf(error));
    }
  }

  /**
   * Queue a job on another's input, which is sent again if the service has it no more.
   *
   * @param {JobCard} card
   * @param {JobParameters} parameters
   */
  async #send(card, parameters) {
    try {
      return await api.retry(card.id, parameters);
    } catch (error) {
      if (api.statusOf(error) !== 404) throw error;
      const { file, key, seconds, melody: followed } = card.about;
      const upload = seconds ? this.#panel.upload : null;
      const melody = followed ? this.#form.melodyFile() : null;
      const there = (upload?.key ?? "") === key && melody?.name === followed;
      if (there) return sendFiles(upload, melody, parameters);
      throw new api.ServiceError(
        "The service does not have this run's audio any more. Choose " +
          `${followed && (upload?.key ?? "") === key ? followed : file} again.`,
      );
    }
  }

  /** @param {JobCard} card */
  #remove(card) {
    card.close();
    this.#running.hidden = !this.#running.querySelector(".run");
  }
}

/**
 * Queue a job on an upload and a melody, which are sent only once, or on words alone.
 *
 * @param {Upload | null} upload
 * @param {Upload | null} melody
 * @param {JobParameters} parameters
 */
async function send(upload, melody, parameters) {
  if (upload?.job && upload.melody === (melody?.key ?? null)) {
    try {
      return await api.retry(upload.job, parameters);
    } catch (error) {
      if (api.statusOf(error) !== 404) throw error;
    }
  }
  return sendFiles(upload, melody, parameters);
}

/**
 * @param {Upload | null} upload
 * @param {Upload | null} melody
 * @param {JobParameters} parameters
 */
async function sendFiles(upload, melody, parameters) {
  const [audio, followed] = await Promise.all([upload?.encoded(), melody?.encoded()]);
  return api.start({ audio_data: audio, melody_data: followed }, parameters);
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

/**
 * The line that an error has for the user. Throws any that has none.
 *
 * @param {unknown} error
 */
function lineOf(error) {
  if (error instanceof UploadError) return sentence(error.message);
  if (!(error instanceof api.ServiceError)) throw error;
  const line = sentence(error.message);
  if (!error.retryAfter) return line;
  return `${line.replace(/[^.!?]$/, "$&.")} Try again in about ${wait(error.retryAfter)}.`;
}

/** @param {Element} element */
function visible(element) {
  const { top, bottom } = element.getBoundingClientRect();
  return bottom > 0 && top < innerHeight;
}

/** @param {Element} element */
function reveal(element) {
  const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  element.scrollIntoView({ behavior: calm ? "auto" : "smooth", block: "nearest" });
}
