// @ts-check
// What is shown of a blind test's votes, and their way out of the browser and back.

import { h, messageOf } from "./dom.js";
import { ALPHA } from "./stats.js";
import { verdict } from "./verdict.js";
import { scores } from "./votes.js";

/** @import { Votes } from "./votes.js" */

/** What the tests are called. */
export const TESTS = { abx: "ABX", preference: "Preference" };

/**
 * The scores of all runs that are over.
 *
 * @param {Votes} votes
 * @param {string} baseline  its name
 * @returns {HTMLElement[]}
 */
export function scoreList(votes, baseline) {
  const found = scores(votes.runs).filter((score) => score.trials > 0);
  if (!found.length) return [];
  const items = found.map((score) =>
    h(
      "li",
      {},
      h("b", {}, TESTS[score.test]),
      ` · ${baseline} and ${score.variant}`,
      score.listener && ` · ${score.listener}`,
      h("p", {}, verdict(score)),
    ),
  );
  const list = [h("h3", {}, "Votes so far"), h("ul", {}, items)];
  if (found.length === 1) return list;
  const chance = Math.round(100 * (1 - (1 - ALPHA) ** found.length));
  const note = `Of ${found.length} questions, one has p below ${ALPHA} by chance alone`;
  return [...list, h("p", { class: "note" }, `${note} in ${chance} % of cases.`)];
}

/**
 * Buttons that export, import and clear `votes`.
 *
 * @param {Votes} votes
 * @param {object} handlers
 * @param {(line: string) => void} handlers.showStatus  shows the outcome
 * @param {() => void} handlers.imported  called after an import
 * @param {() => void} handlers.cleared  called when no votes are left
 */
export function votesFile(votes, { showStatus, imported, cleared }) {
  const chooser = h("input", {
    type: "file",
    accept: "application/json,.json",
    hidden: true,
    onchange: async () => {
      const file = chooser.files?.[0];
      if (!file) return;
      try {
        const added = votes.merge(await file.text());
        showStatus(`${added} new ${added === 1 ? "run" : "runs"} taken in.`);
      } catch (error) {
        showStatus(messageOf(error));
      }
      chooser.value = "";
      imported();
    },
  });
  const clear = quiet("Clear votes", () => {
    if (!clear.dataset.sure) {
      clear.dataset.sure = "true";
      clear.textContent = "Clear them for good?";
      return;
    }
    delete clear.dataset.sure;
    clear.textContent = "Clear votes";
    votes.clear();
    cleared();
    showStatus("No votes are left.");
  });
  clear.onblur = () => {
    delete clear.dataset.sure;
    clear.textContent = "Clear votes";
  };
  if (!votes.persistent) {
    showStatus("This browser keeps nothing for this page: export your votes before you close it.");
  }
  return h(
    "div",
    { class: "file" },
    quiet("Export votes", () => download(votes)),
    quiet("Import votes", () => chooser.click()),
    chooser,
    clear,
  );
}

/** @param {Votes} votes */
function download(votes) {
  const text = JSON.stringify(votes.exported(), null, 2);
  const url = URL.createObjectURL(new Blob([text], { type: "application/json" }));
  h("a", { href: url, download: `votes-${votes.report}.json` }).click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}

/**
 * A button that does not ask for attention.
 *
 * @param {string} text
 * @param {() => void} onclick
 */
export function quiet(text, onclick) {
  return h("button", { type: "button", class: "quiet", onclick }, text);
}
