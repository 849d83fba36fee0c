// @ts-check
// A take's way out: a link that downloads it, and that can be dragged into a DAW or a folder.

import { pathOf } from "./api.js";
import { exportChoice } from "./export_choice.js";
import * as http from "./http.js";
import { h } from "../shared/dom.js";

/** @import { Recording } from "./recording.js" */

/**
 * @param {Recording} source
 * @param {(error: unknown) => void} showError  shows what went wrong; null clears it
 */
export function downloadLink(source, showError) {
  const { take, card } = source;
  const link = h(
    "a",
    { class: "button download", draggable: "true", "aria-label": `Download ${source.name}` },
    "Download",
  );
  link.title = "Click to download, or drag it into a DAW or a folder";
  const show = () => {
    const { part, format } = exportChoice;
    const query = new URLSearchParams({ part, format: format.format });
    link.href = `${pathOf(card.id, take.number)}/audio?${query}`;
    link.download = `${take.file_names?.[part] ?? `take-${take.number}`}.${format.ending}`;
  };
  exportChoice.addEventListener("change", show);
  show();
  link.addEventListener("click", (event) => {
    showError(null);
    // A link by itself could not bring the token along.
    if (!http.hasToken()) return;
    event.preventDefault();
    save(link.href, link.download, exportChoice.format.type).catch(showError);
  });
  link.addEventListener("dragstart", (event) => {
    // Chromium writes a file where it is dropped; other browsers give the address.
    const { type } = exportChoice.format;
    event.dataTransfer?.setData("DownloadURL", `${type}:${link.download}:${link.href}`);
    event.dataTransfer?.setData("text/uri-list", link.href);
    event.dataTransfer?.setData("text/plain", link.href);
  });
  return link;
}

/**
 * @param {string} url
 * @param {string} name
 * @param {string} type
 */
async function save(url, name, type) {
  const blob = URL.createObjectURL(new Blob([await http.bytes(url)], { type }));
  h("a", { href: blob, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(blob), 60_000);
}
