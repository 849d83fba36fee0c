// @ts-check
// Beside the page, on the audio's own thread: hands the samples of an input to the page.

class Recording extends AudioWorkletProcessor {
  /**
   * @param {Float32Array[][]} inputs
   * @returns {boolean}
   */
  process([channels]) {
    if (channels?.length) this.port.postMessage(channels.map((samples) => samples.slice()));
    return true;
  }
}

registerProcessor("segue-recording", Recording);
