// @ts-check
// Charts as SVG, drawn anew for every width, so that text keeps its size.  Colours are in the style
// sheet; rows are told apart by their numbers, which are those of the table.

import { h, onWidth, svg } from "../shared/dom.js";

/** @import { NumberedRow } from "../../types/findings.js" */

/** From a value to a position in pixels. @typedef {(value: number) => number} Scale */

/** @typedef {{ number: number, name: string }} Named */

/**
 * A chart in `element` that `draw(width)` makes.
 *
 * @param {HTMLElement} element
 * @param {string} label  for those who cannot see it
 * @param {(width: number) => SVGElement} draw
 */
export function chart(element, label, draw) {
  const drawing = h("div", { class: "drawing", role: "img", "aria-label": label });
  element.append(drawing);
  onWidth(drawing, (width) => drawing.replaceChildren(draw(width)));
}

/** @typedef {Named & Pick<NumberedRow, "weights" | "engine" | "process">} MemoryRow */

/**
 * Bars in bars: the weights in what the engine had at its peak; the process's peak as a mark.
 *
 * @param {MemoryRow[]} rows
 * @param {number} width
 */
export function memory(rows, width) {
  const kinds = /** @type {const} */ (["weights", "engine", "process"]);
  /** @param {MemoryRow} row */
  const total = (row) => Math.max(...kinds.map((kind) => row[kind] ?? 0));
  const large = Math.max(...rows.map(total)) >= 1e10;
  const unit = large ? "GB" : "MB";
  const bytes = large ? 1e9 : 1e6;
  return bars(rows, width, {
    total: (row) => total(row) / bytes,
    unit,
    draw: (row, x, y, tall) => {
      const { weights, engine, process } = row;
      /** @param {number} value @param {string} kind */
      const bar = (value, kind) => rect(x(0), y, x(value / bytes) - x(0), tall, kind);
      /** @param {number} value */
      const mark = (value) =>
        svg("path", { class: "mark", d: `M${x(value / bytes)} ${y - 3}v${tall + 6}` });
      return [
        engine !== null && bar(engine, "part-faint"),
        weights !== null && bar(weights, "part-accent"),
        process !== null && mark(process),
      ];
    },
    label: (row) =>
      kinds
        .map((kind) => ({ kind, value: row[kind] }))
        .flatMap(({ kind, value }) => (value === null ? [] : `${kind} ${short(value / bytes)}`))
        .join(", "),
  });
}

/**
 * Seconds stacked, part by part.
 *
 * @param {(Named & { seconds: number[] })[]} rows
 * @param {number} width
 */
export function stacked(rows, width) {
  return bars(rows, width, {
    total: (row) => row.seconds.reduce((sum, seconds) => sum + seconds, 0),
    unit: "s",
    draw: (row, x, y, tall) => {
      let start = 0;
      return row.seconds.map((seconds, part) => {
        const from = x(start);
        start += seconds;
        return seconds > 0 && rect(from, y, Math.max(0.5, x(start) - from), tall, `part-${part}`);
      });
    },
    label: (row) => `${short(row.seconds.reduce((sum, seconds) => sum + seconds, 0))} s`,
  });
}

/**
 * A horizontal bar for each row.
 *
 * @template {Named} Row
 * @param {Row[]} rows
 * @param {number} width
 * @param {object} options
 * @param {(row: Row) => number} options.total  how long the bar is, in `unit`
 * @param {string} options.unit
 * @param {(row: Row, x: Scale, y: number, tall: number) => (SVGElement | false)[]} options.draw
 * @param {(row: Row) => string} options.label
 */
function bars(rows, width, { total, unit, draw, label }) {
  const [left, right, tall, pitch] = [28, 8, 14, 46];
  const height = rows.length * pitch + 34;
  const ticks = niceTicks(Math.max(...rows.map(total)));
  /** @type {Scale} */
  const x = (value) => left + (value / ticks[ticks.length - 1]) * (width - left - right);
  const root = svg("svg", { viewBox: `0 0 ${width} ${height}`, width, height });
  ticks.forEach((tick, n) => {
    const last = n === ticks.length - 1;
    root.append(
      svg("path", { class: "grid", d: `M${x(tick)} 0V${height - 24}` }),
      svg(
        "text",
        { x: last ? width : x(tick), y: height - 6, "text-anchor": last ? "end" : "middle" },
        last ? `${tick} ${unit}` : String(tick),
      ),
    );
  });
  rows.forEach((row, n) => {
    const y = n * pitch + 22;
    root.append(
      svg("text", { x: 0, y: y + 11, class: "row-number" }, String(row.number)),
      svg(
        "text",
        { x: left, y: y - 7 },
        // Where there is no room for the name, the number has to do.
        width > 480 && `${row.name} `,
        svg("tspan", { class: "value" }, label(row)),
      ),
      ...draw(row, x, y, tall).filter((part) => part !== false),
    );
  });
  return root;
}

/**
 * @param {number} x
 * @param {number} y
 * @param {number} width
 * @param {number} height
 * @param {string} kind
 */
const rect = (x, y, width, height, kind) => svg("rect", { x, y, width, height, class: kind });

/**
 * What the colours of a chart mean.
 *
 * @param {[string, string][]} entries  a class, and what it means
 */
export function legend(entries) {
  return h(
    "ul",
    { class: "legend" },
    entries.map(([kind, name]) =>
      h(
        "li",
        {},
        svg(
          "svg",
          { viewBox: "0 0 12 12", "aria-hidden": "true" },
          svg("rect", { width: 12, height: 12, class: kind }),
        ),
        name,
      ),
    ),
  );
}

/**
 * The figures behind a chart, for those who want or need them as text.
 *
 * @param {string[]} heads
 * @param {[string, ...(number | null)[]][]} lines
 */
export function numbers(heads, lines) {
  /** @param {string} text @param {number} n */
  const head = (text, n) => h("th", { scope: "col", class: n > 0 && "figure" }, text);
  /** @param {number | null} value */
  const cell = (value) => h("td", { class: "figure" }, value === null ? "–" : short(value));
  /** @param {[string, ...(number | null)[]]} line */
  const line = ([name, ...values]) =>
    h("tr", {}, h("th", { scope: "row" }, name), values.map(cell));
  const table = h(
    "table",
    {},
    h("thead", {}, h("tr", {}, heads.map(head))),
    h("tbody", {}, lines.map(line)),
  );
  return h(
    "details",
    {},
    h("summary", {}, "Figures"),
    h(
      "div",
      { class: "wide", tabindex: 0, role: "region", "aria-label": `Figures: ${heads.join(", ")}` },
      table,
    ),
  );
}

/**
 * Three digits.
 *
 * @param {number} value
 */
export function short(value) {
  if (value === 0) return "0";
  if (value >= 100) return value.toFixed(0);
  return value >= 0.001 ? String(Number(value.toPrecision(3))) : value.toExponential(1);
}

/**
 * Round numbers from 0 on, the last of which is not below `largest`.
 *
 * @param {number} largest
 */
export function niceTicks(largest) {
  if (!(largest > 0)) return [0, 1];
  const rough = largest / 4;
  const size = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((n) => n * size).find((n) => n >= rough) ?? 10 * size;
  const count = Math.ceil(largest / step - 1e-9);
  return Array.from({ length: count + 1 }, (_, n) => Number((n * step).toPrecision(6)));
}
