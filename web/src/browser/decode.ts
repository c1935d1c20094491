// Decoding of files piece by piece, in constant memory; formats without a decoder here are left to the browser.

import { FLACDecoder } from "@wasm-audio-decoders/flac";
import { OggVorbisDecoder } from "@wasm-audio-decoders/ogg-vorbis";
import { MPEGDecoder } from "mpg123-decoder";
import { OggOpusDecoder } from "ogg-opus-decoder";

import { FileSource } from "./bytes";
import { FileError } from "./errors";
import { findStreams, type Format, type Stream } from "./streams";
import { decodeWav } from "./wav";

export interface Block {
  rate: number;
  /** Samples of every channel, nominally in −1 … 1. */
  channels: Float32Array[];
  /** Share of the file that was read before. */
  share: number;
}

/** Is given a description of each damaged part that is left out. */
export type Warn = (fault: string) => void;

/** Decodes a whole file by means of the browser, outside of the worker. */
export type DecodeByBrowser = (file: Blob) => Promise<Omit<Block, "share">>;

type Coded = Exclude<Format, "wav" | "other">;

interface Decoded {
  channelData: Float32Array[];
  samplesDecoded: number;
  sampleRate: number;
  errors: { message: string }[];
}

interface Decoder {
  ready: Promise<void>;
  decode(bytes: Uint8Array): Decoded | Promise<Decoded>;
  flush?(): Promise<Decoded>;
  free(): void;
}

const DECODERS: Record<Coded, () => Decoder> = {
  flac: () => new FLACDecoder(),
  mpeg: () => new MPEGDecoder(),
  vorbis: () => new OggVorbisDecoder(),
  opus: () => new OggOpusDecoder(),
};
const PIECE = 1 << 18;
/** Bytes of a file that the browser may decode at once: its samples take ten times as much, or more. */
const MAX_WHOLE = 100 * 2 ** 20;
/** Damaged parts of a stream that are listed one by one. */
const MAX_FAULTS = 5;
/** Amplitude at which damaged frames are clipped, so that the rest of the file can be used. */
const MAX_AMPLITUDE = 16;
/** Samples that one byte of a file may decode to; more is an error of a decoder. */
const MAX_SAMPLES_PER_BYTE = 2_000;

/** Decodes the streams of a file; damaged parts are left out, and what follows them is decoded. */
export async function* decode(file: Blob, byBrowser: DecodeByBrowser, warn: Warn): AsyncGenerator<Block> {
  const streams = await findStreams(new FileSource(file));
  const size = streams.reduce((sum, { content }) => sum + content.size, 0);
  let [read, count] = [0, 0];
  for (const stream of streams) {
    const before = count;
    for (const fault of stream.faults.slice(0, MAX_FAULTS)) warn(fault);
    const more = stream.faults.length - MAX_FAULTS;
    if (more > 0) warn(`${more} more such parts are damaged`);
    const blocks =
      stream.format !== "other" ? decodeStream(stream, warn) : streams.length === 1 ? decodeWhole(file, byBrowser) : []; // the browser decodes only the first stream of a file
    for await (const block of blocks) {
      count += block.channels[0]!.length;
      if (count > MAX_SAMPLES_PER_BYTE * file.size)
        throw new FileError(`it decodes to ${count} samples or more, impossible for its size: export it again`);
      yield { ...block, share: (read + block.share * stream.content.size) / size };
    }
    read += stream.content.size;
    if (count === before && streams.length > 1) warn("a stream in it cannot be decoded");
  }
}

async function* decodeWhole(file: Blob, byBrowser: DecodeByBrowser): AsyncGenerator<Block> {
  if (file.size > MAX_WHOLE) {
    throw new FileError(
      "it has a format that is decoded as a whole, and is too long for that: cut it, or convert it to mp3, ogg or flac",
    );
  }
  yield { ...(await byBrowser(file)), share: 0 };
}

async function* decodeStream(stream: Stream, warn: Warn): AsyncGenerator<Block> {
  const { format, content, wav, samples: stated = 0, surplus = 0 } = stream;
  if (wav) {
    yield* decodeWav(content, wav);
    return;
  }
  const lost: string[] = [];
  let count = 0;
  for await (const block of withoutEnd(surplus, decodePieces(stream, format as Coded, lost))) {
    count += block.channels[0]!.length;
    yield block;
  }
  if (count < stated) warn(`it is damaged: ${grouped(count)} samples of ${grouped(stated)} can be decoded`);
  else if (lost.length) warn(`${lost.length} damaged packet${lost.length > 1 ? "s" : ""} (${lost[0]})`);
}

async function* decodePieces({ content }: Stream, format: Coded, lost: string[]): AsyncGenerator<Block> {
  const decoder = DECODERS[format]();
  const block = ({ channelData, sampleRate, errors }: Decoded, share: number): Block => {
    lost.push(...errors.map(({ message }) => message));
    if (format === "mpeg") channelData.forEach(clip);
    return { rate: sampleRate, channels: channelData, share };
  };
  try {
    await decoder.ready;
    for (let position = 0; position < content.size; position += PIECE) {
      const decoded = await decoder.decode(await content.read(position, PIECE));
      if (decoded.samplesDecoded > 0) yield block(decoded, position / content.size);
    }
    const decoded = await decoder.flush?.();
    if (decoded && decoded.samplesDecoded > 0) yield block(decoded, 1);
  } finally {
    decoder.free();
  }
}

function clip(samples: Float32Array): void {
  for (let index = 0; index < samples.length; index++)
    if (Math.abs(samples[index]!) > MAX_AMPLITUDE) samples[index] = Math.sign(samples[index]!) * MAX_AMPLITUDE;
}

/** Leaves out the last samples. */
async function* withoutEnd(count: number, blocks: AsyncIterable<Block>): AsyncGenerator<Block> {
  const waiting: Block[] = [];
  const lengthOf = (some: readonly Block[]) => some.reduce((sum, { channels }) => sum + channels[0]!.length, 0);
  for await (const block of blocks) {
    waiting.push(block);
    while (waiting.length && lengthOf(waiting.slice(1)) >= count) yield waiting.shift()!;
  }
  let kept = lengthOf(waiting) - count;
  for (const block of waiting) {
    if (kept > 0) yield { ...block, channels: block.channels.map((channel) => channel.subarray(0, kept)) };
    kept -= block.channels[0]!.length;
  }
}

/** A number with commas between its thousands. */
function grouped(value: number): string {
  return value.toLocaleString("en-US");
}
