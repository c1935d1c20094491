// Mixing to mono with the checks of the Python package (`audio.py`): rate, length, silence, and channels of opposite polarity.

import type { Block, Warn } from "./decode";
import { FileError } from "./errors";

/** Energy of the mean of two channels by their mean energy, below which they are of opposite polarity. */
const OPPOSITE = 0.1;
const MIN_SECONDS = 1;
const MAX_SECONDS = 6 * 3600;
const [MIN_RATE, MAX_RATE] = [1_000, 768_000];
const MAX_AMPLITUDE = 64;
const MIN_AMPLITUDE = 2 ** -24;
/** Standard deviation of samples by their mean, below which they are a constant with the ripple of a codec. */
const MAX_CONSTANT_STD = 0.05;
/** Largest variance of such a ripple. */
const MAX_RIPPLE = 5e-5;

export interface Mono {
  rate: number;
  samples: Float32Array;
  share: number;
}

/** Mixes the blocks that `decode` yields to mono; it may be called twice. */
export async function* mix(decode: (warn: Warn) => AsyncIterable<Block>, warn: Warn): AsyncGenerator<Mono> {
  let opposite: boolean | null = null;
  let seconds = 0;
  let [lowest, highest] = [Infinity, -Infinity];
  let [count, total, squares, stereo] = [0, 0, 0, 0];
  for await (const { rate, channels, share } of decode(warn)) {
    if (opposite === null) {
      opposite = mayBeOpposite(channels);
      if (opposite) opposite = await isOpposite(decode(() => undefined));
    }
    if (rate < MIN_RATE || rate > MAX_RATE)
      throw new FileError(`it has ${rate} samples per second: export it again, at 44100 for instance`);
    const samples = mixBlock(channels, opposite ?? false);
    for (const sample of samples) {
      if (sample < lowest) lowest = sample;
      if (sample > highest) highest = sample;
      total += sample;
      squares += sample * sample;
      if (!Number.isFinite(sample)) throw new FileError("it has samples that are no numbers: export it again");
    }
    if (Math.max(-lowest, highest) > MAX_AMPLITUDE)
      throw new FileError("its samples are far too loud: export it again");
    count += samples.length;
    if (channels.length === 2) stereo += energies(channels)[1];
    seconds += samples.length / rate;
    if (seconds > MAX_SECONDS) throw new FileError("it is longer than 6 hours: cut it");
    yield { rate, samples, share };
  }
  if (!seconds)
    throw new FileError("it is not audio that can be decoded: export it again, or convert it to mp3, ogg, flac or wav");
  if (seconds < MIN_SECONDS) throw new FileError(`it lasts ${seconds.toFixed(2)} s: give at least 1 s`);
  const mean = total / count;
  const variance = squares / count - mean ** 2;
  if ((highest - lowest) / 2 < MIN_AMPLITUDE || variance < Math.min((MAX_CONSTANT_STD * mean) ** 2, MAX_RIPPLE))
    throw new FileError("it is silent, or one constant value, once its channels are averaged: check the recording");
  if (squares < OPPOSITE * stereo) {
    const share = Number(((100 * squares) / stereo).toPrecision(2));
    warn(`its channels cancel each other: their mean has ${share} % of their energy`);
  }
}

/** Whether two channels of a block may be of opposite polarity; null if it is silent. */
function mayBeOpposite(channels: Float32Array[]): boolean | null {
  if (channels.length !== 2) return false;
  const [mean, whole] = energies(channels);
  return whole ? mean < 2 * OPPOSITE * whole : null;
}

async function isOpposite(decoded: AsyncIterable<Block>): Promise<boolean> {
  let [mean, whole] = [0, 0];
  for await (const { channels } of decoded) {
    if (channels.length !== 2) return false;
    const [ofMean, ofBlock] = energies(channels);
    mean += ofMean;
    whole += ofBlock;
  }
  return mean < OPPOSITE * whole;
}

/** The energy of the mean of two channels, and their mean energy. */
function energies([left, right]: Float32Array[]): [number, number] {
  let [mean, whole] = [0, 0];
  for (let index = 0; index < left!.length; index++) {
    const [one, other] = [left![index]!, right![index]!];
    mean += ((one + other) / 2) ** 2;
    whole += (one * one + other * other) / 2;
  }
  return [mean, whole];
}

function mixBlock(channels: Float32Array[], opposite: boolean): Float32Array {
  const mono = channels[0]!.slice();
  for (const channel of channels.slice(1)) {
    for (let index = 0; index < mono.length; index++) mono[index]! += opposite ? -channel[index]! : channel[index]!;
  }
  if (channels.length > 1) for (let index = 0; index < mono.length; index++) mono[index]! /= channels.length;
  return mono;
}
