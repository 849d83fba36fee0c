// @ts-check
// The jobs that this tab has started, so that a reload finds them again.

/** @import { JobParameters } from "../../types/service.js" */

/**
 * What is stored of a job: the file's name and key (see `Upload`), the prompt's place in it in
 * seconds, none of which there is where the music begins by itself, the name of the melody, and the
 * request's parameters.
 *
 * @typedef {object} JobAbout
 * @property {string} file
 * @property {string} key
 * @property {number} start
 * @property {number} seconds
 * @property {string} [melody]
 * @property {JobParameters} parameters
 */

/** @typedef {{ id: string, about: JobAbout }} StoredJob */

const STORED = "segue.runs";

/**
 * The jobs, oldest first. What is damaged in the storage is left out: it is the browser's, and
 * other pages of this origin may have written there.
 *
 * @returns {StoredJob[]}
 */
export function storedJobs() {
  try {
    const stored = JSON.parse(sessionStorage.getItem(STORED) ?? "[]");
    return Array.isArray(stored) ? stored.filter(isJob) : [];
  } catch {
    return [];
  }
}

/** @param {StoredJob} job */
export function remember({ id, about }) {
  store([...storedJobs(), { id, about }]);
}

/** @param {{ id: string }} job */
export function forget({ id }) {
  store(storedJobs().filter((stored) => stored.id !== id));
}

/** @param {StoredJob[]} jobs */
function store(jobs) {
  try {
    sessionStorage.setItem(STORED, JSON.stringify(jobs));
  } catch {
    // Without storage, jobs last as long as the page.
  }
}

/**
 * @param {any} stored  JSON from anywhere
 * @returns {stored is StoredJob}
 */
function isJob(stored) {
  const about = stored?.about;
  return (
    typeof stored?.id === "string" &&
    typeof about?.file === "string" &&
    Number.isFinite(about.start) &&
    Number.isFinite(about.seconds) &&
    typeof about.parameters === "object" &&
    Number.isFinite(about.parameters?.output_seconds)
  );
}
