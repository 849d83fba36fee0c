// @ts-check
// A model's way onto this machine: its size before, its progress meanwhile, pause and cancel.

import * as api from "./api.js";
import { clear, complain } from "./complaint.js";
import { shortName, size, standing } from "./format.js";
import { h } from "../shared/dom.js";

/** @import { Download, Model } from "../../types/service.js" */

/** @typedef {ReturnType<typeof modelDownload>} ModelDownload */

/** How often a download is asked how far it is, in milliseconds. */
const POLL_MS = 1000;

/**
 * @param {() => void} arrived  called when a model has been downloaded
 */
export function modelDownload(arrived) {
  const begin = h("button", { type: "button" }, "Download");
  const bar = h("progress", { max: 100, "aria-label": "Download" });
  const line = h("small", { role: "status" });
  const pause = h("button", { type: "button", class: "quiet" }, "Pause");
  const cancel = h("button", { type: "button", class: "quiet" }, "Cancel");
  const steering = h("span", { class: "steering", hidden: true }, bar, pause, cancel);
  const complaint = h("small", { role: "alert", class: "complaint" });
  const element = h("div", { class: "download", hidden: true }, begin, steering, line, complaint);

  /** The model that is shown. */
  let shown = "";
  /** Downloads that are not over, by model. @type {Map<string, Download>} */
  const running = new Map();
  /** What is known of sizes, by model. @type {Map<string, string>} */
  const sizes = new Map();

  const show = () => {
    const download = running.get(shown);
    begin.hidden = Boolean(download);
    steering.hidden = !download;
    if (!download) {
      line.textContent = sizes.get(shown) ?? "";
      return;
    }
    const paused = download.status === "paused";
    pause.textContent = paused ? "Go on" : "Pause";
    const { phase, detail, percent } = standing({ ...download, status: "warming" });
    const far = percent ?? download.progress;
    bar.value = far;
    bar.setAttribute("aria-valuetext", `${Math.round(far)} %`);
    const state = paused ? "Paused" : phase;
    const text = [state, detail].filter(Boolean).join(": ");
    if (line.textContent !== text) line.textContent = text;
  };

  /** @param {Download} download */
  const follow = async (download) => {
    const { session_id: id, model_name: model } = download;
    running.set(model, download);
    show();
    for (;;) {
      await new Promise((done) => setTimeout(done, POLL_MS));
      if (!running.has(model)) return;
      try {
        const now = await api.downloadState(id);
        if (!running.has(model)) return;
        if (now.status === "warming" || now.status === "paused") {
          running.set(model, now);
          show();
          continue;
        }
        running.delete(model);
        show();
        if (now.status === "completed") arrived();
        else if (model === shown && now.error) complaint.textContent = now.error;
        return;
      } catch (error) {
        // While the service does not answer, the page says so elsewhere.
        if (!(error instanceof Error) || !("status" in error) || error.status !== 0) {
          running.delete(model);
          show();
          return;
        }
      }
    }
  };

  /** @param {() => Promise<void>} act */
  const attempt = async (act) => {
    clear(complaint);
    try {
      await act();
    } catch (error) {
      complain(complaint, error);
    }
  };
  begin.addEventListener("click", () =>
    attempt(async () => {
      const model = shown;
      const { session_id: id } = await api.download(model);
      follow({ session_id: id, model_name: model, status: "warming", progress: 0 });
      pause.focus();
    }),
  );
  pause.addEventListener("click", () =>
    attempt(async () => {
      const download = running.get(shown);
      if (!download) return;
      const what = download.status === "paused" ? "resume" : "pause";
      running.set(shown, await api.steerDownload(download.session_id, what));
      show();
    }),
  );
  cancel.addEventListener("click", () =>
    attempt(async () => {
      const download = running.get(shown);
      if (!download) return;
      await api.cancelDownload(download.session_id);
      running.delete(shown);
      show();
      begin.focus();
    }),
  );

  /** @param {string} model */
  const measure = async (model) => {
    if (sizes.has(model)) return;
    sizes.set(model, "");
    try {
      const { missing_bytes: missing, free_bytes: free } = await api.modelSize(model);
      const room = missing > free ? "more than is free on this disk" : `${size(free)} are free`;
      sizes.set(model, `${size(missing)} to download; ${room}.`);
    } catch {
      // Then it is not known: the note on the model may have a guess.
    }
    if (model === shown) show();
  };

  return Object.assign(element, {
    /**
     * Offer a model that is not here; null offers none.
     *
     * @param {Model | null} model
     */
    offer(model) {
      const path = model?.path ?? "";
      element.hidden = !model;
      if (path === shown) return;
      shown = path;
      clear(complaint);
      begin.setAttribute("aria-label", `Download ${shortName(path)}`);
      show();
      if (model) measure(path);
    },
    /** Find downloads that run already. */
    async restore() {
      const found = await api.downloads().catch(() => ({ downloads: [] }));
      for (const download of found.downloads) {
        if (download.status === "warming" || download.status === "paused") follow(download);
      }
    },
  });
}
