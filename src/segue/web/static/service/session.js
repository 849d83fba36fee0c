// The jobs that this tab has started, so that a reload finds them again.

const KEPT = "segue.runs";

/**
 * The jobs, `{id, about}` each, oldest first. What is damaged in the storage is left out: it is
 * the browser's, and other pages of this origin may have written there.
 */
export function remembered() {
  try {
    const kept = JSON.parse(sessionStorage.getItem(KEPT));
    return Array.isArray(kept) ? kept.filter(isJob) : [];
  } catch {
    return [];
  }
}

export function remember({ id, about }) {
  keep([...remembered(), { id, about }]);
}

export function forget({ id }) {
  keep(remembered().filter((kept) => kept.id !== id));
}

function keep(jobs) {
  try {
    sessionStorage.setItem(KEPT, JSON.stringify(jobs));
  } catch {
    // Without storage, jobs last as long as the page.
  }
}

function isJob(kept) {
  const about = kept?.about;
  return (
    typeof kept?.id === "string" &&
    typeof about?.file === "string" &&
    Number.isFinite(about.start) &&
    Number.isFinite(about.seconds) &&
    typeof about.parameters === "object" &&
    Number.isFinite(about.parameters?.output_seconds)
  );
}
