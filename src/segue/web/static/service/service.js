// The service's page: a piece of music, what is asked of the model, and what came of it.

import { Connection } from "./connection.js";
import { seconds } from "./format.js";
import { Jobs } from "./jobs.js";
import { parametersForm } from "./parameters_form.js";
import { PromptPanel } from "./prompt_panel.js";
import { timeline } from "./timeline.js";
import { h } from "../shared/dom.js";

const $ = (id) => document.getElementById(id);

const stage = h("div", { class: "stage-area" });
$("yours").append(stage);
const connection = new Connection($("about"), stage);
const service = await connection.open();

const panel = new PromptPanel(stage, service);
const form = parametersForm(service);
const preview = timeline();
$("asking").append(preview, form);

const jobs = new Jobs({
  form,
  panel,
  running: $("runs"),
  finished: $("pieces"),
  news: $("news"),
});

panel.addEventListener("open", () => {
  $("asking").hidden = false;
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
  const { upload, slice } = panel;
  if (!upload) return;
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
