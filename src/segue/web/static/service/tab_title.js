// @ts-check
// The tab's title: how far the music is, and that it is done.

const USUAL = document.title;

let done = false;

/**
 * Show how far the jobs are that run.
 *
 * @param {number | null} percent  null while nothing runs
 */
export function showInTitle(percent) {
  if (percent === null) document.title = done ? `Done – ${USUAL}` : USUAL;
  else document.title = `${Math.round(percent)} % – ${USUAL}`;
}

/** Show that music is done, until somebody has seen it. */
export function showDone() {
  done = true;
  showInTitle(null);
  // Whoever looks at the page already has it before the eyes for a while.
  if (document.visibilityState === "visible" && document.hasFocus()) setTimeout(seen, 10_000);
}

function seen() {
  if (!done) return;
  done = false;
  if (document.title.startsWith("Done")) showInTitle(null);
}

document.addEventListener("visibilitychange", () => document.visibilityState === "visible" && seen());
addEventListener("focus", seen);
