// The exported model, run on segments of a track: memory does not grow with its length, and outputs equal those of the
// whole waveform.

import * as ort from "onnxruntime-web/wasm";

import type { Metadata } from "./decisions";

/** Frames of a segment; with the frames that its end adds, the graph cuts it no further. */
const FRAMES = 2_046;
/** Seconds of a track that is not cut into segments, at most. */
const MAX_WHOLE_SECONDS = 3_600;

export interface Outputs {
  /** Logits of every tag over time. */
  logits: number[][];
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
  const clean = Math.floor((FRAMES - start - field) / stride) + 1;
  if (clean <= before) return null;
  return { before, clean, samples: FRAMES * mel.hop_length, step: (clean - before) * stride * mel.hop_length };
}

/** Runs the model on a track whose samples come in blocks. */
export class TrackPredictor {
  readonly #segments: Segments | null;
  readonly #logits: number[][];
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
    this.#logits = metadata.vocabulary.map(() => []);
  }

  async push(block: Float32Array): Promise<void> {
    this.#waiting.push(block);
    this.#length += block.length;
    if (!this.#segments) {
      if (this.#length <= MAX_WHOLE_SECONDS * this.metadata.sample_rate) return;
      throw new Error("it is longer than an hour, and this model takes whole tracks: cut it");
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
    return { logits: this.#logits, seconds: this.#seconds };
  }

  /** Runs the model on a segment, and keeps its outputs up to time step `stop`. */
  async #run(samples: Float32Array, stop: number): Promise<void> {
    const waveform = new ort.Tensor("float32", samples.slice(), [samples.length]);
    const { logits_over_time: logits, seconds } = await this.session.run({ waveform }, ["logits_over_time", "seconds"]);
    const steps = seconds!.dims[0]!;
    const first = this.#isFirst ? 0 : this.#segments!.before;
    const [values, times] = [logits!.data as Float32Array, seconds!.data as Float32Array];
    this.#logits.forEach((row, tag) =>
      row.push(...values.subarray(tag * steps + first, tag * steps + Math.min(stop, steps))),
    );
    for (const time of times.subarray(first, Math.min(stop, steps))) this.#seconds.push(time + this.#offset);
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
