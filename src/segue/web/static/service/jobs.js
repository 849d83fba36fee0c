// The page's jobs: started, followed, put among the takes when they are done, and run again.

import * as api from "./api.js";
import { sentence, wait } from "./format.js";
import { JobCard } from "./job_card.js";
import * as session from "./session.js";
import { groupKey, TakeGroup } from "./take_group.js";
import { UploadError } from "./upload.js";
import { newContext, sounding } from "../shared/takes.js";

const UNHEARD = "This browser cannot decode the music.";

/** At which rate a job is heard whose prompt this browser cannot decode. */
const SAMPLE_RATE = 44100;

/** Events: `done` (a job is; the service may offer other models now). */
export class Jobs extends EventTarget {
  #form;
  #panel;
  #running;
  #finished;
  #news;
  #groups = new Map();

  /**
   * `form` is what is asked of the model, `panel` the PromptPanel; `running` and `finished` are
   * the sections for job cards and for takes, `news` is what is read out.
   */
  constructor({ form, panel, running, finished, news }) {
    super();
    this.#form = form;
    this.#panel = panel;
    this.#running = running;
    this.#finished = finished;
    this.#news = news;
  }

  /** Continue the slice with what the form says. */
  async start() {
    const { length, listen, ...wanted } = this.#form.wanted();
    const { upload, slice } = this.#panel;
    this.#form.keep();
    const parameters = {
      ...wanted,
      prompt_start: slice.start,
      prompt_seconds: slice.seconds,
      output_seconds: slice.seconds + length,
    };
    const about = {
      file: upload.name,
      key: upload.key,
      start: slice.start,
      seconds: slice.seconds,
      parameters,
    };
    const context = contextFor(listen, upload.buffer);
    this.#panel.pause();
    this.#form.say("");
    this.#form.busy("Sending…");
    try {
      const { job_id: id } = await send(upload, parameters);
      upload.job = id;
      this.#form.busy(null);
      this.#watch(new JobCard(id, about, { prompt: upload.buffer, at: about.start, context }), true);
    } catch (error) {
      context?.close();
      this.#form.busy(null);
      this.#form.say(complaintOf(error));
    }
  }

  /** Find the jobs again that this tab had before it was reloaded. */
  async restore() {
    for (const { id, about } of session.remembered()) {
      const card = new JobCard(id, about);
      this.#watch(card);
      await card.ask();
      card.follow();
    }
  }

  #watch(card, isNew = false) {
    card.addEventListener("done", () => this.#finish(card));
    card.addEventListener("gone", () => {
      session.forget(card);
      this.#leave(card);
    });
    card.addEventListener("again", () => this.#again(card));
    this.#running.querySelector("h2").after(card.element);
    this.#running.hidden = false;
    if (!isNew) return;
    session.remember(card);
    reveal(card.element);
    card.follow();
  }

  async #finish(card) {
    const key = groupKey(card.about);
    const group = this.#groups.get(key) ?? this.#newGroup(key, card.about);
    let first;
    try {
      first = await group.add(card);
    } catch (error) {
      card.fail(error instanceof api.ServiceError ? error.message : UNHEARD);
      if (!group.sources.length) group.dispatchEvent(new Event("empty"));
      return;
    }
    const { live } = card;
    const at = group.sources.indexOf(first) + live.selected;
    // What is heard goes on where it is, now in the player, with all takes beside it.
    const { takes } = group.player;
    if (!takes.playing) {
      const goesOn = live.playing || (live.wanted && !sounding());
      takes.select(at);
      if (live.started) takes.currentTime = live.currentTime;
      if (goesOn) takes.play();
    }
    const focused = card.element.contains(document.activeElement);
    const seen = visible(card.element);
    this.#leave(card);
    if (focused) group.player.querySelector(".play")?.focus({ preventScroll: true });
    if (seen) reveal(group.element);
    this.#news.textContent = `Ready: ${first.name}`;
    this.dispatchEvent(new Event("done"));
  }

  #newGroup(key, about) {
    const group = new TakeGroup(about);
    this.#groups.set(key, group);
    group.addEventListener("again", ({ run }) => this.#again(run, group));
    group.addEventListener("removed", ({ run }) => {
      session.forget(run);
      if (!group.sources.length) this.#panel.chooser.focus();
    });
    group.addEventListener("empty", () => {
      this.#groups.delete(key);
      group.element.remove();
      this.#finished.hidden = this.#groups.size === 0;
    });
    this.#finished.querySelector("h2").after(group.element);
    this.#finished.hidden = false;
    return group;
  }

  /** The same once more, with a seed that nobody chose. */
  async #again(card, group = null) {
    const parameters = { ...card.about.parameters, seed: -1 };
    const about = { ...card.about, parameters };
    const context = contextFor(this.#form.wanted().listen, card.prompt);
    group?.player.takes.pause();
    if (group) group.complaint.textContent = "";
    try {
      const { job_id: id } = await this.#rerun(card, parameters);
      // A finished take starts with the prompt.
      const sound = group
        ? { prompt: await group.sources[0].decoded(), at: 0 }
        : { prompt: card.prompt, at: card.at };
      this.#watch(new JobCard(id, about, { ...sound, context }), true);
      if (!group) {
        session.forget(card);
        this.#leave(card);
      }
    } catch (error) {
      context?.close();
      const line = complaintOf(error);
      if (group) group.complaint.textContent = line;
      else card.complain(line);
    }
  }

  async #rerun(card, parameters) {
    try {
      return await api.retry(card.id, parameters);
    } catch (error) {
      if (error.status !== 404) throw error;
      const { upload } = this.#panel;
      if (upload?.key === card.about.key) return api.start(await upload.encoded(), parameters);
      throw new api.ServiceError(
        `The service does not have this run's audio any more. Choose ${card.about.file} again.`,
      );
    }
  }

  #leave(card) {
    card.close();
    this.#running.hidden = !this.#running.querySelector(".run");
  }
}

/** Queue a job on an upload, which is sent only once. */
async function send(upload, parameters) {
  if (upload.job) {
    try {
      return await api.retry(upload.job, parameters);
    } catch (error) {
      if (error.status !== 404) throw error;
    }
  }
  return api.start(await upload.encoded(), parameters);
}

/** What a job is listened to with; made while the user's hand is on the button, as browsers want. */
function contextFor(listen, buffer) {
  if (!listen) return null;
  const context = newContext(buffer?.sampleRate ?? SAMPLE_RATE);
  context.resume().catch(() => {});
  return context;
}

function complaintOf(error) {
  if (!(error instanceof api.ServiceError || error instanceof UploadError)) throw error;
  const line = sentence(error.message);
  if (!error.retryAfter) return line;
  return `${line.replace(/[^.!?]$/, "$&.")} Try again in about ${wait(error.retryAfter)}.`;
}

function visible(element) {
  const { top, bottom } = element.getBoundingClientRect();
  return bottom > 0 && top < innerHeight;
}

function reveal(element) {
  const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  element.scrollIntoView({ behavior: calm ? "auto" : "smooth", block: "nearest" });
}
