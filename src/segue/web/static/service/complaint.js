// @ts-check
// Lines that say what went wrong, and go away when it has passed.

import * as http from "./http.js";
import { sentence, wait } from "./format.js";
import { UploadError } from "./upload.js";

/**
 * Show what went wrong. That the service does not answer is taken away when it answers again.
 *
 * @param {HTMLElement} element
 * @param {unknown} error  throws any that has no line for the user
 */
export function complain(element, error) {
  element.textContent = lineOf(error);
  const unreachable = error instanceof http.ServiceError && error.status === 0;
  element.toggleAttribute("data-unreachable", unreachable);
}

/** @param {HTMLElement} element */
export function clear(element) {
  element.textContent = "";
  element.removeAttribute("data-unreachable");
}

http.reachability.addEventListener("back", () => {
  for (const element of document.querySelectorAll("[data-unreachable]")) {
    if (element instanceof HTMLElement) clear(element);
  }
});

/**
 * The line that an error has for the user. Throws any that has none.
 *
 * @param {unknown} error
 */
export function lineOf(error) {
  if (error instanceof UploadError) return sentence(error.message);
  if (!(error instanceof http.ServiceError)) throw error;
  const line = sentence(error.message);
  if (!error.retryAfter) return line;
  return `${line.replace(/[^.!?]$/, "$&.")} Try again in about ${wait(error.retryAfter)}.`;
}
