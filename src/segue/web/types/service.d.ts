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
  /** Whether it can find a tempo. */
  beats?: boolean;
}

export interface ServiceLimits {
  body_bytes?: number;
  audio_seconds?: number;
  prompt_seconds?: number;
  output_seconds?: number;
  variations?: number;
  /** Characters. */
  description?: number;
  /** Behind the continuation's first. */
  parts?: number;
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
  /** Null: at the end of the audio. */
  prompt_start?: number | null;
  prompt_seconds?: number;
  /** Prompt and continuation, in answers. */
  output_seconds?: number;
  /** Of the continuation, where it is not counted in bars. */
  seconds?: number | null;
  /** Of the continuation. */
  bars?: number | null;
  bpm?: number | null;
  beats_per_bar?: number;
  /** Where a bar begins, in seconds of the audio. */
  downbeat?: number;
  snap?: "off" | "beat" | "bar";
  parts?: PartParameters[];
}

/** What is played behind the continuation's first part; it has one of both lengths. */
export interface PartParameters {
  description: string;
  seconds?: number | null;
  bars?: number | null;
}

/** Audio that the service keeps. */
export interface Input {
  input_id: string;
  seconds: number;
  /** Of the file; empty where nobody said. */
  name: string;
  url: string;
}

/** What a job continues: an input, or a take up to some second of it. */
export type InputRef =
  | { input_id: string }
  | { job: string; take: number; until_seconds: number };

export interface Beats {
  bpm: number;
  beats_per_bar: number;
  downbeat_seconds: number;
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
  job_id: string;
  kind?: "native" | "plugin";
  model_name?: string;
  /** What ran, or is to run: a mode, or an object that has one. */
  quantization?: string | { mode?: string } | null;
  /** Whether it follows a melody. */
  melody?: boolean;
  /** Where the continuation starts in what was sent. */
  join_seconds?: number | null;
  /** Where the prompt starts in the result, once there is one. */
  loop_seconds?: number | null;
  /** Null for words alone. */
  input?: Input | null;
  /** Where bars lie in the result, once there is one. */
  bars?: { bpm: number; downbeat_seconds: number } | null;
  /** The take that it goes on from. */
  parent?: Parent | null;
  parameters: JobParameters;
  takes: TakeAnswer[];
  /** Of one that was removed, in seconds since 1970: it can be restored until then. */
  undo_until?: number;
  error?: string;
}

export interface Parent {
  job: string;
  take: number;
  until_seconds: number;
  /** Whether the service still has it. */
  known: boolean;
}

export interface JobList {
  jobs: Job[];
  /** What the list that comes next begins before. */
  next: number | null;
}

export interface TakeAnswer {
  number: number;
  seed: number;
  seconds: number;
  url: string;
  description?: string;
  name?: string;
  note?: string;
  starred?: boolean;
  /** Null as long as nobody has asked. */
  beat_offsets?: BeatOffsets | null;
  /** Without their endings. */
  file_names?: { whole: string; new: string; loop: string };
}

/** How far beats lie from the grid. */
export interface BeatOffsets {
  beats: number;
  median_ms: number;
  worst_ms: number;
  bpm: number;
}

export interface MeasuredBeats {
  /** Null where there are no beats. */
  beat_offsets: BeatOffsets | null;
}

/** What was removed can be restored until then, in seconds since 1970. */
export interface Removed {
  undo_until: number;
}

export interface ModelSize {
  bytes: number;
  missing_bytes: number;
  free_bytes: number;
}

/** A download of a model. */
export interface Download {
  session_id: string;
  model_name: string;
  status: "warming" | "paused" | "completed" | "failed";
  /** Percent. */
  progress: number;
  queue_status?: QueueStatus | null;
  error?: string | null;
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
