// @ts-check
// Elements without markup: what comes from a report is only ever text or an attribute's value.

/** @import { Attributes, Child } from "../../types/elements.js" */

const SVG = "http://www.w3.org/2000/svg";

/**
 * A new element. `on…` attributes take functions; true and false set and omit an attribute; what
 * is null or false among the children is left out.
 *
 * @template {keyof HTMLElementTagNameMap} Name
 * @param {Name} name
 * @param {Attributes} [attributes]
 * @param {Child[]} children
 */
export function h(name, attributes = {}, ...children) {
  return fill(document.createElement(name), attributes, children);
}

/**
 * The same for SVG.
 *
 * @template {keyof SVGElementTagNameMap} Name
 * @param {Name} name
 * @param {Attributes} [attributes]
 * @param {Child[]} children
 */
export function svg(name, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, name), attributes, children);
}

/**
 * @template {Element} T
 * @param {T} element
 * @param {Attributes} attributes
 * @param {Child[]} children
 */
function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") {
      element.addEventListener(name.slice(2), /** @type {EventListener} */ (value));
    } else if (value === true) {
      element.setAttribute(name, "");
    } else if (value !== false && value != null) {
      element.setAttribute(name, String(value));
    }
  }
  element.append(...children.flat().filter((child) => child != null && child !== false));
  return element;
}

/**
 * The first element in `root` that `selector` finds, where the page is known to have one.
 *
 * @param {ParentNode} root
 * @param {string} selector
 * @returns {HTMLElement}
 */
export function find(root, selector) {
  const element = root.querySelector(selector);
  if (!(element instanceof HTMLElement)) throw new Error(`the page has no ${selector}`);
  return element;
}

/**
 * Seconds as `1:02.3`.
 *
 * @param {number} seconds
 */
export function clock(seconds) {
  const tenths = Math.round(Math.max(0, seconds) * 10);
  const rest = (tenths % 600) / 10;
  return `${Math.floor(tenths / 600)}:${rest.toFixed(1).padStart(4, "0")}`;
}

/**
 * Whether a key pressed there means something to the element itself.
 *
 * @param {Element | null} target
 * @param {string} key
 * @param {boolean} [elsewhere]  whether what the keys are for lies elsewhere
 */
export function typing(target, key, elsewhere = false) {
  if (!target) return false;
  if (target.closest("textarea, select, input:not([type=radio], [type=range], [type=checkbox])")) {
    return true;
  }
  const pressable = `button, summary, input[type=checkbox]${elsewhere ? ", input" : ""}`;
  if (key === " " && target.closest(pressable)) return true;
  const moves = key.startsWith("Arrow") || key === "Home" || key === "End";
  const movable = elsewhere ? "[data-own-keys], input, [role=slider]" : "[data-own-keys]";
  return moves && Boolean(target.closest(movable));
}

/**
 * Call `draw(width)` now and whenever the element's width changes.
 *
 * @param {Element} element
 * @param {(width: number) => void} draw
 */
export function onWidth(element, draw) {
  let drawn = 0;
  new ResizeObserver(() => {
    const width = Math.floor(element.clientWidth);
    if (width > 0 && width !== drawn) {
      drawn = width;
      draw(width);
    }
  }).observe(element);
}

/**
 * The line that says what went wrong.
 *
 * @param {unknown} error
 */
export function messageOf(error) {
  return error instanceof Error ? error.message : String(error);
}
