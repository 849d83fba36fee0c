// How the page puts things: names, sizes, waits.

const MODES = {
  none: "not quantized",
  q8_decoder_linears: "8 bits",
  q4_decoder_linears: "4 bits",
  q4_decoder_linears_emb: "4 bits, embeddings too",
};

/** A quantization mode as people say it. */
export function modeName(mode) {
  return MODES[mode] ?? String(mode).replaceAll("_", " ");
}

/** A model's name without its owner. */
export function shortName(path) {
  return String(path).split("/").at(-1);
}

/** A count of bytes, in the unit that suits it. */
export function size(bytes) {
  if (bytes >= 1e9) return `${(bytes / 1e9).toFixed(1)} GB`;
  return `${bytes >= 1e7 ? Math.round(bytes / 1e6) : (bytes / 1e6).toFixed(1)} MB`;
}

/** About how long. */
export function wait(seconds) {
  if (seconds < 90) return `${Math.max(1, Math.round(seconds))} s`;
  return `${Math.round(seconds / 60)} min`;
}

/** Seconds with a tenth where there is one. */
export function seconds(value) {
  return `${Math.round(value * 10) / 10} s`;
}

/** How many of what. */
export function count(number, what) {
  return `${number} ${what}${number === 1 ? "" : "s"}`;
}

/**
 * Where a job stands: `phase`, a line that seldom changes, `detail`, one that changes all the time,
 * and `percent`, null if nobody knows.
 */
export function standing({ status, progress, queue_status: queue }) {
  const known = queue ?? {};
  if (status === "queued") {
    const place = Number(known.position) > 0 ? `, number ${known.position} in the queue` : "";
    const left = Number(known.estimated_seconds);
    return {
      phase: `Waiting${place}`,
      detail: left > 0 ? `about ${wait(left)} to go` : "",
      percent: null,
    };
  }
  if (known.phase === "download") {
    const [done, all] = [Number(known.downloaded_bytes), Number(known.total_bytes)];
    const speed = Number(known.speed_bps);
    const detail = all > 0 ? `${size(done)} of ${size(all)}` : "";
    const percent = known.download_percent ?? (all > 0 ? (100 * done) / all : null);
    return {
      phase: `Downloading ${shortName(known.repo_id ?? "the model")}`,
      detail: speed > 0 ? `${detail}, ${size(speed)} a second` : detail,
      percent: percent === null ? null : Number(percent),
    };
  }
  if (status === "warming") {
    return { phase: sentence(known.message || "loading the model"), detail: "", percent: null };
  }
  const percent = Math.max(0, Math.min(100, Number(progress) || 0));
  const left = Number(known.estimated_seconds);
  const detail = `${Math.round(percent)} %` + (left > 0 ? `, about ${wait(left)} to go` : "");
  return { phase: sentence(known.message || "playing on"), detail, percent };
}

/** A line as it stands by itself; a name that it starts with stays as it is. */
export function sentence(line) {
  return /^[a-z]+[ ,:]/.test(line) || /^[a-z]+$/.test(line)
    ? line.charAt(0).toUpperCase() + line.slice(1)
    : line;
}
