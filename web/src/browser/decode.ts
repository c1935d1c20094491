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
}

/** Decodes a whole file by means of the browser, outside of the worker. */
export type DecodeByBrowser = (file: Blob) => Promise<Omit<Block, "share">>;

type Format = "wav" | "flac" | "mpeg" | "vorbis" | "opus";

interface Decoded {
  channelData: Float32Array[];
  samplesDecoded: number;
  sampleRate: number;
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
const PIECE = 1 << 18;
const HEAD = 1 << 12;
/** Samples by which a decoder of MPEG audio, layer III, is late. */
const DECODER_DELAY = 529;
/** Bytes of a file that the browser may decode at once: its samples take ten times as much, or more. */
const MAX_WHOLE = 100 * 2 ** 20;

export async function* decode(file: Blob, byBrowser: DecodeByBrowser): AsyncGenerator<Block> {
  const start = await tagEnd(file);
  const head = new Uint8Array(await file.slice(start, start + HEAD).arrayBuffer());
  const format = detect(head);
  if (format === "wav") yield* decodeWav(file);
  else if (format) yield* skip(format === "mpeg" ? surplus(head) : 0, decodePieces(file, start, DECODERS[format]()));
  else if (file.size > MAX_WHOLE) {
    throw new Error("it has a format that is decoded as a whole, and is too long for that: cut it, or convert it to mp3, ogg or flac");
  } else yield { ...(await byBrowser(file)), share: 0 };
}

/** The format of a file by its first bytes; undefined for one without a decoder here. */
function detect(head: Uint8Array): Format | undefined {
  const text = String.fromCharCode(...head);
  if (text.startsWith("RIFF") && text.slice(8, 12) === "WAVE") return "wav";
  if (text.startsWith("fLaC")) return "flac";
  if (text.startsWith("OggS")) {
    return text.includes("OpusHead") ? "opus" : text.includes("\x01vorbis") ? "vorbis" : text.includes("\x7fFLAC") ? "flac" : undefined;
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
  const place = 4 + (second & 8 ? (isMono ? 17 : 32) : (isMono ? 9 : 17));
  const table = String.fromCharCode(...head.subarray(place, place + 4));
  return (second & 6) === 2 && table !== "Xing" && table !== "Info" ? DECODER_DELAY : 0;
}

/** Where the tags (ID3v2) before the audio end. */
async function tagEnd(file: Blob): Promise<number> {
  for (let start = 0; ;) {
    const head = new Uint8Array(await file.slice(start, start + 10).arrayBuffer());
    if (head.length < 10 || String.fromCharCode(...head.subarray(0, 3)) !== "ID3") return start;
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

async function* decodePieces(file: Blob, start: number, decoder: Decoder): AsyncGenerator<Block> {
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

function* blocks({ channelData, samplesDecoded, sampleRate }: Decoded, share: number): Generator<Block> {
  if (samplesDecoded) yield { rate: sampleRate, channels: channelData, share };
}
