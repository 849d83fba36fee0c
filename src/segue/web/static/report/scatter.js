// @ts-check
// The charts of speed, and of bits, against quality, with a label at every dot.

import { svg } from "../shared/dom.js";
import { niceTicks, short } from "./charts.js";

/** @import { Attributes } from "../../types/elements.js" */
/** @import { Point } from "../../types/findings.js" */
/** @import { Scale } from "./charts.js" */

const SUPERSCRIPTS = "⁰¹²³⁴⁵⁶⁷⁸⁹";

/** Left, top, right, bottom, in pixels. @typedef {[number, number, number, number]} Box */

/**
 * What stands at the y axis, in which unit, and whether less of it is better.
 *
 * @typedef {{ title: string, unit: string, less?: boolean }} Axis
 */

/**
 * Which points no other beats in both: smaller x, better y; from the smallest x on.
 *
 * @param {Point[]} points
 * @param {boolean} [less]  whether a smaller y is better
 */
export function front(points, less = false) {
  const sign = less ? -1 : 1;
  const sorted = [...points].sort((a, b) => a.x - b.x || sign * (b.y - a.y));
  let best = -Infinity;
  return sorted.filter(({ y }) => sign * y > best && ((best = sign * y), true));
}

/**
 * Speed or bits (up) against KL (right, logarithmic).  An x of 0, which has no logarithm, has a place of
 * its own at the left.
 *
 * @param {Point[]} points
 * @param {number | null} limit  of KL
 * @param {number} width
 * @param {Axis} axis
 */
export function scatter(points, limit, width, axis) {
  const [left, right, top, bottom] = [44, 16, 28, 44];
  const height = Math.round(Math.min(400, Math.max(260, width * 0.42)));
  const [low, high] = decades(points, limit);
  const gap = Math.min(72, width * 0.14);
  /** @type {Scale} */
  const x = (value) =>
    value <= 0
      ? left + gap / 2
      : left + gap + ((Math.log10(value) - low) / (high - low)) * (width - left - gap - right);
  const speeds = points.flatMap((point) => [point.y, ...(point.range ?? [])]);
  const ticks = niceTicks(Math.max(...speeds));
  /** @type {Scale} */
  const y = (value) =>
    height - bottom - (value / ticks[ticks.length - 1]) * (height - top - bottom);
  const root = svg("svg", { viewBox: `0 0 ${width} ${height}`, width, height });
  /** @param {string} d @param {string} kind */
  const line = (d, kind) => root.append(svg("path", { d, class: kind }));
  /** @param {string} content @param {Attributes} attributes */
  const text = (content, attributes) => root.append(svg("text", attributes, content));

  for (const tick of ticks) {
    line(`M${left} ${y(tick)}H${width - right}`, "grid");
    text(String(tick), { x: left - 8, y: y(tick) + 4, "text-anchor": "end" });
  }
  text(axis.title, { x: 0, y: 12 });
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
  const best = front(points, axis.less);
  line(stairs(best, x, y, width - right), "front");
  /**
   * The ends of a dot's horizontal error bar.
   *
   * @param {Point} point
   * @returns {[number, number] | null}
   */
  const whiskers = ({ x: mean, interval }) => {
    if (!interval || mean <= 0) return null;
    const [from, to] = interval.map((end) => x(Math.max(end, 10 ** low)));
    return [from, to];
  };
  // What labels must not lie on.
  /** @type {Box[]} */
  const taken = [];
  for (const point of points) {
    const [cx, cy] = [x(point.x), y(point.y)];
    taken.push([cx - 8, cy - 8, cx + 8, cy + 8]);
    const ends = whiskers(point);
    if (ends) taken.push([ends[0], cy - 5, ends[1], cy + 5]);
    if (point.range) taken.push([cx - 2, y(point.range[1]), cx + 2, y(point.range[0])]);
  }
  best.forEach((point, n) => {
    const [cx, cy] = [x(point.x), y(point.y)];
    const end = best[n + 1] ? x(best[n + 1].x) : width - right;
    taken.push([cx, cy - 1, end, cy + 1]);
    if (n > 0) taken.push([cx - 2, cy, cx + 2, y(best[n - 1].y)]);
  });
  if (limit) taken.push([x(limit) - 2, top - 14, x(limit) + 2, height - bottom]);
  for (const point of points) {
    const [cx, cy] = [x(point.x), y(point.y)];
    const ends = whiskers(point);
    if (ends) {
      const [from, to] = ends;
      line(`M${from} ${cy}H${to}M${from} ${cy - 4}v8M${to} ${cy - 4}v8`, "error");
    }
    if (point.range) {
      const [from, to] = point.range.map(y);
      line(`M${cx} ${from}V${to}`, "error");
    }
    const kind = ["dot", point.baseline && "baseline", point.picked && "picked"];
    const title = `${point.name}: KL ${short(point.x)}, ${short(point.y)} ${axis.unit}`;
    root.append(
      svg(
        "circle",
        { cx, cy, r: point.picked ? 6 : 5, class: kind.filter(Boolean).join(" ") },
        svg("title", {}, title),
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

/**
 * Exponents of ten between which all x lie.
 *
 * @param {Point[]} points
 * @param {number | null} limit
 * @returns {[number, number]}
 */
function decades(points, limit) {
  const values = points.flatMap((point) => [point.x, ...(point.interval ?? [])]);
  const positive = [...values, limit ?? 0].filter((value) => value > 0).map(Math.log10);
  if (!positive.length) return [-3, 0];
  // An interval that reaches almost to zero must not push everything else aside.
  const means = [...points.map((point) => point.x), limit ?? 0].filter((value) => value > 0);
  const smallest = Math.min(...means.map(Math.log10));
  const low = Math.floor(Math.max(Math.min(...positive), smallest - 1));
  return [low, Math.max(low + 1, Math.ceil(Math.max(...positive)))];
}

/**
 * @param {Point[]} points
 * @param {Scale} x
 * @param {Scale} y
 * @param {number} end
 */
function stairs(points, x, y, end) {
  const corners = points.map((p, n) => (n ? `H${x(p.x)}V${y(p.y)}` : `M${x(p.x)} ${y(p.y)}`));
  return points.length ? `${corners.join("")}H${end}` : "";
}

/**
 * The first of the places around a dot where a label hits nothing; shorter texts come last.
 *
 * @param {number} cx
 * @param {number} cy
 * @param {string[]} texts
 * @param {Box[]} taken
 * @param {number} end
 */
function free(cx, cy, texts, taken, end) {
  const places = [];
  for (const text of texts) {
    const width = text.length * 7;
    for (const dy of [-10, 4, 20, -24, 34]) {
      const away = dy === 4 ? 11 : -2;
      for (const side of [1, -1]) {
        const [x, y] = [cx + side * away, cy + dy];
        const from = side === 1 ? x : x - width;
        /** @type {Box} */
        const box = [from, y - 11, from + width, y + 3];
        places.push({ text, at: { x, y, anchor: side === 1 ? "start" : "end" }, box });
      }
    }
  }
  /** @param {Box} a @param {Box} b */
  const apart = (a, b) => a[0] >= b[2] || a[2] <= b[0] || a[1] >= b[3] || a[3] <= b[1];
  const fitting = places.find(
    ({ box }) => box[0] >= 40 && box[2] <= end && taken.every((other) => apart(box, other)),
  );
  return fitting ?? places[0];
}

/** @param {number} exponent */
function power(exponent) {
  if (exponent === 0) return "1";
  const digits = [...String(Math.abs(exponent))].map((digit) => SUPERSCRIPTS[Number(digit)]);
  return `10${exponent < 0 ? "⁻" : ""}${digits.join("")}`;
}
