// Decoding of files piece by piece, in constant memory; formats without a decoder here are left to the browser.

import { FLACDecoder } from "@wasm-audio-decoders/flac";
import { OggVorbisDecoder } from "@wasm-audio-decoders/ogg-vorbis";
import { MPEGDecoder } from "mpg123-decoder";
import { OggOpusDecoder } from "ogg-opus-decoder";

import { decodeWav } from "./wav";

export interface Block {
  rate: number;
  /** Samples of every channel, nominally in −1 … 1. */
  channels: Float32Array[];
  /** Share of the file that was read before. */
  share: number;
  /** Number of damaged parts that were left out before; none if it is missing. */
  damaged?: number;
}

/** Decodes a whole file by means of the browser, outside of the worker. */
export type DecodeByBrowser = (file: Blob) => Promise<Omit<Block, "share">>;

type Format = "wav" | "flac" | "mpeg" | "vorbis" | "opus";

interface Decoded {
  channelData: Float32Array[];
  samplesDecoded: number;
  sampleRate: number;
  errors: unknown[];
}

interface Decoder {
  ready: Promise<void>;
  decode(bytes: Uint8Array): Decoded | Promise<Decoded>;
  flush?(): Promise<Decoded>;
  free(): void;
}

const DECODERS: Record<Exclude<Format, "wav">, () => Decoder> = {
  flac: () => new FLACDecoder(),
  mpeg: () => new MPEGDecoder(),
  vorbis: () => new OggVorbisDecoder(),
  opus: () => new OggOpusDecoder(),
};
/** One character a byte. */
const LATIN = new TextDecoder("latin1");
const PIECE = 1 << 18;
const HEAD = 1 << 12;
/** Bytes of the largest page of Ogg. */
const MAX_PAGE = 65_307;
/** Share of the samples that a file states, below which it is damaged. */
const MIN_SHARE = 0.995;
/** Samples by which a decoder of MPEG audio, layer III, is late. */
const DECODER_DELAY = 529;
/** Bytes of a file that the browser may decode at once: its samples take ten times as much, or more. */
const MAX_WHOLE = 100 * 2 ** 20;

export async function* decode(file: Blob, byBrowser: DecodeByBrowser): AsyncGenerator<Block> {
  const start = await tagEnd(file);
  const head = new Uint8Array(await file.slice(start, start + HEAD).arrayBuffer());
  const format = detect(head);
  if (format === "wav") yield* decodeWav(file.slice(start));
  else if (format === "mpeg") yield* skip(surplus(head), decodePieces(file, start, format));
  else if (format) yield* check(await statedSamples(file, head), decodePieces(file, start, format));
  else if (file.size > MAX_WHOLE) {
    throw new Error(
      "it has a format that is decoded as a whole, and is too long for that: cut it, or convert it to mp3, ogg or flac",
    );
  } else yield { ...(await byBrowser(file)), share: 0 };
}

/** The format of a file by its first bytes; undefined for one without a decoder here. */
function detect(head: Uint8Array): Format | undefined {
  const text = LATIN.decode(head);
  if (text.startsWith("RIFF") && text.slice(8, 12) === "WAVE") return "wav";
  if (text.startsWith("fLaC")) return "flac";
  if (text.startsWith("OggS")) {
    return text.includes("OpusHead")
      ? "opus"
      : text.includes("\x01vorbis")
        ? "vorbis"
        : text.includes("\x7fFLAC")
          ? "flac"
          : undefined;
  }
  return isMpegFrame(head) ? "mpeg" : undefined;
}

/** Whether the first bytes are a frame header of MPEG audio, layer I to III; AAC has layer 0. */
function isMpegFrame([first = 0, second = 0, third = 0]: Uint8Array): boolean {
  const [version, layer, bitrate, rate] = [(second >> 3) & 3, (second >> 1) & 3, third >> 4, (third >> 2) & 3];
  return first === 0xff && second >> 5 === 7 && version !== 1 && layer !== 0 && bitrate !== 15 && rate !== 3;
}

/** Samples that the decoder adds before a layer III stream: where there is no table of lengths, it does not know. */
function surplus(head: Uint8Array): number {
  const [, second = 0, , fourth = 0] = head;
  const isMono = fourth >= 0xc0;
  const place = 4 + (second & 8 ? (isMono ? 17 : 32) : isMono ? 9 : 17);
  const table = LATIN.decode(head.subarray(place, place + 4));
  return (second & 6) === 2 && table !== "Xing" && table !== "Info" ? DECODER_DELAY : 0;
}

/** Where the tags (ID3v2) before the audio end. */
async function tagEnd(file: Blob): Promise<number> {
  for (let start = 0; ;) {
    const head = new Uint8Array(await file.slice(start, start + 10).arrayBuffer());
    if (head.length < 10 || LATIN.decode(head.subarray(0, 3)) !== "ID3") return start;
    start += 10 + head.subarray(6).reduce((size, byte) => (size << 7) | (byte & 127), 0);
  }
}

/** Leaves out the first samples. */
async function* skip(count: number, blocks: AsyncIterable<Block>): AsyncGenerator<Block> {
  for await (const block of blocks) {
    yield count ? { ...block, channels: block.channels.map((channel) => channel.subarray(count)) } : block;
    count = Math.max(0, count - block.channels[0]!.length);
  }
}

async function* decodePieces(file: Blob, start: number, format: keyof typeof DECODERS): AsyncGenerator<Block> {
  const decoder = DECODERS[format]();
  try {
    await decoder.ready;
    for (let position = start; position < file.size; position += PIECE) {
      const bytes = new Uint8Array(await file.slice(position, position + PIECE).arrayBuffer());
      yield* blocks(await decoder.decode(bytes), position / file.size);
    }
    if (decoder.flush) yield* blocks(await decoder.flush(), 1);
  } finally {
    decoder.free();
  }
}

function* blocks({ channelData, samplesDecoded, sampleRate, errors }: Decoded, share: number): Generator<Block> {
  if (samplesDecoded) yield { rate: sampleRate, channels: channelData, share, damaged: errors.length };
}

/** Ends with a block without samples that reports damage if there were clearly fewer samples than the file states. */
async function* check(stated: number, blocks: AsyncIterable<Block>): AsyncGenerator<Block> {
  let count = 0;
  let last: Block | null = null;
  for await (last of blocks) {
    count += last.channels[0]!.length;
    yield last;
  }
  if (last && count < MIN_SHARE * stated)
    yield { ...last, share: 1, damaged: 1, channels: last.channels.map(() => new Float32Array(0)) };
}

/** The number of samples that a file states: in the header of FLAC, or in its last page of Ogg; 0 if that is unknown. */
async function statedSamples(file: Blob, head: Uint8Array): Promise<number> {
  const text = LATIN.decode(head.subarray(0, 4));
  const view = new DataView(head.buffer);
  if (text === "fLaC" && head.length >= 26) return (head[21]! & 15) * 2 ** 32 + view.getUint32(22);
  if (text !== "OggS") return 0;
  const tail = await file.slice(-MAX_PAGE).arrayBuffer();
  const start = LATIN.decode(tail).lastIndexOf("OggS");
  if (start < 0 || start + 14 > tail.byteLength) return 0;
  const granule = new DataView(tail).getBigInt64(start + 6, true);
  return granule > 0 && granule < Number.MAX_SAFE_INTEGER ? Number(granule) : 0;
}
