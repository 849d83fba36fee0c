// @ts-check
// The service's page: the prompt, the parameters, the jobs and their takes.

import { Connection } from "./connection.js";
import { seconds } from "./format.js";
import { Jobs } from "./jobs.js";
import { parametersForm } from "./parameters_form.js";
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

const jobs = new Jobs({
  form,
  panel,
  running: $("jobs"),
  finished: $("takes"),
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
jobs.addEventListener("done", async () => {
  // A model may have come down meanwhile; whether the service answers matters elsewhere.
  await connection.refresh().then(form.refresh, () => {});
});
jobs.restore();

/** Show what is going to be made. */
function showOutcome() {
  const { upload, slice, alone } = panel;
  const { length, variations } = form.parameters();
  const times = variations > 1 ? `, ${variations} times` : "";
  if (alone) {
    form.limitLength(0);
    form.summarize(`${seconds(length)} new${times}`);
    preview.hidden = true;
  }
  if (!upload || !slice) return;
  form.limitLength(slice.seconds);
  form.summarize(`${seconds(slice.seconds)} of yours, then ${seconds(length)} new${times}`);
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
