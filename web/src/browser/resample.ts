// Resampling by a windowed sinc whose response is that of soxr in high quality, which the Python package uses.

/** Share of the band below half the lower sample rate that passes, and stop-band attenuation in decibels: fitted to soxr. */
const PASSBAND = 0.9136;
const ATTENUATION = 134;
/** Phases that are kept in a table; rates without a common factor have more, and their weights are computed each time. */
const MAX_PHASES = 4_000;

/** Resamples blocks of a signal; `push` returns what is complete, `finish` the rest. */
export class Resampler {
  readonly #step: number;
  readonly #phases: number;
  readonly #half: number;
  readonly #cutoff: number;
  readonly #table: Float32Array[] = [];
  #waiting = new Float32Array(0);
  /** Number of the first waiting sample, of all samples, and of the next sample of the output. */
  #first = 0;
  #count = 0;
  #next = 0;

  constructor(
    readonly from: number,
    readonly to: number,
  ) {
    const divisor = greatestCommonDivisor(from, to);
    this.#phases = to / divisor;
    this.#step = from / divisor;
    const nyquist = Math.min(from, to) / 2;
    const transition = (1 - PASSBAND) * nyquist;
    this.#cutoff = (2 * (nyquist - transition / 2)) / from;
    this.#half = ((ATTENUATION - 7.95) * from) / (2 * 2.285 * 2 * Math.PI * transition);
  }

  push(block: Float32Array): Float32Array {
    if (this.from === this.to) return block;
    this.#add(block);
    return this.#run(this.#count - Math.ceil(this.#half) - 1);
  }

  finish(): Float32Array {
    if (this.from === this.to) return new Float32Array(0);
    return this.#run(Infinity);
  }

  #add(block: Float32Array): void {
    const start = Math.max(0, Math.floor((this.#next * this.#step) / this.#phases - this.#half) - this.#first);
    const kept = this.#waiting.subarray(Math.min(start, this.#waiting.length));
    const joined = new Float32Array(kept.length + block.length);
    joined.set(kept);
    joined.set(block, kept.length);
    this.#first += this.#waiting.length - kept.length;
    this.#waiting = joined;
    this.#count += block.length;
  }

  /** The samples of the output whose centre is before sample `end` of the input, or all if it is infinite. */
  #run(end: number): Float32Array {
    const total =
      end === Infinity
        ? Math.floor((this.#count * this.to) / this.from + 0.5)
        : Math.max(this.#next, Math.floor((end * this.#phases) / this.#step));
    const output = new Float32Array(total - this.#next);
    for (let index = 0; index < output.length; index++) {
      const position = (this.#next + index) * this.#step;
      const centre = Math.floor(position / this.#phases);
      const weights = this.#weights(position - centre * this.#phases);
      const start = centre - ((weights.length - 2) >> 1) - this.#first;
      let sum = 0;
      const low = Math.max(0, -start);
      const high = Math.min(weights.length, this.#waiting.length - start);
      for (let tap = low; tap < high; tap++) sum += weights[tap]! * this.#waiting[start + tap]!;
      output[index] = sum;
    }
    this.#next = Math.max(this.#next, total);
    return output;
  }

  /** Weights of the samples around a centre that is a `phase` after a sample. */
  #weights(phase: number): Float32Array {
    const kept = this.#table[phase];
    if (kept) return kept;
    const reach = Math.ceil(this.#half);
    const beta = 0.1102 * (ATTENUATION - 8.7);
    const scale = this.#cutoff / bessel(beta);
    const weights = new Float32Array(2 * reach + 2);
    for (let tap = 0; tap < weights.length; tap++) {
      const distance = tap - reach - phase / this.#phases;
      const inside = 1 - (distance / this.#half) ** 2;
      weights[tap] = inside > 0 ? scale * sinc(this.#cutoff * distance) * bessel(beta * Math.sqrt(inside)) : 0;
    }
    if (this.#phases <= MAX_PHASES) this.#table[phase] = weights;
    return weights;
  }
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
