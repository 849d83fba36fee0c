// @ts-check
// The service's page: the prompt, the parameters, the jobs and their takes.

import { Connection } from "./connection.js";
import { lengthText } from "./format.js";
import { Jobs, reveal } from "./jobs.js";
import { Library, LibraryEvent } from "./library.js";
import { parametersForm } from "./parameters_form.js";
import { PromptPanel } from "./prompt_panel.js";
import { timeline } from "./timeline.js";
import { known } from "./upload.js";
import { find, h } from "../shared/dom.js";

/** @param {string} id */
const $ = (id) => find(document, `#${id}`);

const stage = h("div", { class: "stage-area" });
$("prompt").append(stage);
const connection = new Connection($("about"), stage);
const service = await connection.open();

const panel = new PromptPanel(stage, service);
const form = parametersForm(service);
const preview = timeline();
$("parameters").append(preview, form);

const library = new Library($("takes"));
const jobs = new Jobs({
  form,
  panel,
  library,
  running: $("jobs"),
  announcements: $("announcements"),
});

panel.addEventListener("open", () => {
  $("parameters").hidden = false;
  form.expectPrompt(!panel.alone);
  showOutcome();
});
panel.addEventListener("change", showOutcome);
form.addEventListener("change", showOutcome);
form.addEventListener("submit", (event) => {
  event.preventDefault();
  jobs.start();
});
// A model may have come down meanwhile; whether the service answers matters elsewhere.
const refresh = () => connection.refresh().then(form.refresh, () => {});
jobs.addEventListener("done", refresh);
form.addEventListener("arrived", refresh);
library.addEventListener("retry", (event) => {
  if (event instanceof LibraryEvent) jobs.retry(event.source, event.group);
});
library.addEventListener("playon", (event) => {
  if (event instanceof LibraryEvent) playOn(event);
});
library.restore((job) => jobs.follow(job));

/**
 * Let the next prompt be a take.
 *
 * @param {LibraryEvent} event
 */
async function playOn({ source, group, at }) {
  const { card, take } = source;
  const { start, seconds: prompt, grid, file } = card.about;
  group.player.takes.pause();
  const upload = await known({
    name: take.name || `${file}, seed ${take.seed}`,
    buffer: await source.whole(),
    take: { job: card.id, take: take.number },
  });
  panel.show(upload, {
    tempo: grid && { bpm: grid.bpm, beatsPerBar: grid.beatsPerBar, downbeat: grid.moved(-start).first },
    end: at === null ? undefined : start + at,
    length: prompt || undefined,
    note: "The next part goes on from the end of the slice; what lies before it stays.",
  });
  reveal($("prompt"));
  form.focusGenerate();
}

/** Show what is going to be made. */
function showOutcome() {
  const { upload, slice, alone, grid } = panel;
  form.count(grid);
  const { length, then, variations } = form.parameters();
  const times = variations > 1 ? `, ${variations} times` : "";
  const lengths = [length, ...then.map((part) => part.length)];
  const sum = lengths.reduce((all, one) => all + one.seconds, 0);
  const fresh = `${lengthText(sum, grid)} new${times}`;
  form.limitLength(slice?.seconds ?? 0);
  if (alone) {
    form.summarize(fresh);
    preview.hidden = true;
  }
  if (!upload || !slice) return;
  form.summarize(`${lengthText(slice.seconds, grid)} of yours, then ${fresh}`);
  preview.hidden = !upload.peaks;
  if (!upload.peaks) return;
  preview.show({
    peaks: [upload.peaks],
    from: slice.start,
    seconds: slice.seconds + Math.max(1, sum),
    join: slice.seconds,
    until: slice.end,
    loudest: upload.peaks.loudest,
    grid: grid?.moved(slice.start),
  });
}
