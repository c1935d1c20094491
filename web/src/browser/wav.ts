// WAV files: PCM of 8 to 32 bits and floating point, read piece by piece.

import type { Block } from "./decode";

const PIECE = 1 << 20;
const PCM = 1;
const FLOAT = 3;
const EXTENSIBLE = 0xfffe;
/** A size that means that the writer did not know it. */
const UNKNOWN = 0xffffffff;

interface Format {
  encoding: number;
  channels: number;
  rate: number;
  bytes: number;
}

export async function* decodeWav(file: Blob): AsyncGenerator<Block> {
  let format: Format | null = null;
  for (let position = 12; position + 8 <= file.size;) {
    const head = new DataView(await file.slice(position, position + 8).arrayBuffer());
    const size = head.getUint32(4, true);
    const name = String.fromCharCode(...new Uint8Array(head.buffer, 0, 4));
    if (name === "fmt ")
      format = readFormat(
        new DataView(await file.slice(position + 8, position + 8 + Math.min(size, 40)).arrayBuffer()),
      );
    if (name === "data") {
      if (!format) throw new Error("its WAV header has no format: export it again");
      const end = size === 0 || size === UNKNOWN ? file.size : Math.min(file.size, position + 8 + size);
      yield* samples(file, position + 8, end, format);
      return;
    }
    position += 8 + size + (size % 2);
  }
  throw new Error("its WAV file has no samples: export it again");
}

function readFormat(view: DataView): Format {
  const tag = view.getUint16(0, true);
  const encoding = tag === EXTENSIBLE && view.byteLength >= 26 ? view.getUint16(24, true) : tag;
  const format = {
    encoding,
    channels: view.getUint16(2, true),
    rate: view.getUint32(4, true),
    bytes: view.getUint16(14, true) / 8,
  };
  const isKnown =
    (encoding === PCM && [1, 2, 3, 4].includes(format.bytes)) || (encoding === FLOAT && [4, 8].includes(format.bytes));
  if (!isKnown || !format.channels) {
    throw new Error(`its WAV file has samples of type ${encoding} with ${8 * format.bytes} bits: export it as PCM`);
  }
  return format;
}

async function* samples(file: Blob, start: number, end: number, format: Format): AsyncGenerator<Block> {
  const { channels, bytes, rate } = format;
  const frame = channels * bytes;
  const piece = Math.floor(PIECE / frame) * frame;
  for (let position = start; position + frame <= end; position += piece) {
    const view = new DataView(await file.slice(position, Math.min(position + piece, end)).arrayBuffer());
    const count = Math.floor(view.byteLength / frame);
    const read = reader(format, view);
    yield {
      rate,
      share: position / file.size,
      channels: Array.from({ length: channels }, (_, channel) =>
        Float32Array.from({ length: count }, (_, index) => read((index * channels + channel) * bytes)),
      ),
    };
  }
}

function reader({ encoding, bytes }: Format, view: DataView): (offset: number) => number {
  if (encoding === FLOAT)
    return bytes === 4 ? (offset) => view.getFloat32(offset, true) : (offset) => view.getFloat64(offset, true);
  if (bytes === 1) return (offset) => (view.getUint8(offset) - 128) / 128;
  if (bytes === 2) return (offset) => view.getInt16(offset, true) / 2 ** 15;
  if (bytes === 3) return (offset) => ((view.getInt16(offset + 1, true) << 8) | view.getUint8(offset)) / 2 ** 23;
  return (offset) => view.getInt32(offset, true) / 2 ** 31;
}
