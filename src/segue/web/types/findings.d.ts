// The JSON that a report's page holds for its script: `segue.lab.report.page` writes it.

export interface Findings {
  /** An identifier of the report's sound. */
  report: string;
  max_kl: number | null;
  rows: FindingsRow[];
  /** Names of the parts of a run's time. */
  parts: string[];
  listening: Listening[];
}

export interface FindingsRow {
  name: string;
  ok: boolean;
  picked: boolean;
  /** Mean KL divergence from the baseline, in nats per token. */
  kl: number | null;
  kl_ci95: [number, number] | null;
  /** Seconds of music per second. */
  speed: number | null;
  speed_range: [number, number] | null;
  /** Milliseconds of a decode step. */
  ms: number | null;
  /** Bits of a weight, scales and biases included. */
  bits: number | null;
  /** These three in bytes. */
  weights: number | null;
  engine: number | null;
  process: number | null;
  /** One for each of `parts`. */
  seconds: number[] | null;
}

/** A row as the page shows it. */
export interface NumberedRow extends FindingsRow {
  number: number;
  baseline: boolean;
}

export interface Listening {
  /** Where the continuation starts, in seconds. */
  join: number | null;
  takes: {
    name: string;
    /** Index in `rows`. */
    row: number;
    gain: number;
    /** Sample rate in Hz. */
    rate: number;
  }[];
  /** What the blind test offers against the baseline: indices in `takes`, the best choice first. */
  blind: number[];
}

/** A dot of a chart of speed, or of bits, against quality. */
export interface Point {
  number: number;
  name: string;
  /** KL divergence. */
  x: number;
  /** Speed, or bits. */
  y: number;
  /** Of x. */
  interval: [number, number] | null;
  /** Of y. */
  range: [number, number] | null;
  picked: boolean;
  baseline: boolean;
}
