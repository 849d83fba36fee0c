// The service's page: a piece of music, what to ask of it, and what came of that.

import "./slice.js";
import * as api from "./api.js";
import { h } from "../shared/dom.js";
import { ghost } from "./placeholder.js";
import { Piece, pieceKey } from "./take_group.js";
import { Run } from "./job_card.js";
import { score } from "./timeline.js";
import { newContext, Source, sounding, Takes } from "../shared/takes.js";
import { follow } from "../shared/transport.js";
import { look, UploadError } from "./upload.js";
import { wishes } from "./parameters_form.js";
import { seconds, sentence, wait } from "./format.js";

const KEPT = "segue.runs";

/** MusicGen's window has 30 s; a second of it stays to play on in. */
const LONGEST_PROMPT = 29;
const USUAL_PROMPT = 6;

const UNHEARD = "This browser cannot decode the music.";

/** How long to wait before the service is looked for again, in milliseconds. */
const AGAIN = 3000;

const $ = (id) => document.getElementById(id);
const pieces = new Map();
let limits = limitsOf({});
let upload = null;
let slice = null;
let form = null;
let preview = null;

const stage = h("div", { class: "stage-area" });
const complaint = h("p", { role: "alert", class: "complaint", id: "file-complaint" });
const drop = h("div", { class: "drop" });
const chosen = h("div", { class: "chosen", hidden: true });
const chooser = h("input", {
  type: "file",
  id: "file",
  class: "unseen",
  accept: "audio/*,.wav,.flac,.ogg,.oga,.opus,.mp3,.aif,.aiff",
  "aria-label": "Choose a file",
  "aria-describedby": "file-complaint",
  onchange: chosenFile,
});
$("yours").append(stage);
await connect();

// The service.

async function connect() {
  for (;;) {
    try {
      begin(await offered());
      return;
    } catch (error) {
      if (error.status === 401) {
        await askForToken(error.message);
      } else if (error instanceof api.ServiceError) {
        $("about").textContent = `${error.message} Looking for it again.`;
        await new Promise((done) => setTimeout(done, AGAIN));
      } else {
        throw error;
      }
    }
  }
}

async function offered() {
  const service = await api.service();
  return { ...service, models: service.models ?? [], limits: limitsOf(service.limits ?? {}) };
}

/** What may be sent; what the service does not say is null, or what it is known to take. */
function limitsOf(said) {
  // Base64 takes four bytes for three, and the parameters some more.
  const bytes = said.body_bytes ? Math.floor((said.body_bytes - 65_536) * 0.75) : null;
  return {
    bytes,
    seconds: said.audio_seconds ?? null,
    output: said.output_seconds ?? 300,
    prompt: Math.min(LONGEST_PROMPT, said.prompt_seconds ?? LONGEST_PROMPT),
    variations: Math.min(4, said.variations ?? 4),
    description: said.description ?? 2000,
  };
}

function begin(service) {
  limits = service.limits;
  introduce(service);
  form = wishes(service);
  preview = score();
  form.addEventListener("change", outlook);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    generate();
  });
  $("asking").append(preview, form);
  offerFile(service.prompts ?? []);
  restore();
}

function introduce({ engine, device, version }) {
  // Which engine "auto" is shows when it has run.
  const known = [engine !== "auto" && engine, device].filter(Boolean).map(spelled);
  $("about").textContent = [known.join(" on "), version && `version ${version}`]
    .filter(Boolean)
    .join(", ");
}

function spelled(name) {
  return { openvino: "OpenVINO", mlx: "MLX", cpu: "CPU", gpu: "GPU" }[name.toLowerCase()] ?? name;
}

function askForToken(line) {
  return new Promise((done) => {
    const token = h("input", { type: "password", autocomplete: "off", required: true });
    const asking = h(
      "form",
      {
        class: "token",
        onsubmit: (event) => {
          event.preventDefault();
          api.keepToken(token.value.trim());
          asking.remove();
          done();
        },
      },
      h("label", { class: "field" }, h("span", {}, "Token"), token),
      h("button", { type: "submit", class: "primary" }, "Open"),
      h("p", { class: "note" }, sentence(line)),
    );
    stage.replaceChildren(asking);
    token.focus();
  });
}

// The reader's music.

function offerFile(prompts) {
  const ready = prompts.map((prompt) =>
    h("button", { type: "button", onclick: () => borrow(prompt) }, prompt.title ?? prompt.name),
  );
  const label = h("label", { for: "file", class: "button primary" }, "Choose a file");
  drop.replaceChildren(
    ghost(),
    h("p", { class: "invitation" }, "Drop a piece of music here"),
    h("p", { class: "choosing" }, chooser, label, note("WAV, FLAC, OGG or MP3")),
    ...(ready.length ? [h("p", { class: "ready" }, note("or take one of these"), ready)] : []),
  );
  stage.replaceChildren(drop, chosen, complaint);

  // A file that misses must not make the browser leave the page.
  let inside = 0;
  const over = (on) => stage.classList.toggle("over", on);
  addEventListener("dragenter", () => over(++inside > 0));
  addEventListener("dragleave", () => over(--inside > 0));
  addEventListener("dragover", (event) => event.preventDefault());
  addEventListener("drop", (event) => {
    event.preventDefault();
    inside = 0;
    over(false);
    if (event.dataTransfer.files.length) take(event.dataTransfer.files[0]);
  });
}

function note(text) {
  return h("span", { class: "note" }, text);
}

function chosenFile() {
  const [file] = chooser.files;
  if (!file) return;
  take(file);
  // So that the same file can be chosen again, after it was changed.
  chooser.value = "";
}

async function borrow({ name, url, title }) {
  try {
    const file = url.split("/").at(-1).split("?")[0];
    const bytes = await api.bytes(url);
    const named = /\.\w+$/.test(file) ? file : `${title ?? name}.wav`;
    await take(new File([bytes], named, { lastModified: 0 }));
  } catch (error) {
    complaint.textContent = error.message;
  }
}

async function take(file) {
  complaint.textContent = "";
  stage.classList.add("reading");
  stage.setAttribute("aria-busy", "true");
  try {
    open(await look(file, limits));
  } catch (error) {
    if (!(error instanceof UploadError)) throw error;
    complaint.textContent = error.message;
  } finally {
    stage.classList.remove("reading");
    stage.removeAttribute("aria-busy");
  }
}

function open(found) {
  upload?.takes?.pause();
  upload = found;
  slice = document.createElement("segue-slice");
  const { buffer, peaks, seconds: duration } = found;
  const hear = h("button", { type: "button", class: "play", hidden: !buffer }, "Hear the slice");
  const other = h("label", { for: "file", class: "button" }, "Another file");
  const length = duration === null ? "" : `, ${duration < 90 ? seconds(duration) : wait(duration)}`;
  slice.open({ peaks, duration, longest: limits.prompt, usual: USUAL_PROMPT });
  slice.addEventListener("change", outlook);
  if (buffer) hearSlice(hear);
  drop.hidden = true;
  chosen.hidden = false;
  chosen.replaceChildren(
    h(
      "div",
      { class: "run-head" },
      h("h3", {}, found.name, note(length)),
      !buffer && note("This browser cannot draw this file; the service may read it."),
    ),
    slice,
    h("div", { class: "buttons" }, hear, chooser, other),
  );
  $("asking").hidden = false;
  outlook();
  const first = slice.querySelector("[role=slider]") ?? slice.querySelector("input");
  first.focus({ focusVisible: false });
}

function hearSlice(button) {
  const whole = new Source(upload.name, null, { sampleRate: upload.buffer.sampleRate });
  whole.buffer = Promise.resolve(upload.buffer);
  const takes = (upload.takes = new Takes([whole]));
  const region = () => [slice.start, slice.end];
  button.addEventListener("click", () => {
    if (takes.playing) return takes.pause();
    takes.setLoop(region());
    takes.currentTime = slice.start;
    takes.play();
  });
  slice.addEventListener("settle", () => takes.playing && takes.setLoop(region()));
  const shown = slice;
  follow(takes, () => {
    button.textContent = takes.playing ? "Pause" : "Hear the slice";
    shown.at(takes.playing ? takes.currentTime : null);
  });
}

/** Show what is going to be made. */
function outlook() {
  if (!upload || !form) return;
  const { length, variations } = form.wanted();
  form.room(slice.seconds);
  const what = variations > 1 ? `, ${variations} times` : "";
  form.sum(`${seconds(slice.seconds)} of yours, then ${seconds(length)} new${what}`);
  preview.hidden = !upload.peaks;
  if (!upload.peaks) return;
  preview.show({
    peaks: [upload.peaks],
    from: slice.start,
    seconds: slice.seconds + Math.max(1, length),
    join: slice.seconds,
    until: slice.end,
    loudest: upload.peaks.loudest,
  });
}

// Runs.

async function generate() {
  const { length, listen, ...wanted } = form.wanted();
  form.keep();
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
  // Made now, while the reader's hand is on the button: later, a browser may refuse.
  const context = listen ? newContext(upload.buffer?.sampleRate ?? 44100) : null;
  context?.resume().catch(() => {});
  upload.takes?.pause();
  const from = upload;
  form.say("");
  form.busy("Sending…");
  try {
    const { job_id: id } = await send(from, parameters);
    from.job = id;
    form.busy(null);
    watch(new Run(id, about, { prompt: from.buffer, at: about.start, context }), true);
  } catch (error) {
    context?.close();
    form.busy(null);
    form.say(complaintOf(error));
  }
}

/** Queue a job on an upload, which is sent only once. */
async function send(from, parameters) {
  if (from.job) {
    try {
      return await api.retry(from.job, parameters);
    } catch (error) {
      if (error.status !== 404) throw error;
    }
  }
  return api.start(await from.encoded(), parameters);
}

function watch(run, isNew = false) {
  run.addEventListener("done", () => finish(run));
  run.addEventListener("gone", () => {
    forget(run);
    leave(run);
  });
  run.addEventListener("again", () => again(run));
  $("runs").querySelector("h2").after(run.element);
  $("runs").hidden = false;
  if (!isNew) return;
  remember(run);
  reveal(run.element);
  run.follow();
}

function visible(element) {
  const { top, bottom } = element.getBoundingClientRect();
  return bottom > 0 && top < innerHeight;
}

function reveal(element) {
  const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  element.scrollIntoView({ behavior: calm ? "auto" : "smooth", block: "nearest" });
}

async function finish(run) {
  const key = pieceKey(run.about);
  const piece = pieces.get(key) ?? newPiece(key, run.about);
  let first;
  try {
    first = await piece.add(run);
  } catch (error) {
    run.fail(error instanceof api.ServiceError ? error.message : UNHEARD);
    if (!piece.sources.length) piece.dispatchEvent(new Event("empty"));
    return;
  }
  const { live } = run;
  const at = piece.sources.indexOf(first) + live.selected;
  // What is heard goes on where it is, now in the player, with all takes beside it.
  const { takes } = piece.player;
  if (!takes.playing) {
    const goesOn = live.playing || (live.wanted && !sounding());
    takes.select(at);
    if (live.started) takes.currentTime = live.currentTime;
    if (goesOn) takes.play();
  }
  const focused = run.element.contains(document.activeElement);
  const seen = visible(run.element);
  leave(run);
  if (focused) piece.player.querySelector(".play")?.focus({ preventScroll: true });
  if (seen) reveal(piece.element);
  $("news").textContent = `Ready: ${first.name}`;
  offered().then((service) => {
    introduce(service);
    form.refresh(service);
  }, () => {});
}

function newPiece(key, about) {
  const piece = new Piece(about);
  pieces.set(key, piece);
  piece.addEventListener("again", ({ run }) => again(run, piece));
  piece.addEventListener("removed", ({ run }) => {
    forget(run);
    if (!piece.sources.length) chooser.focus();
  });
  piece.addEventListener("empty", () => {
    pieces.delete(key);
    piece.element.remove();
    $("pieces").hidden = pieces.size === 0;
  });
  $("pieces").querySelector("h2").after(piece.element);
  $("pieces").hidden = false;
  return piece;
}

/** The same once more, with a seed that nobody chose. */
async function again(run, piece = null) {
  const parameters = { ...run.about.parameters, seed: -1 };
  const about = { ...run.about, parameters };
  const listen = form.wanted().listen;
  const rate = run.prompt?.sampleRate ?? 44100;
  const context = listen ? newContext(rate) : null;
  context?.resume().catch(() => {});
  piece?.player.takes.pause();
  if (piece) piece.complaint.textContent = "";
  try {
    const { job_id: id } = await rerun(run, parameters);
    // A finished take starts with the prompt.
    const sound = piece
      ? { prompt: await piece.sources[0].decoded(), at: 0 }
      : { prompt: run.prompt, at: run.at };
    watch(new Run(id, about, { ...sound, context }), true);
    if (!piece) {
      forget(run);
      leave(run);
    }
  } catch (error) {
    context?.close();
    const line = complaintOf(error);
    if (piece) piece.complaint.textContent = line;
    else run.complain(line);
  }
}

async function rerun(run, parameters) {
  try {
    return await api.retry(run.id, parameters);
  } catch (error) {
    if (error.status !== 404) throw error;
    if (upload?.key === run.about.key) return api.start(await upload.encoded(), parameters);
    throw new api.ServiceError(
      `The service does not have this run's audio any more. Choose ${run.about.file} again.`,
    );
  }
}

function leave(run) {
  run.close();
  $("runs").hidden = !$("runs").querySelector(".run");
}

function complaintOf(error) {
  if (!(error instanceof api.ServiceError || error instanceof UploadError)) throw error;
  const line = sentence(error.message);
  if (!error.retryAfter) return line;
  return `${line.replace(/[^.!?]$/, "$&.")} Try again in about ${wait(error.retryAfter)}.`;
}

// What this tab has asked for, so that a reload finds it again.

function remembered() {
  try {
    return JSON.parse(sessionStorage.getItem(KEPT)) ?? [];
  } catch {
    return [];
  }
}

function keep(runs) {
  try {
    sessionStorage.setItem(KEPT, JSON.stringify(runs));
  } catch {
    // Without storage, runs last as long as the page.
  }
}

function remember({ id, about }) {
  keep([...remembered(), { id, about }]);
}

function forget({ id }) {
  keep(remembered().filter((kept) => kept.id !== id));
}

async function restore() {
  for (const { id, about } of remembered()) {
    const run = new Run(id, about);
    watch(run);
    await run.ask();
    run.follow();
  }
}
