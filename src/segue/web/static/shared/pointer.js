// @ts-check
// What is dragged with a pointer, and what sliders say of themselves.

/**
 * Follow a pointer that was pressed on an element, until it is released.
 *
 * @param {HTMLElement} element
 * @param {PointerEvent} down
 * @param {object} handlers
 * @param {(event: PointerEvent) => void} handlers.move
 * @param {(event: PointerEvent) => void} handlers.drop  released, or taken away
 */
export function dragging(element, { pointerId }, { move, drop }) {
  /** @param {PointerEvent} event */
  const moved = (event) => {
    if (event.pointerId === pointerId) move(event);
  };
  /** @param {PointerEvent} event */
  const dropped = (event) => {
    if (event.pointerId !== pointerId) return;
    element.removeEventListener("pointermove", moved);
    element.removeEventListener("pointerup", dropped);
    element.removeEventListener("pointercancel", dropped);
    drop(event);
  };
  element.setPointerCapture(pointerId);
  element.addEventListener("pointermove", moved);
  element.addEventListener("pointerup", dropped);
  element.addEventListener("pointercancel", dropped);
}

/**
 * Whether nothing snaps while these keys are held.
 *
 * @param {PointerEvent} event
 */
export function isFree({ altKey, ctrlKey, metaKey }) {
  return altKey || ctrlKey || metaKey;
}

/**
 * Say a slider's value and range.
 *
 * @param {Element} element
 * @param {number} min
 * @param {number} max
 * @param {number} now
 * @param {string} text
 */
export function sliderValue(element, min, max, now, text) {
  element.setAttribute("aria-valuemin", min.toFixed(1));
  element.setAttribute("aria-valuemax", max.toFixed(1));
  element.setAttribute("aria-valuenow", now.toFixed(1));
  element.setAttribute("aria-valuetext", text);
}
