// FLAC files (RFC 9639): streams, without their metadata.

import { beforeTags, find, numberAt, Pieces, type Source, text } from "./bytes";
import type { Stream } from "./streams";

/** The marker, and the header of the first metadata block; as text, byte 0x80 is U+20AC. */
const BEGIN = /fLaC[\x00\u20ac]\x00\x00\x22/;
const FRAME = /\xff[\xf8\xf9]/;
/** Bytes of the marker and of the first metadata block, with its header. */
const HEAD = 42;
const MAX_STREAMS = 1_001;
const MAX_BLOCKS = 10_000;

/** The stream at `start`, and those of FLAC files that are appended to it. */
export async function flacStreams(source: Source, start: number): Promise<Stream[]> {
  const end = await beforeTags(source, start, source.size);
  const starts = [start];
  while (starts.length < MAX_STREAMS) {
    const next = await find(source, starts.at(-1)! + HEAD, end, BEGIN);
    if (next >= end) break;
    starts.push(next);
  }
  return Promise.all(starts.map((first, index) => flacStream(source, first, starts[index + 1] ?? end)));
}

/** A single stream, whatever its metadata states. */
export async function flacStream(source: Source, start: number, end: number): Promise<Stream> {
  const head = (await source.read(start, HEAD)).slice();
  if (head.length < HEAD || text(head).search(BEGIN) !== 0)
    return { format: "other", content: new Pieces(source, [[start, end]]), faults: [] };
  let position = start + HEAD;
  let isLast = head[4]! >= 0x80;
  for (let number = 0; number < MAX_BLOCKS && !isLast && position < end; number++) {
    const block = await source.read(position, 4);
    isLast = block[0]! >= 0x80;
    position += 4 + numberAt(block, 1, 3, false);
  }
  // a block may state a wrong length
  if (position >= end || text(await source.read(position, 2)).search(FRAME) !== 0)
    position = await find(source, start + HEAD, end, FRAME);
  const samples = (head[21]! & 15) * 2 ** 32 + numberAt(head, 22, 4, false);
  head[4] = 0x80;
  head[21]! &= 0xf0;
  head.fill(0, 22, 26);
  return { format: "flac", content: new Pieces(source, [head, [position, end]]), faults: [], samples };
}
