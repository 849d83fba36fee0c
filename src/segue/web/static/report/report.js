// @ts-check
// A matrix report's page: brings its charts, players and its blind test to life.

import "../shared/player.js";
import "../shared/abx.js";
import { chart, legend, memory, numbers, stacked } from "./charts.js";
import { front, scatter } from "./scatter.js";
import { find, h } from "../shared/dom.js";
import { Source } from "../shared/takes.js";

/** @import { Findings, NumberedRow, Point } from "../../types/findings.js" */

/** @type {Findings} */
const findings = JSON.parse(textOf("findings"));
/** @type {NumberedRow[]} */
const rows = findings.rows.map((row, n) => ({ ...row, number: n + 1, baseline: n === 0 }));
const measured = rows.filter((row) => row.ok);

drawSpeed(find(document, '[data-chart="speed"]'));
drawBits(find(document, '[data-chart="bits"]'));
drawMemory(find(document, '[data-chart="memory"]'));
drawTime(find(document, '[data-chart="time"]'));
openPlayers();
document.querySelectorAll(".copy").forEach((button) => {
  button.addEventListener("click", () => copy(button));
});

/** @param {HTMLElement} element */
function drawSpeed(element) {
  const points = measured.flatMap((row) => pointOf(row, row.speed, row.speed_range));
  if (!points.length) return nothing(element);
  const best = front(points).map((point) => point.name).join(", ");
  const label = `Speed against quality. On the Pareto front: ${best}.`;
  const axis = { title: "× real time", unit: "× real time" };
  chart(element, label, (width) => scatter(points, findings.max_kl, width, axis));
  element.append(
    h(
      "p",
      { class: "note" },
      `Up is faster, left is closer to the baseline. Nothing beats in both: ${best}. `,
      "Whiskers are 95 % intervals of the mean KL, and the slowest and fastest run.",
    ),
    numbers(
      ["variant", "KL, nats", "× real time", "ms a step"],
      points.map((p) => [p.name, p.x, p.y, rows[p.number - 1].ms]),
    ),
  );
}

/** @param {HTMLElement} element */
function drawBits(element) {
  const points = measured.flatMap((row) => pointOf(row, row.bits, null));
  if (!points.length) return nothing(element);
  const best = front(points, true).map((point) => point.name).join(", ");
  const label = `Bits against quality. On the Pareto front: ${best}.`;
  const axis = { title: "bits a weight", unit: "bits", less: true };
  chart(element, label, (width) => scatter(points, findings.max_kl, width, axis));
  element.append(
    h(
      "p",
      { class: "note" },
      `Down is smaller, left is closer to the baseline. Nothing beats in both: ${best}. `,
      "Scales and biases are counted; what is not quantized has 16 bits.",
    ),
    numbers(["variant", "KL, nats", "bits a weight"], points.map((p) => [p.name, p.x, p.y])),
  );
}

/**
 * The dot of a row, where it has both coordinates.
 *
 * @param {NumberedRow} row
 * @param {number | null} y
 * @param {[number, number] | null} range  of y
 * @returns {Point[]}
 */
function pointOf(row, y, range) {
  // The baseline is as far from itself as anything can be measured to be: not at all.
  const x = row.baseline ? (row.kl ?? 0) : row.kl;
  if (x === null || y === null) return [];
  const { number, name, picked, baseline, kl_ci95: interval } = row;
  return [{ number, name, x, y, interval, range, picked, baseline }];
}

/** @param {HTMLElement} element */
function drawMemory(element) {
  /** @param {NumberedRow} row */
  const bytes = (row) => [row.weights, row.engine, row.process];
  const known = measured.filter((row) => bytes(row).some((count) => count !== null));
  if (!known.length) return nothing(element);
  /** @type {[string, string][]} */
  const entries = [
    ["part-accent", "weights"],
    ["part-faint", "engine's peak"],
    ["mark", "process's peak"],
  ];
  const engines = known.some((row) => row.engine !== null);
  element.append(legend(entries.filter(([kind]) => kind !== "part-faint" || engines)));
  chart(element, "Memory of every variant; the figures follow.", (width) => memory(known, width));
  /** @param {number | null} count */
  const megabytes = (count) => (count === null ? null : count / 1e6);
  element.append(
    numbers(
      ["variant", "weights, MB", "engine, MB", "process, MB"],
      known.map((row) => [row.name, ...bytes(row).map(megabytes)]),
    ),
  );
}

/** @param {HTMLElement} element */
function drawTime(element) {
  const known = measured.flatMap(({ name, number, seconds }) =>
    seconds ? [{ name, number, seconds }] : [],
  );
  if (!known.length) return nothing(element);
  element.append(legend(findings.parts.map((name, part) => [`part-${part}`, name])));
  const label = "Seconds of every part of a run; the figures follow.";
  chart(element, label, (width) => stacked(known, width));
  element.append(
    numbers(
      ["variant", ...findings.parts.map((part) => `${part}, s`)],
      known.map((row) => [row.name, ...row.seconds]),
    ),
  );
}

/** @param {HTMLElement} element */
function nothing(element) {
  element.append(h("p", {}, "Nothing was measured."));
}

function openPlayers() {
  const all = findings.listening.map(({ takes, join, blind }, n) => ({
    join,
    takes,
    blind,
    sources: takes.map(
      ({ name, gain, rate: sampleRate }, m) =>
        new Source(name, () => recording(`take-${n}-${m}`), { gain, sampleRate }),
    ),
  }));
  for (const player of document.querySelectorAll("segue-player")) {
    const { sources, join } = all[Number(player.dataset.listening)];
    player.open(sources, join);
  }
  for (const test of document.querySelectorAll("segue-blind")) {
    const { sources, takes, join, blind } = all[Number(test.dataset.listening)];
    // The pick comes first; what plays the baseline's own codes is not among them.
    const variants = blind.map((take) => sources[take]);
    if (takes[0].row === 0 && variants.length) {
      test.open({ report: findings.report, baseline: sources[0], variants, join });
    } else if (takes[0].row === 0 && sources.length > 1) {
      test.append(h("p", {}, "Every variant plays just what the baseline does."));
    } else {
      test.append(h("p", {}, "It takes the baseline's audio, and that of one variant."));
    }
  }
}

/**
 * What the page holds under an id.
 *
 * @param {string} id
 */
function textOf(id) {
  return document.getElementById(id)?.textContent ?? "";
}

/** @param {string} id */
function recording(id) {
  const text = atob(textOf(id));
  const bytes = new Uint8Array(text.length);
  for (let n = 0; n < text.length; n++) bytes[n] = text.charCodeAt(n);
  return bytes.buffer;
}

/** @param {Element} button */
async function copy(button) {
  const code = button.parentElement?.querySelector("code");
  if (!code) return;
  try {
    await navigator.clipboard.writeText(code.textContent ?? "");
  } catch {
    // Without leave to write the clipboard: select it, and let the browser copy what is selected.
    getSelection()?.selectAllChildren(code);
    document.execCommand("copy");
  }
  button.textContent = "Copied";
  setTimeout(() => (button.textContent = "Copy"), 1500);
}
