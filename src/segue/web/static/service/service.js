// @ts-check
// The service's page: the prompt, the parameters, the jobs and their takes.

import { Connection } from "./connection.js";
import { lengthText } from "./format.js";
import { Jobs, reveal } from "./jobs.js";
import { Library } from "./library.js";
import { parametersForm } from "./parameters_form.js";
import { playOn, reopen } from "./play_on.js";
import { PromptPanel } from "./prompt_panel.js";
import { timeline } from "./timeline.js";
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

const library = new Library($("takes"), {
  playOn: (source, group, at) => playOn(panel, source, group, at).then(showPrompt),
  retry: (source, group) => jobs.retry(source, group),
  reopen: (group) => reopen(panel, group).then((there) => there && showPrompt()),
});
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
library.restore((job) => jobs.follow(job));

/** Show the music that was opened from below. */
function showPrompt() {
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
