// A matrix report's page: brings its charts, players and its blind test to life.

import "../shared/player.js";
import "../shared/abx.js";
import { chart, front, legend, memory, numbers, scatter, stacked } from "./charts.js";
import { h } from "../shared/dom.js";
import { Source } from "../shared/takes.js";

const findings = JSON.parse(document.getElementById("findings").textContent);
const rows = findings.rows.map((row, n) => ({ ...row, number: n + 1, baseline: n === 0 }));
const measured = rows.filter((row) => row.ok);

drawSpeed(document.querySelector('[data-chart="speed"]'));
drawMemory(document.querySelector('[data-chart="memory"]'));
drawTime(document.querySelector('[data-chart="time"]'));
openPlayers();
document.querySelectorAll(".copy").forEach((button) => button.addEventListener("click", copy));

function drawSpeed(element) {
  const points = measured
    .map((row) => ({
      ...row,
      // The baseline is as far from itself as anything can be measured to be: not at all.
      x: row.baseline ? (row.kl ?? 0) : row.kl,
      y: row.speed,
      interval: row.kl_ci95,
      range: row.speed_range,
    }))
    .filter((point) => point.x !== null && point.y !== null);
  if (!points.length) return nothing(element);
  const best = front(points).map((point) => point.name).join(", ");
  const label = `Speed against quality. On the Pareto front: ${best}.`;
  chart(element, label, (width) => scatter(points, findings.max_kl, width));
  element.append(
    h(
      "p",
      { class: "note" },
      `Up is faster, left is closer to the baseline. Nothing beats in both: ${best}. `,
      "Whiskers are 95 % intervals of the mean KL, and the slowest and fastest run.",
    ),
    numbers(["variant", "KL, nats", "× real time"], points.map((p) => [p.name, p.x, p.y])),
  );
}

function drawMemory(element) {
  const bytes = (row) => [row.weights, row.engine, row.process];
  const known = measured.filter((row) => bytes(row).some((count) => count !== null));
  if (!known.length) return nothing(element);
  element.append(
    legend([
      ["part-accent", "weights"],
      known.some((row) => row.engine !== null) && ["part-faint", "engine's peak"],
      ["mark", "process's peak"],
    ].filter(Boolean)),
  );
  chart(element, "Memory of every variant; the figures follow.", (width) => memory(known, width));
  const megabytes = (count) => (count === null ? null : count / 1e6);
  element.append(
    numbers(
      ["variant", "weights, MB", "engine, MB", "process, MB"],
      known.map((row) => [row.name, ...bytes(row).map(megabytes)]),
    ),
  );
}

function drawTime(element) {
  const known = measured.filter((row) => row.seconds);
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
    const { sources, join } = all[player.dataset.listening];
    player.open(sources, join);
  }
  for (const test of document.querySelectorAll("segue-blind")) {
    const { sources, takes, join, blind } = all[test.dataset.listening];
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

function recording(id) {
  const text = atob(document.getElementById(id).textContent);
  const bytes = new Uint8Array(text.length);
  for (let n = 0; n < text.length; n++) bytes[n] = text.charCodeAt(n);
  return bytes.buffer;
}

async function copy({ currentTarget: button }) {
  const code = button.parentElement.querySelector("code");
  try {
    await navigator.clipboard.writeText(code.textContent);
  } catch {
    // Without leave to write the clipboard: select it, and let the browser copy what is selected.
    getSelection().selectAllChildren(code);
    document.execCommand("copy");
  }
  button.textContent = "Copied";
  setTimeout(() => (button.textContent = "Copy"), 1500);
}
