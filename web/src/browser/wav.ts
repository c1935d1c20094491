// WAV files (RIFF, RIFX, RF64): streams of appended files, and their samples: PCM of 8 to 32 bits and floating point.

import { numberAt, Pieces, type Source, text } from "./bytes";
import type { Block } from "./decode";
import { FileError } from "./errors";
import type { Stream } from "./streams";

const PIECE = 1 << 20;
const PCM = 1;
const FLOAT = 3;
const EXTENSIBLE = 0xfffe;
/** A size that means that the writer did not know it. */
const UNKNOWN = 2 ** 32 - 1;
/** Stated lengths from here on may be placeholders: a shorter file is not cut off. */
const PLACEHOLDER = 2 ** 31 - 2 ** 16;
/** Bytes after the data that are neither data nor chunks. */
const MAX_JUNK = 2 ** 16;
const MAX_CHUNKS = 10_000;
/** Beginning of what may follow the data: a chunk, a tag, or zeros. */
const NAME = /^([A-Za-z0-9_ \xa9]{4}|ID3|TAG|APETAGEX|\x00{8})/;

export interface WavFormat {
  encoding: number;
  channels: number;
  rate: number;
  bytes: number;
  isLittle: boolean;
}

/** The streams of appended WAV files; if a stated length is wrong, the data extends to the end. */
export async function wavStreams(source: Source, start: number): Promise<Stream[]> {
  const streams: Stream[] = [];
  const end = source.size;
  for (let next: number | null = start; next !== null;) {
    const { format, place, stated } = await readHeader(source, next);
    const isStated = await isLength(source, place, stated, end);
    const actual = isStated ? stated : end - place;
    const faults = actual < stated && stated < PLACEHOLDER ? [`it is cut off: ${actual} bytes of ${stated} exist`] : [];
    const content = new Pieces(source, [[place, place + Math.min(actual, end - place)]]);
    streams.push({ format: "wav", content, faults, wav: format });
    next = isStated ? await appended(source, place + stated) : null;
  }
  return streams;
}

/** The format of the samples, and the position of the data with its stated length. */
async function readHeader(
  source: Source,
  start: number,
): Promise<{ format: WavFormat; place: number; stated: number }> {
  const isLittle = text(await source.read(start, 4)) !== "RIFX";
  let format: WavFormat | null = null;
  let longSize: number | null = null;
  let position = start + 12;
  for (let number = 0; number < MAX_CHUNKS; number++) {
    const head = await source.read(position, 8 + 40);
    if (head.length < 8) break;
    const [name, size] = [text(head, 0, 4), numberAt(head, 4, 4, isLittle)];
    if (name === "fmt ") format = readFormat(head.slice(8, 8 + size), isLittle);
    if (name === "ds64") longSize = numberAt(head, 16, 8, true);
    if (name === "data") {
      if (!format) throw new FileError("its WAV header has no format: export it again");
      return { format, place: position + 8, stated: size === UNKNOWN ? (longSize ?? size) : size };
    }
    position += 8 + size + (size % 2);
  }
  throw new FileError("its WAV file has no samples: export it again");
}

/** The position of a WAV file that is appended to data which ends at a position; null if there is none. */
async function appended(source: Source, place: number): Promise<number | null> {
  for (const start of [place, place + (place % 2)]) {
    if (/^(RIFF|RIFX)....WAVE/s.test(text(await source.read(start, 12)))) return start;
  }
  return null;
}

/** Whether a stated length is plausible: little follows, or something that is not data. */
async function isLength(source: Source, place: number, stated: number, end: number): Promise<boolean> {
  const rest = end - place - stated;
  if (stated === 0 || stated === UNKNOWN || rest < 0) return rest === 0;
  if (rest <= MAX_JUNK) return true;
  for (const start of [place + stated, place + stated + (stated % 2)]) {
    const chunk = await source.read(start, 8);
    if (NAME.test(text(chunk)) || numberAt(chunk, 4, 4, true) <= rest - 8) return true;
  }
  return false;
}

function readFormat(chunk: Uint8Array, isLittle: boolean): WavFormat {
  const view = new DataView(new Uint8Array(40).buffer);
  new Uint8Array(view.buffer).set(chunk);
  const tag = view.getUint16(0, isLittle);
  const encoding = tag === EXTENSIBLE ? view.getUint16(24, isLittle) : tag;
  const format = {
    encoding,
    channels: view.getUint16(2, isLittle),
    rate: view.getUint32(4, isLittle),
    bytes: view.getUint16(14, isLittle) / 8,
    isLittle,
  };
  const isKnown =
    (encoding === PCM && [1, 2, 3, 4].includes(format.bytes)) || (encoding === FLOAT && [4, 8].includes(format.bytes));
  if (!isKnown || !format.channels) {
    throw new FileError(`its WAV file has samples of type ${encoding} with ${8 * format.bytes} bits: export it as PCM`);
  }
  return format;
}

export async function* decodeWav(data: Source, format: WavFormat): AsyncGenerator<Block> {
  const { channels, bytes, rate } = format;
  const frame = channels * bytes;
  const piece = Math.max(1, Math.floor(PIECE / frame)) * frame;
  for (let position = 0; position + frame <= data.size; position += piece) {
    const part = await data.read(position, piece);
    const view = new DataView(part.buffer, part.byteOffset, part.length);
    const count = Math.floor(view.byteLength / frame);
    const read = reader(format, view);
    yield {
      rate,
      share: position / data.size,
      channels: Array.from({ length: channels }, (_, channel) =>
        Float32Array.from({ length: count }, (_, index) => read((index * channels + channel) * bytes)),
      ),
    };
  }
}

function reader({ encoding, bytes, isLittle }: WavFormat, view: DataView): (offset: number) => number {
  if (encoding === FLOAT)
    return bytes === 4 ? (offset) => view.getFloat32(offset, isLittle) : (offset) => view.getFloat64(offset, isLittle);
  if (bytes === 1) return (offset) => (view.getUint8(offset) - 128) / 128;
  if (bytes === 2) return (offset) => view.getInt16(offset, isLittle) / 2 ** 15;
  if (bytes === 4) return (offset) => view.getInt32(offset, isLittle) / 2 ** 31;
  const [high, low] = isLittle ? [1, 0] : [0, 2];
  return (offset) => ((view.getInt16(offset + high, isLittle) << 8) | view.getUint8(offset + low)) / 2 ** 23;
}
