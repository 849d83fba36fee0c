// What the service answers and takes, as JSON: `segue.service.http` writes it, in `native`, `views`
// and `streaming`. What is optional here, the page does without.

export interface ServiceAnswer {
  success: boolean;
  version?: string;
  /** The one that ran last; the one that is set, such as `auto`, until a job has run. */
  engine: string;
  /** Null until a job has run. */
  device: string | null;
  default_model?: string;
  quantization?: { enabled?: boolean; default_mode?: string; modes?: string[] };
  limits?: ServiceLimits;
  prompts?: BuiltInPrompt[];
  /** Their names, which `adapters` takes. */
  adapters?: string[];
  models?: Model[];
}

export interface ServiceLimits {
  body_bytes?: number;
  audio_seconds?: number;
  prompt_seconds?: number;
  output_seconds?: number;
  variations?: number;
  /** Characters. */
  description?: number;
}

export interface Model {
  name?: string;
  /** What `model_name` takes. */
  path: string;
  downloaded?: boolean;
  size_class?: string | null;
  /** Of the download. */
  bytes?: number | null;
  description?: string | null;
  /** `prompt`, `text`, `melody`. */
  takes?: string[];
}

/** Audio that the service brings along. */
export interface BuiltInPrompt {
  name: string;
  title?: string;
  url: string;
}

/** How the model generates. */
export interface GenerationParameters {
  model_name?: string;
  quantization_mode?: string;
  /** Of all takes; empty where there is none, or one for each. */
  description: string;
  /** One for each take. */
  descriptions?: string[];
  /** Each `NAME:SCALE`. */
  adapters?: string[];
  variations: number;
  top_k: number;
  temperature: number;
  cfg_coef: number;
  /** -1 draws one. */
  seed: number;
}

/** The same with the slice of the audio that is the prompt, if there is one, in seconds. */
export interface JobParameters extends GenerationParameters {
  prompt_start?: number;
  prompt_seconds?: number;
  /** Prompt and continuation. */
  output_seconds: number;
}

export interface JobStarted {
  success: boolean;
  job_id: string;
}

export type JobStatus =
  | "queued"
  | "warming"
  | "processing"
  | "completed"
  | "failed"
  | "cancelled"
  | "unknown";

export interface JobProgress {
  status: JobStatus;
  /** Percent. */
  progress?: number;
  queue_status?: QueueStatus | null;
}

export interface QueueStatus {
  message?: string;
  phase?: string;
  /** In the queue, from 1 on. */
  position?: number | null;
  estimated_seconds?: number | null;
  repo_id?: string;
  download_percent?: number;
  downloaded_bytes?: number;
  total_bytes?: number;
  /** Bytes per second. */
  speed_bps?: number;
}

export interface Job extends JobProgress {
  model_name?: string;
  /** What ran, or is to run: a mode, or an object that has one. */
  quantization?: string | { mode?: string } | null;
  takes: TakeAnswer[];
  error?: string;
}

export interface TakeAnswer {
  number: number;
  seed: number;
  seconds: number;
  url: string;
}

/** An event of a job's stream. */
export type StreamEvent =
  | { event: "format"; data: StreamFormat }
  | { event: "audio"; data: StreamAudio }
  | { event: "progress"; data: JobProgress }
  | { event: "done"; data: { status: JobStatus; error?: string } };

export interface StreamFormat {
  sample_rate: number;
  channels: number;
  takes: number;
  /** Where the continuation starts, from the start of what was sent. */
  join_seconds: number;
}

export interface StreamAudio {
  /** From 1 on. */
  take: number;
  /** The first sample, from the start of the continuation. */
  start: number;
  /** Base64 of interleaved 16-bit integers. */
  pcm: string;
}
