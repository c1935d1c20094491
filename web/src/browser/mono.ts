// Mixing to mono with the checks of the Python package: length, silence, and channels of opposite polarity.

import type { Block } from "./decode";

/** Energy of the mean of two channels by their mean energy, below which they are of opposite polarity. */
const OPPOSITE = 0.1;
const MIN_SECONDS = 1;
const MAX_SECONDS = 6 * 3600;
const MAX_AMPLITUDE = 64;
const MIN_AMPLITUDE = 2 ** -24;

export interface Mono {
  rate: number;
  samples: Float32Array;
  share: number;
  damaged: number;
}

/** Mixes the blocks that `decode` yields to mono; it may be called twice. */
export async function* mix(decode: () => AsyncIterable<Block>): AsyncGenerator<Mono> {
  let opposite: boolean | null = null;
  let seconds = 0;
  let [lowest, highest] = [Infinity, -Infinity];
  for await (const { rate, channels, share, damaged = 0 } of decode()) {
    if (opposite === null) {
      opposite = mayBeOpposite(channels);
      if (opposite) opposite = await isOpposite(decode());
    }
    const samples = mixBlock(channels, opposite ?? false);
    for (const sample of samples) {
      if (sample < lowest) lowest = sample;
      if (sample > highest) highest = sample;
      if (!Number.isFinite(sample)) throw new Error("it has samples that are no numbers: export it again");
    }
    if (Math.max(-lowest, highest) > MAX_AMPLITUDE) throw new Error("its samples are far too loud: export it again");
    seconds += samples.length / rate;
    if (seconds > MAX_SECONDS) throw new Error("it is longer than 6 hours: cut it");
    yield { rate, samples, share, damaged };
  }
  if (!seconds)
    throw new Error("it is not audio that can be decoded: export it again, or convert it to mp3, ogg, flac or wav");
  if (seconds < MIN_SECONDS) throw new Error(`it lasts ${seconds.toFixed(2)} s: give at least 1 s`);
  if ((highest - lowest) / 2 < MIN_AMPLITUDE) throw new Error("it is silent: check the recording");
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
