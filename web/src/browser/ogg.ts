// Ogg files (RFC 3533): one stream per link of a chain, without damaged pages and other streams.

import { addRange, find, numberAt, type Piece, Pieces, type Source, text } from "./bytes";
import { flacStream } from "./flac";
import type { Format, Stream } from "./streams";

const CAPTURE = /OggS\x00/;
/** Formats by the beginning of the first packet of a stream. */
const CODECS: readonly (readonly [string, Format])[] = [
  ["\x01vorbis", "vorbis"],
  ["OpusHead", "opus"],
  ["\x7fFLAC", "flac"],
];
/** Bytes of a page before its segment table, which has up to 255 bytes. */
const HEAD = 27;
/** Bytes of the first packet of Ogg FLAC before the FLAC stream. */
const FLAC_MAPPING = 9;
/** Damaged pages after which the search ends. */
const MAX_BAD = 10_000;
const [CONTINUES, BEGINS, ENDS] = [1, 2, 4];
const CRC = Uint32Array.from({ length: 256 }, (_, index) => {
  let crc = index << 24;
  for (let bit = 0; bit < 8; bit++) crc = (crc << 1) ^ (crc & 0x80000000 ? 0x04c11db7 : 0);
  return crc;
});

interface Page {
  start: number;
  body: number;
  end: number;
  serial: number;
  flags: number;
  /** The last sample that ends on it; −1 if no packet does. */
  position: bigint;
}

/** Pages that have one serial number. */
interface Logical {
  format: Format;
  pages: Piece[];
  bodies: Piece[];
  last: Page;
  /** Position of the last page but one on which a packet ends. */
  before: bigint;
}

interface Link {
  streams: Map<number, Logical>;
  faults: string[];
}

/** One stream for each link of a chain: the first with a known codec. */
export async function oggStreams(source: Source, start: number): Promise<Stream[]> {
  const links: Link[] = [{ streams: new Map(), faults: [] }];
  let isHead = true;
  for await (const page of pages(source, start)) {
    if (typeof page === "string") {
      links.at(-1)!.faults.push(page);
      continue;
    }
    const begins = (page.flags & BEGINS) > 0;
    if (begins && !isHead) links.push({ streams: new Map(), faults: [] });
    isHead = begins;
    const { streams } = links.at(-1)!;
    const logical = streams.get(page.serial) ?? {
      format: formatOf(await source.read(page.body, 8)),
      pages: [],
      bodies: [],
      last: page,
      before: 0n,
    };
    addRange(logical.pages, page.start, page.end);
    logical.bodies.push([page.body, page.end]);
    if (logical.last.position >= 0n) logical.before = logical.last.position;
    logical.last = page;
    streams.set(page.serial, logical);
  }
  return Promise.all(links.filter(({ streams }) => streams.size).map((link) => streamOf(source, link)));
}

function formatOf(packet: Uint8Array): Format {
  return CODECS.find(([begin]) => text(packet).startsWith(begin))?.[1] ?? "other";
}

async function streamOf(source: Source, { streams, faults }: Link): Promise<Stream> {
  const logical = [...streams.values()].find(({ format }) => format !== "other") ?? [...streams.values()][0]!;
  if (logical.format === "opus") return { ...(await opusStream(source, logical)), faults };
  if (logical.format !== "flac") return { format: logical.format, content: new Pieces(source, logical.pages), faults };
  const [[first, stop], ...rest] = logical.bodies as [[number, number], ...Piece[]];
  const inside = new Pieces(source, [[first + FLAC_MAPPING, stop], ...rest]);
  return { ...(await flacStream(inside, 0, inside.size)), faults };
}

/** An Opus stream whose last page has no mark of the end: its decoder would leave out a wrong number of samples there. */
async function opusStream(source: Source, { pages, last, before }: Logical): Promise<Stream> {
  const page = (await source.read(last.start, last.end - last.start)).slice();
  page[5]! &= ~ENDS;
  const rest: Piece[] = pages.slice(0, -1);
  const [first] = pages.at(-1) as [number, number];
  if (first < last.start) rest.push([first, last.start]);
  const count = opusSamples(page);
  const isTrimmed = (last.flags & (CONTINUES | ENDS)) === ENDS && last.position > 0n;
  const surplus = isTrimmed ? count - Number(last.position - before) : 0;
  return {
    format: "opus",
    content: new Pieces(source, [...rest, page]),
    faults: [],
    surplus: surplus < count ? Math.max(0, surplus) : 0,
  };
}

/** Samples of the packets that end on a page, at 48 kHz (RFC 6716, 3.1). */
function opusSamples(page: Uint8Array): number {
  const count = page[26]!;
  let [samples, start, size] = [0, HEAD + count, 0];
  for (const segment of page.subarray(HEAD, HEAD + count)) {
    size += segment;
    if (segment === 255) continue;
    samples += packetSamples(page[start]!, page[start + 1]!);
    start += size;
    size = 0;
  }
  return samples;
}

function packetSamples(first: number, second: number): number {
  const config = first >> 3;
  const sizes = config < 12 ? [480, 960, 1920, 2880] : config < 16 ? [480, 960] : [120, 240, 480, 960];
  const frames = [1, 2, 2, second & 63][first & 3]!;
  return frames * sizes[config % sizes.length]!;
}

/** Every page, or a message about bytes that are not an intact page. */
async function* pages(source: Source, start: number): AsyncGenerator<Page | string> {
  const end = source.size;
  let bad = 0;
  while (start < end) {
    if (bad > MAX_BAD) {
      yield `the ${end - start} bytes from byte ${start} on are not Ogg pages`;
      return;
    }
    const head = await source.read(start, HEAD + 255);
    const count = head[26] ?? 0;
    const body = HEAD + count;
    const size = body + head.subarray(HEAD, body).reduce((sum, segment) => sum + segment, 0);
    if (head.length < HEAD || text(head, 0, 5).search(CAPTURE) !== 0) {
      bad += 1;
      const next = await find(source, start + 1, end, CAPTURE);
      yield `${next - start} bytes at byte ${start} are not an Ogg page`;
      start = next;
      continue;
    }
    const page = await source.read(start, size);
    if (page.length === size && isIntact(page)) {
      const view = new DataView(page.buffer, page.byteOffset, HEAD);
      const [position, serial] = [view.getBigInt64(6, true), view.getUint32(14, true)];
      yield { start, body: start + body, end: start + size, serial, flags: page[5]!, position };
      start += size;
      continue;
    }
    bad += 1;
    const next = await find(source, start + 1, end, CAPTURE);
    yield size > page.length && next === end
      ? `it is cut off in the middle of an Ogg page, at byte ${start}`
      : `the Ogg page at byte ${start} is damaged`;
    start = next;
  }
}

/** Whether the checksum of a page is correct. */
function isIntact(page: Uint8Array): boolean {
  let crc = 0;
  for (let index = 0; index < page.length; index++) {
    const byte = index >= 22 && index < 26 ? 0 : page[index]!;
    crc = (crc << 8) ^ CRC[((crc >>> 24) ^ byte) & 255]!;
  }
  return crc >>> 0 === numberAt(page, 22, 4, true);
}
