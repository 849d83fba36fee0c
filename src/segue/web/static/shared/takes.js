// Several takes of the same length, of which one is heard.
//
// All of them run, from one moment of the audio clock on; switching only moves their gains. So the
// position is the same to the sample, and there is no gap.

/** Time constant of a switch, in seconds: no click, and too short to be heard as a fade. */
const FADE = 0.003;

/** How far ahead a start is scheduled, so that every take makes it. */
const AHEAD = 0.02;

let context = null;
let heard = null;

/** Whether anything is heard now. */
export function sounding() {
  return Boolean(heard?.playing);
}

/** From now on `player` is what is heard: pause what was. */
export function claim(player) {
  if (heard !== player) heard?.pause();
  heard = player;
}

/**
 * A recording that is decoded once, when it is first wanted.
 * `bytes()` gives an ArrayBuffer, or a promise of one; `gain` evens out loudness.
 */
export class Source {
  constructor(name, bytes, { gain = 1, sampleRate = 48000 } = {}) {
    Object.assign(this, { name, bytes, gain, sampleRate });
  }

  /** Its AudioBuffer. */
  decoded() {
    // An offline context decodes before anybody has pressed a key; a live one may not exist yet.
    this.buffer ??= Promise.resolve(this.bytes()).then((bytes) =>
      new OfflineAudioContext(1, 1, this.sampleRate).decodeAudioData(bytes),
    );
    return this.buffer;
  }
}

/**
 * Events: `state` when what is heard changes.
 *
 * With `dip`, every switch is the same short silence, whichever takes it is between: in a blind
 * test, a seam that only a real change has would give the answer away.
 */
export class Takes extends EventTarget {
  constructor(sources, { dip = false } = {}) {
    super();
    this.sources = sources;
    this.dip = dip;
    this.selected = 0;
    this.levelled = true;
    this.loop = null;
    this.buffers = [];
    this.duration = 0;
    this.running = null;
    this.offset = 0;
  }

  /** Decode everything; nothing can be heard before. */
  load() {
    this.loading ??= this.change(this.sources);
    return this.loading;
  }

  /** Have these `sources` from now on. What is heard stays where it is, if it is among them. */
  async change(sources) {
    const buffers = await Promise.all(sources.map((source) => source.decoded()));
    this.loading ??= Promise.resolve();
    const { playing, currentTime } = this;
    const selected = sources.indexOf(this.sources[this.selected]);
    this.#stop();
    Object.assign(this, { sources, buffers, selected: Math.max(0, selected) });
    this.duration = Math.max(0, ...buffers.map((buffer) => buffer.duration));
    this.offset = Math.min(currentTime, this.duration);
    if (playing && this.duration) this.#start();
    this.#announce();
  }

  get playing() {
    return this.running !== null;
  }

  /** In seconds; may be set. */
  get currentTime() {
    if (!this.running) return this.offset;
    const time = this.offset + Math.max(0, context.currentTime - this.running.startsAt);
    if (!this.loop || time < this.loop[1]) return Math.min(time, this.duration);
    const [start, end] = this.loop;
    return start + ((time - end) % (end - start));
  }

  set currentTime(seconds) {
    const playing = this.playing;
    this.#stop();
    this.offset = Math.min(Math.max(0, seconds), this.duration);
    if (playing) this.#start();
    this.#announce();
  }

  async play() {
    await this.load();
    if (this.playing || this.duration === 0) return;
    claim(this);
    context ??= newContext(this.sources[0].sampleRate);
    // Not awaited: a context that is not allowed to start yet never answers.
    if (context.state === "suspended") context.resume().catch(() => {});
    if (this.offset >= this.duration - 0.01) this.offset = 0;
    if (this.loop && (this.offset < this.loop[0] || this.offset >= this.loop[1])) {
      this.offset = this.loop[0];
    }
    this.#start();
    this.#announce();
  }

  pause() {
    if (!this.playing) return;
    this.offset = this.currentTime;
    this.#stop();
    this.#announce();
  }

  /** Hear another take, from where this one is. */
  select(index) {
    if (index < 0 || index >= this.sources.length) return;
    this.selected = index;
    this.#mix(this.dip);
    this.#announce();
  }

  /** Even out loudness, or play everything as it is. */
  level(on) {
    this.levelled = on;
    this.#mix();
    this.#announce();
  }

  /** Repeat from one second to another; null plays to the end. */
  setLoop(region) {
    const playing = this.playing;
    const time = this.currentTime;
    this.#stop();
    this.loop = region;
    this.offset = region && (time < region[0] || time >= region[1]) ? region[0] : time;
    if (playing) this.#start();
    this.#announce();
  }

  #start() {
    const startsAt = context.currentTime + AHEAD;
    const nodes = this.buffers.map((buffer, index) => {
      const gain = new GainNode(context, { gain: this.#gainOf(index) });
      const [loopStart, loopEnd] = this.loop ?? [0, 0];
      const source = new AudioBufferSourceNode(context, {
        buffer: padded(buffer, this.duration),
        loop: this.loop !== null,
        loopStart,
        loopEnd,
      });
      source.connect(gain).connect(context.destination);
      source.start(startsAt, this.offset);
      return { source, gain };
    });
    this.running = { startsAt, nodes };
    nodes[0].source.onended = () => {
      this.running = null;
      this.offset = 0;
      this.#announce();
    };
  }

  #stop() {
    if (!this.running) return;
    for (const { source, gain } of this.running.nodes) {
      source.onended = null;
      gain.gain.setTargetAtTime(0, context.currentTime, FADE);
      source.stop(context.currentTime + 8 * FADE);
    }
    this.running = null;
  }

  #gainOf(index) {
    return index === this.selected ? (this.levelled ? this.sources[index].gain : 1) : 0;
  }

  #mix(dip = false) {
    const now = context?.currentTime;
    this.running?.nodes.forEach(({ gain }, index) => {
      gain.gain.cancelScheduledValues(now);
      if (dip) gain.gain.setTargetAtTime(0, now, FADE);
      gain.gain.setTargetAtTime(this.#gainOf(index), dip ? now + 10 * FADE : now, FADE);
    });
  }

  #announce() {
    this.dispatchEvent(new Event("state"));
  }
}

/** A context at the sound's own rate, so that its parts are not resampled one by one. */
export function newContext(sampleRate) {
  try {
    return new AudioContext({ sampleRate });
  } catch {
    return new AudioContext();
  }
}

// A loop that ends behind a buffer's end would leave its fellows behind.
function padded(buffer, seconds) {
  const length = Math.round(seconds * buffer.sampleRate);
  if (buffer.length >= length) return buffer;
  const { numberOfChannels, sampleRate } = buffer;
  const longer = new AudioBuffer({ length, numberOfChannels, sampleRate });
  for (let channel = 0; channel < numberOfChannels; channel++) {
    longer.copyToChannel(buffer.getChannelData(channel), channel);
  }
  return longer;
}
