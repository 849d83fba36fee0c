// @ts-check
// A line that says what was removed, with the button that brings it back.

import { h } from "../shared/dom.js";

/** @typedef {ReturnType<typeof undoLine>} UndoLine */

/** Empty as long as there is nothing to undo. */
export function undoLine() {
  const element = h("p", { class: "undo", role: "status" });
  let timer = 0;
  const clear = () => {
    clearTimeout(timer);
    element.replaceChildren();
  };
  return Object.assign(element, {
    clear,
    /**
     * @param {string} line  what happened
     * @param {number} until  when it cannot be undone any more, in seconds since 1970
     * @param {() => void} undo
     */
    offer(line, until, undo) {
      clear();
      const button = h("button", { type: "button" }, "Undo");
      button.addEventListener("click", () => {
        clear();
        undo();
      });
      element.replaceChildren(`${line} `, button);
      timer = setTimeout(clear, Math.max(0, 1000 * until - Date.now()));
    },
  });
}
