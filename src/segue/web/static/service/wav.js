// @ts-check
// WAV files of samples that the browser has.

const HEADER_BYTES = 58;
const FLOAT = 3;

/**
 * A WAV file of 32-bit floats: samples beyond full scale stay as they are.
 *
 * @param {Float32Array[]} channels  of one length
 * @param {number} sampleRate  in Hz
 */
export function wavOf(channels, sampleRate) {
  const [count, length] = [channels.length, channels[0].length];
  const bytes = 4 * count * length;
  const view = new DataView(new ArrayBuffer(HEADER_BYTES));
  /**
   * @param {number} at
   * @param {string} text
   */
  const text = (at, text) => [...text].forEach((c, n) => view.setUint8(at + n, c.charCodeAt(0)));
  text(0, "RIFF");
  view.setUint32(4, HEADER_BYTES - 8 + bytes, true);
  text(8, "WAVEfmt ");
  view.setUint32(16, 18, true);
  view.setUint16(20, FLOAT, true);
  view.setUint16(22, count, true);
  view.setUint32(24, sampleRate, true);
  view.setUint32(28, 4 * count * sampleRate, true);
  view.setUint16(32, 4 * count, true);
  view.setUint16(34, 32, true);
  text(38, "fact");
  view.setUint32(42, 4, true);
  view.setUint32(46, length, true);
  text(50, "data");
  view.setUint32(54, bytes, true);
  const samples = new Float32Array(count * length);
  channels.forEach((channel, n) => {
    for (let t = 0; t < length; t++) samples[t * count + n] = channel[t];
  });
  return new Blob([view, samples], { type: "audio/wav" });
}

/**
 * A part of a buffer as a WAV file.
 *
 * @param {AudioBuffer} buffer
 * @param {number} from  in seconds
 * @param {number} to
 */
export function wavOfPart(buffer, from, to) {
  const { sampleRate, numberOfChannels: length } = buffer;
  const [first, last] = [Math.round(from * sampleRate), Math.round(to * sampleRate)];
  const channels = Array.from({ length }, (_, channel) =>
    buffer.getChannelData(channel).subarray(first, last),
  );
  return wavOf(channels, sampleRate);
}
