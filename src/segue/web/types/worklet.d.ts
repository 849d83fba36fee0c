// What an audio worklet's script finds, which is no page: not in TypeScript's library.

declare class AudioWorkletProcessor {
  readonly port: MessagePort;
}

declare function registerProcessor(
  name: string,
  processor: new () => AudioWorkletProcessor,
): void;
