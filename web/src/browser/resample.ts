// Resampling by a windowed sinc whose response is that of soxr in high quality, which the Python package uses.

/** Share of the band below half the lower sample rate that passes, and stop-band attenuation in decibels: fitted to soxr. */
const PASSBAND = 0.9136;
const ATTENUATION = 134;
/** Phases whose weights are kept; rates without a common factor have more, and their weights are interpolated. */
const MAX_PHASES = 4_000;
/** Phases between which weights are interpolated, with errors below −120 dB. */
const TABLE = 1_024;
/** Ratio of rates from which samples are first decimated by a short filter, since a long one would take too much time. */
const DECIMATED = 4;

/** Resamples blocks of a signal; `push` returns what is complete, `finish` the rest. */
export class Resampler {
  readonly #decimation: Stage | null;
  readonly #stage: Stage;
  #count = 0;

  constructor(
    readonly from: number,
    readonly to: number,
  ) {
    const nyquist = Math.min(from, to) / 2;
    const factor = from >= DECIMATED * to ? Math.floor(from / (2 * to)) : 1;
    const between = from / factor;
    this.#decimation = factor > 1 ? new Stage(from, [factor, 1], nyquist, between - nyquist) : null;
    const divisor = greatestCommonDivisor(from, to * factor);
    this.#stage = new Stage(between, [from / divisor, (to * factor) / divisor], PASSBAND * nyquist, nyquist);
  }

  push(block: Float32Array): Float32Array {
    if (this.from === this.to) return block;
    this.#count += block.length;
    return this.#stage.push(this.#decimation ? this.#decimation.push(block) : block);
  }

  finish(): Float32Array {
    if (this.from === this.to) return new Float32Array(0);
    const before = this.#decimation?.finish() ?? new Float32Array(0);
    return this.#stage.finish(before, Math.floor((this.#count * this.to) / this.from + 0.5));
  }
}

/** A low-pass filter with another rate behind it. */
class Stage {
  readonly #step: number;
  readonly #phases: number;
  /** Samples that weights reach from their centre. */
  readonly #half: number;
  readonly #cutoff: number;
  readonly #table: Float32Array[] = [];
  #waiting: Float32Array = new Float32Array(0);
  /** Number of the first waiting sample, of all samples, and of the next sample of the output. */
  #first = 0;
  #count = 0;
  #next = 0;

  /** From `pass` to `stop`, in Hz, the response falls; of `step` samples at `rate`, `phases` are made. */
  constructor(rate: number, [step, phases]: [number, number], pass: number, stop: number) {
    this.#step = step;
    this.#phases = phases;
    this.#cutoff = (pass + stop) / rate;
    this.#half = ((ATTENUATION - 7.95) * rate) / (2 * 2.285 * 2 * Math.PI * (stop - pass));
  }

  push(block: Float32Array): Float32Array {
    this.#add(block);
    const end = this.#count - Math.ceil(this.#half) - 1;
    return this.#run(Math.max(this.#next, Math.floor((end * this.#phases) / this.#step)));
  }

  /** The rest, up to `total` samples; without a number, as long as the last samples matter. */
  finish(block: Float32Array = new Float32Array(0), total?: number): Float32Array {
    this.#add(block);
    return this.#run(total ?? Math.ceil(((this.#count + this.#half) * this.#phases) / this.#step));
  }

  #add(block: Float32Array): void {
    const start = Math.max(0, Math.floor((this.#next * this.#step) / this.#phases - this.#half) - 1 - this.#first);
    const kept = this.#waiting.subarray(Math.min(start, this.#waiting.length));
    const joined = new Float32Array(kept.length + block.length);
    joined.set(kept);
    joined.set(block, kept.length);
    this.#first += this.#waiting.length - kept.length;
    this.#waiting = joined;
    this.#count += block.length;
  }

  /** The samples of the output before number `total`. */
  #run(total: number): Float32Array {
    const output = new Float32Array(Math.max(0, total - this.#next));
    const entries = Math.min(this.#phases, this.#phases > MAX_PHASES ? TABLE : MAX_PHASES);
    const [waiting, reach] = [this.#waiting, Math.ceil(this.#half)];
    for (let index = 0; index < output.length; index++) {
      const position = (this.#next + index) * this.#step;
      const centre = Math.floor(position / this.#phases);
      const entry = ((position - centre * this.#phases) * entries) / this.#phases;
      const whole = Math.floor(entry);
      const start = centre - reach - this.#first;
      const part = entry - whole;
      const weights = this.#weights(whole, entries);
      output[index] = part
        ? interpolated(weights, this.#weights(whole + 1, entries), part, waiting, start)
        : dot(weights, waiting, start);
    }
    this.#next += output.length;
    return output;
  }

  /** Weights of the samples around a centre that is `entry / entries` after a sample. */
  #weights(entry: number, entries: number): Float32Array {
    const kept = this.#table[entry];
    if (kept) return kept;
    const reach = Math.ceil(this.#half);
    const beta = 0.1102 * (ATTENUATION - 8.7);
    const scale = this.#cutoff / bessel(beta);
    const weights = Float32Array.from({ length: 2 * reach + 2 }, (_, tap) => {
      const distance = tap - reach - entry / entries;
      const inside = 1 - (distance / this.#half) ** 2;
      return inside > 0 ? scale * sinc(this.#cutoff * distance) * bessel(beta * Math.sqrt(inside)) : 0;
    });
    return (this.#table[entry] = weights);
  }
}

/** The sum of weighted samples from `start` on; there are zeros before and after the samples. */
function dot(weights: Float32Array, samples: Float32Array, start: number): number {
  const low = Math.max(0, -start);
  const high = Math.min(weights.length, samples.length - start);
  let sum = 0;
  for (let tap = low; tap < high; tap++) sum += weights[tap]! * samples[start + tap]!;
  return sum;
}

/** The same with weights between two others. */
function interpolated(
  before: Float32Array,
  after: Float32Array,
  part: number,
  samples: Float32Array,
  start: number,
): number {
  const low = Math.max(0, -start);
  const high = Math.min(before.length, samples.length - start);
  let sum = 0;
  for (let tap = low; tap < high; tap++)
    sum += (before[tap]! + part * (after[tap]! - before[tap]!)) * samples[start + tap]!;
  return sum;
}

function sinc(x: number): number {
  return x === 0 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x);
}

/** The modified Bessel function of the first kind and order zero. */
function bessel(x: number): number {
  let sum = 1;
  for (let k = 1, term = 1; term > 1e-12 * sum; k++) {
    term *= (x / (2 * k)) ** 2;
    sum += term;
  }
  return sum;
}

function greatestCommonDivisor(one: number, other: number): number {
  return other ? greatestCommonDivisor(other, one % other) : one;
}
