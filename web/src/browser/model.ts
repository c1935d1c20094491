// The exported model, run on segments of a track: memory does not grow with its length, and outputs equal those of the
// whole waveform.

import * as ort from "onnxruntime-web/wasm";

import type { Metadata } from "./decisions";
import { FileError } from "./errors";

/** Frames of a segment; with the frames that its end adds, the graph cuts it no further. */
const FRAMES = 2_046;
/** Bytes of the samples of a track that is not cut into segments, at most: memory is needed for four copies. */
const MAX_WHOLE = 2 ** 29;

export interface Outputs {
  /** Logits of every tag over time. */
  logits: number[][];
  /** The same of further heads. */
  heads: Record<string, number[][]>;
  /** Seconds of the time steps. */
  seconds: number[];
}

export interface Segments {
  /** Time steps at the start of a segment that reach beyond it. */
  before: number;
  /** Time steps of a segment up to the last that does not reach beyond its end. */
  clean: number;
  /** Samples of a segment, and from one to the next. */
  samples: number;
  step: number;
}

/** How a track is cut, as `clips.py` cuts mels; null if the network needs the whole track. */
export function segments({ lengths, mel }: Metadata): Segments | null {
  const { kind, stride, receptive_field: field = 0, start = 0 } = lengths;
  if (kind !== "any" || mel.kind !== "plain" || stride * mel.hop_length < mel.n_fft / 2) return null;
  const before = -Math.floor(start / stride) + 1;
  const cut = Math.ceil(Math.max(0, mel.n_fft / 2 - mel.hop_length) / mel.hop_length); // frames that reach beyond the end
  const clean = Math.floor((FRAMES - cut - start - field) / stride) + 1;
  if (clean <= before) return null;
  return { before, clean, samples: FRAMES * mel.hop_length, step: (clean - before) * stride * mel.hop_length };
}

/** Runs the model on a track whose samples come in blocks. */
export class TrackPredictor {
  readonly #segments: Segments | null;
  /** Logits over time, by the output of the model. */
  readonly #logits: Record<string, number[][]>;
  readonly #seconds: number[] = [];
  readonly #waiting: Float32Array[] = [];
  #length = 0;
  /** Seconds before the first waiting sample. */
  #offset = 0;
  #isFirst = true;

  constructor(
    readonly session: ort.InferenceSession,
    readonly metadata: Metadata,
  ) {
    this.#segments = segments(metadata);
    const heads = [["", metadata] as const, ...Object.entries(metadata.heads)];
    this.#logits = Object.fromEntries(
      heads.map(([name, { vocabulary }]) => [outputOf(name), vocabulary.map(() => [])]),
    );
  }

  async push(block: Float32Array): Promise<void> {
    this.#waiting.push(block);
    this.#length += block.length;
    if (!this.#segments) {
      const longest = MAX_WHOLE / Float32Array.BYTES_PER_ELEMENT;
      if (this.#length <= longest) return;
      const minutes = Math.floor(longest / this.metadata.sample_rate / 60);
      throw new FileError(`it is longer than ${minutes} minutes, and this model takes whole tracks: cut it`);
    }
    const { samples, step, clean } = this.#segments;
    while (this.#length > samples + this.metadata.mel.hop_length) {
      const joined = this.#joined();
      await this.#run(joined.subarray(0, samples), clean);
      this.#waiting.splice(0, Infinity, joined.slice(step));
      this.#length -= step;
    }
  }

  async finish(): Promise<Outputs> {
    await this.#run(this.#joined(), Infinity);
    const heads = Object.keys(this.metadata.heads).map((name) => [name, this.#logits[outputOf(name)]!]);
    return { logits: this.#logits[outputOf("")]!, heads: Object.fromEntries(heads), seconds: this.#seconds };
  }

  /** Runs the model on a segment, and keeps its outputs up to time step `stop`. */
  async #run(samples: Float32Array, stop: number): Promise<void> {
    const waveform = new ort.Tensor("float32", samples.slice(), [samples.length]);
    const outputs = await this.session.run({ waveform }, [...Object.keys(this.#logits), "seconds"]);
    const times = outputs.seconds!.data as Float32Array;
    const first = this.#isFirst ? 0 : this.#segments!.before;
    const last = Math.min(stop, times.length);
    for (const [name, rows] of Object.entries(this.#logits)) {
      const values = outputs[name]!.data as Float32Array;
      rows.forEach((row, tag) => {
        const start = tag * times.length;
        for (const value of values.subarray(start + first, start + last)) row.push(value); // too many for arguments
      });
    }
    for (const time of times.subarray(first, last)) this.#seconds.push(time + this.#offset);
    this.#offset += (this.#segments?.step ?? 0) / this.metadata.sample_rate;
    this.#isFirst = false;
  }

  #joined(): Float32Array {
    const joined = new Float32Array(this.#length);
    let position = 0;
    for (const block of this.#waiting) {
      joined.set(block, position);
      position += block.length;
    }
    return joined;
  }
}

/** The output of the model with the logits of a head over time; without a name, of the model itself. */
function outputOf(head: string): string {
  return `${head && `${head}/`}logits_over_time`;
}
