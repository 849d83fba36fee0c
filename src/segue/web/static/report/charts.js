// Charts as SVG, drawn anew for every width, so that text keeps its size.  Colours are in the style
// sheet; rows are told apart by their numbers, which are those of the table.

import { h, onWidth, svg } from "../shared/dom.js";

const SUPERSCRIPTS = "⁰¹²³⁴⁵⁶⁷⁸⁹";

/** A chart in `element` that `draw(width)` makes; `label` says it to those who cannot see it. */
export function chart(element, label, draw) {
  const drawing = h("div", { class: "drawing", role: "img", "aria-label": label });
  element.append(drawing);
  onWidth(drawing, (width) => drawing.replaceChildren(draw(width)));
}

/** Which points no other beats in both: smaller x, larger y; from the smallest x on. */
export function front(points) {
  const sorted = [...points].sort((a, b) => a.x - b.x || b.y - a.y);
  let best = -Infinity;
  return sorted.filter((point) => point.y > best && ((best = point.y), true));
}

/**
 * Speed (up) against KL (right, logarithmic).  A `point` is {number, name, x, y, interval, picked,
 * baseline}; an x of 0, which has no logarithm, has a place of its own at the left.
 */
export function scatter(points, limit, width) {
  const [left, right, top, bottom] = [44, 16, 28, 44];
  const height = Math.round(Math.min(400, Math.max(260, width * 0.42)));
  const [low, high] = decades(points, limit);
  const gap = Math.min(72, width * 0.14);
  const x = (value) =>
    value <= 0
      ? left + gap / 2
      : left + gap + ((Math.log10(value) - low) / (high - low)) * (width - left - gap - right);
  const ticks = niceTicks(Math.max(...points.flatMap((point) => [point.y, ...(point.range ?? [])])));
  const y = (value) =>
    height - bottom - (value / ticks.at(-1)) * (height - top - bottom);
  const root = svg("svg", { viewBox: `0 0 ${width} ${height}`, width, height });
  const line = (d, kind) => root.append(svg("path", { d, class: kind }));
  const text = (content, attributes) => root.append(svg("text", attributes, content));

  for (const tick of ticks) {
    line(`M${left} ${y(tick)}H${width - right}`, "grid");
    text(String(tick), { x: left - 8, y: y(tick) + 4, "text-anchor": "end" });
  }
  text("× real time", { x: 0, y: 12 });
  text("0", { x: x(0), y: height - bottom + 18, "text-anchor": "middle" });
  for (let decade = low; decade <= high; decade++) {
    const place = x(10 ** decade);
    line(`M${place} ${height - bottom}v5`, "axis");
    // A label for each would not fit next to its neighbours.
    if ((high - decade) % Math.ceil((high - low + 1) / (width / 70)) === 0) {
      text(power(decade), { x: place, y: height - bottom + 18, "text-anchor": "middle" });
    }
  }
  text("KL from the baseline, nats", { x: width - right, y: height - 6, "text-anchor": "end" });
  if (limit) {
    line(`M${x(limit)} ${top - 8}V${height - bottom}`, "limit");
    const inside = x(limit) > width / 2;
    text("KL budget", {
      x: x(limit) + (inside ? -6 : 6),
      y: top - 2,
      "text-anchor": inside ? "end" : "start",
    });
  }
  const best = front(points);
  line(stairs(best, x, y, width - right), "front");
  const whiskers = (point) => point.interval?.map((end) => x(Math.max(end, 10 ** low)));
  const hasWhiskers = (point) => point.interval && point.x > 0;
  const beside = ([from, to], height) => [from, height - 5, to, height + 5];
  const upright = (x, [low, high]) => [x - 2, y(high), x + 2, y(low)];
  // What labels must not lie on.
  const taken = [
    ...points.map((point) => around(x(point.x), y(point.y), 8, 8)),
    ...points.filter(hasWhiskers).map((p) => beside(whiskers(p), y(p.y))),
    ...points.filter((p) => p.range).map((p) => upright(x(p.x), p.range)),
    ...best.map((p, n) => {
      const end = best[n + 1] ? x(best[n + 1].x) : width - right;
      return [x(p.x), y(p.y) - 1, end, y(p.y) + 1];
    }),
    ...best.slice(1).map((p, n) => [x(p.x) - 2, y(p.y), x(p.x) + 2, y(best[n].y)]),
    ...(limit ? [[x(limit) - 2, top - 14, x(limit) + 2, height - bottom]] : []),
  ];
  for (const point of points) {
    const [cx, cy] = [x(point.x), y(point.y)];
    if (hasWhiskers(point)) {
      const [from, to] = whiskers(point);
      line(`M${from} ${cy}H${to}M${from} ${cy - 4}v8M${to} ${cy - 4}v8`, "error");
    }
    if (point.range) {
      const [from, to] = point.range.map(y);
      line(`M${cx} ${from}V${to}`, "error");
    }
    const kind = ["dot", point.baseline && "baseline", point.picked && "picked"];
    const said = `${point.name}: KL ${short(point.x)}, ${short(point.y)} × real time`;
    root.append(
      svg(
        "circle",
        { cx, cy, r: point.picked ? 6 : 5, class: kind.filter(Boolean).join(" ") },
        svg("title", {}, said),
      ),
    );
    const long = width > 560 ? `${point.number}  ${point.name}` : String(point.number);
    const label = free(cx, cy, [long, String(point.number)], taken, width - right);
    taken.push(label.box);
    const { anchor, ...place } = label.at;
    text(label.text, { ...place, "text-anchor": anchor, class: point.picked && "picked" });
  }
  return root;
}

function decades(points, limit) {
  const values = points.flatMap((point) => [point.x, ...(point.interval ?? [])]);
  const positive = [...values, limit].filter((value) => value > 0).map(Math.log10);
  if (!positive.length) return [-3, 0];
  // An interval that reaches almost to zero must not push everything else aside.
  const means = [...points.map((point) => point.x), limit].filter((value) => value > 0);
  const smallest = Math.min(...means.map(Math.log10));
  const low = Math.floor(Math.max(Math.min(...positive), smallest - 1));
  return [low, Math.max(low + 1, Math.ceil(Math.max(...positive)))];
}

function stairs(points, x, y, end) {
  const corners = points.map((p, n) => (n ? `H${x(p.x)}V${y(p.y)}` : `M${x(p.x)} ${y(p.y)}`));
  return points.length ? `${corners.join("")}H${end}` : "";
}

const around = (x, y, dx, dy) => [x - dx, y - dy, x + dx, y + dy];

// The first of the places around a dot where a label hits nothing; shorter texts come last.
function free(cx, cy, texts, taken, end) {
  const places = [];
  for (const text of texts) {
    const width = text.length * 7;
    for (const dy of [-10, 4, 20, -24, 34]) {
      const away = dy === 4 ? 11 : -2;
      for (const side of [1, -1]) {
        const [x, y] = [cx + side * away, cy + dy];
        const from = side === 1 ? x : x - width;
        places.push({
          text,
          at: { x, y, anchor: side === 1 ? "start" : "end" },
          box: [from, y - 11, from + width, y + 3],
        });
      }
    }
  }
  const apart = (a, b) => a[0] >= b[2] || a[2] <= b[0] || a[1] >= b[3] || a[3] <= b[1];
  const fits = ({ box }) =>
    box[0] >= 40 && box[2] <= end && taken.every((other) => apart(box, other));
  return places.find(fits) ?? places[0];
}

/** Bars in bars: the weights in what the engine had at its peak; the process's peak as a mark. */
export function memory(rows, width) {
  const kinds = ["weights", "engine", "process"];
  const total = (row) => Math.max(...kinds.map((kind) => row[kind] ?? 0));
  const [unit, bytes] = Math.max(...rows.map(total)) >= 1e10 ? ["GB", 1e9] : ["MB", 1e6];
  return bars(rows, width, {
    total: (row) => total(row) / bytes,
    unit,
    draw: (row, x, y, tall) => {
      const bar = (value, kind) => rect(x(0), y, x(value / bytes) - x(0), tall, kind);
      const mark = `M${x(row.process / bytes)} ${y - 3}v${tall + 6}`;
      return [
        row.engine !== null && bar(row.engine, "part-faint"),
        row.weights !== null && bar(row.weights, "part-accent"),
        row.process !== null && svg("path", { class: "mark", d: mark }),
      ];
    },
    says: (row) =>
      kinds
        .filter((kind) => row[kind] !== null)
        .map((kind) => `${kind} ${short(row[kind] / bytes)}`)
        .join(", "),
  });
}

/** Seconds stacked, part by part. */
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
    says: (row) => `${short(row.seconds.reduce((sum, seconds) => sum + seconds, 0))} s`,
  });
}

function bars(rows, width, { total, unit, draw, says }) {
  const [left, right, tall, pitch] = [28, 8, 14, 46];
  const height = rows.length * pitch + 34;
  const ticks = niceTicks(Math.max(...rows.map(total)));
  const x = (value) => left + (value / ticks.at(-1)) * (width - left - right);
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
        svg("tspan", { class: "says" }, says(row)),
      ),
      ...draw(row, x, y, tall).filter(Boolean),
    );
  });
  return root;
}

const rect = (x, y, width, height, kind) => svg("rect", { x, y, width, height, class: kind });

/** What the colours of a chart mean. */
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

/** The figures behind a chart, for those who want or need them as text. */
export function numbers(heads, lines) {
  const head = (text, n) => h("th", { scope: "col", class: n > 0 && "figure" }, text);
  const cell = (value) => h("td", { class: "figure" }, value === null ? "–" : short(value));
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
    h("div", { class: "wide", tabindex: 0, role: "region", "aria-label": "Figures" }, table),
  );
}

/** Three digits. */
export function short(value) {
  if (value === 0) return "0";
  if (value >= 100) return value.toFixed(0);
  return value >= 0.001 ? String(Number(value.toPrecision(3))) : value.toExponential(1);
}

function niceTicks(largest) {
  if (!(largest > 0)) return [0, 1];
  const rough = largest / 4;
  const size = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((n) => n * size).find((n) => n >= rough);
  const count = Math.ceil(largest / step - 1e-9);
  return Array.from({ length: count + 1 }, (_, n) => Number((n * step).toPrecision(6)));
}

function power(exponent) {
  if (exponent === 0) return "1";
  const digits = [...String(Math.abs(exponent))].map((digit) => SUPERSCRIPTS[digit]).join("");
  return `10${exponent < 0 ? "⁻" : ""}${digits}`;
}
