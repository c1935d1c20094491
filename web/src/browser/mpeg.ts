// MPEG audio files (MP3, MP2): streams of frames, without other bytes between them.

import { addRange, bytesOf, numberAt, type Piece, Pieces, type Source, text, windows } from "./bytes";
import type { Stream } from "./streams";

/** Consecutive frames of one kind that make a stream; noise sometimes looks like a single frame. */
const MIN_FRAMES = 3;
/** Bytes before the first frame; after more, the file is of another format. */
const MAX_OFFSET = 2 ** 20;
/** Bytes of the longest frame: layer II, 384 kbit/s, 32 kHz, padded. */
const MAX_FRAME_BYTES = 2_881;
/** Stated number of frames divided by the actual one, above which the file is considered cut off. */
const MAX_EXCESS = 1.02;
/** False frame headers after which the search ends. */
const MAX_TRIES = 100_000;
/** Interruptions of the frames after which the search ends. */
const MAX_GAPS = 10_000;
/** Beginnings of bytes between frames that are not damage. */
const TAGS = /^(TAG|APETAGEX|ID3|LYRICS)/;

/** kbit/s by version (2 also for 2.5) and layer, from index 1 on. */
const BITRATES: Record<string, number[]> = {
  "1 1": [32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448],
  "1 2": [32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384],
  "1 3": [32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320],
  "2 1": [32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256],
  "2 2": [8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160],
  "2 3": [8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160],
};
/** Sample rates by the version bits. */
const RATES: Record<number, number[]> = {
  3: [44_100, 48_000, 32_000],
  2: [22_050, 24_000, 16_000],
  0: [11_025, 12_000, 8_000],
};
/** Bytes of a frame by the second and third byte of its header; 0: not a header. */
const FRAME = Uint16Array.from({ length: 2 ** 16 }, (_, head) => frameBytes(head >> 8, head & 255));

/** 0 if the bytes are invalid, or of a free bitrate. */
function frameBytes(second: number, third: number): number {
  const [version, layer] = [(second >> 3) & 3, 4 - ((second >> 1) & 3)];
  const [bitrate, rate, padding] = [third >> 4, (third >> 2) & 3, (third >> 1) & 1];
  if (second < 0xe0 || version === 1 || layer === 4 || bitrate === 0 || bitrate === 15 || rate === 3) return 0;
  const bits = 1_000 * BITRATES[`${version === 3 ? 1 : 2} ${layer}`]![bitrate - 1]!;
  const samplesPerSecond = RATES[version]![rate]!;
  if (layer === 1) return (Math.floor((12 * bits) / samplesPerSecond) + padding) * 4;
  return Math.floor(((layer === 3 && version !== 3 ? 72 : 144) * bits) / samplesPerSecond) + padding;
}

/** Contiguous frames of one kind. */
interface Run {
  start: number;
  end: number;
  kind: number;
  frames: number;
}

interface Group {
  runs: Run[];
  faults: string[];
}

/**
 * The streams of a file; none if it is not MPEG audio, or has more than `maxStreams`.
 *
 * A stream ends where rate, layer or the number of channels change, and where an appended file begins: one with a table
 * of lengths (Xing, Info) in its first frame.
 */
export async function mpegStreams(source: Source, start: number, maxStreams: number): Promise<Stream[]> {
  const groups: Group[] = [];
  let position = start;
  for await (const run of findRuns(source, start)) {
    const last = groups.at(-1);
    const kind = last?.runs.at(-1)!.kind;
    if (last && run.frames < MIN_FRAMES && run.kind !== kind) continue; // their headers are damaged
    if (last && kind === run.kind && !hasTable(await source.read(run.start, 64))) last.runs.push(run);
    else groups.push({ runs: [run], faults: [] });
    if (groups.length > maxStreams) return [];
    const allowed = position > start ? 0 : MAX_FRAME_BYTES;
    groups.at(-1)!.faults.push(...(await gapFaults(source, position, run.start, allowed)));
    position = run.end;
  }
  groups.at(-1)?.faults.push(...(await gapFaults(source, position, source.size, MAX_FRAME_BYTES)));
  return Promise.all(groups.map((group) => streamOf(source, group)));
}

/** A message about bytes that are neither frames nor tags, if there are more than `allowed`. */
async function gapFaults(source: Source, start: number, end: number, allowed: number): Promise<string[]> {
  if (end - start <= allowed || TAGS.test(text(await source.read(start, 8)))) return [];
  return [`${end - start} bytes at byte ${start} are not MPEG frames`];
}

/** A stream with a correct table of lengths, by which its decoder trims it. */
async function streamOf(source: Source, { runs, faults }: Group): Promise<Stream> {
  const pieces: Piece[] = [];
  for (const { start, end } of runs) addRange(pieces, start, end);
  const { start } = runs[0]!;
  const [, end] = pieces[0] as [number, number];
  const count = runs.reduce((sum, { frames }) => sum + frames, 0);
  const head = (await source.read(start, 64)).slice();
  const place = dataOffset(head[1]!, head[3]!);
  if (hasTable(head) && head[place + 7]! & 1) {
    const stated = numberAt(head, place + 8, 4, false);
    if (stated > MAX_EXCESS * count)
      faults = [...faults, `it is cut off: its header counts ${stated} frames, ${count - 1} exist`];
    if (stated < count - 1) {
      head.set(bytesOf(count - 1), place + 8);
      pieces.splice(0, 1, head.subarray(0, place + 12), [start + place + 12, end]);
    }
  } else if ((head[1]! & 6) === 2) {
    const isUnusable = hasTable(head) || text(head, 36, 40) === "VBRI";
    const size = isUnusable ? FRAME[(head[1]! << 8) | head[2]!]! : 0;
    pieces.splice(0, 1, tableFrame(head, isUnusable ? count - 1 : count), [start + size, end]);
  }
  return { format: "mpeg", content: new Pieces(source, pieces), faults };
}

/** A frame of the same kind with only a table of lengths. */
function tableFrame([, second = 0, third = 0, fourth = 0]: Uint8Array, count: number): Uint8Array {
  const start = [0xff, second | 1, 0x90 | (third & 0x0c), fourth]; // without a checksum, of a middle bitrate
  const frame = new Uint8Array(FRAME[(start[1]! << 8) | start[2]!]!);
  frame.set(start);
  frame.set([...new TextEncoder().encode("Xing\0\0\0\x01"), ...bytesOf(count)], dataOffset(second, fourth));
  return frame;
}

/** Whether a frame with these first bytes has a table of lengths. */
function hasTable(head: Uint8Array): boolean {
  const place = dataOffset(head[1]!, head[3]!);
  return isTable(head, place) && head.length >= place + 8;
}

function isTable(bytes: Uint8Array, place: number): boolean {
  const name = bytes[place] === 0x58 || bytes[place] === 0x49 ? text(bytes, place, place + 4) : "";
  return name === "Xing" || name === "Info";
}

/** The offset of the data in a frame of layer III, after header and side information. */
function dataOffset(second: number, fourth: number): number {
  const isMono = fourth >= 0xc0;
  return 4 + (second & 8 ? (isMono ? 17 : 32) : isMono ? 9 : 17);
}

/** Version, layer, sample rate, bitrate of layers I and II, and mono or not, as one number. */
function kindOf(bytes: Uint8Array, position: number): number {
  const [second, third, fourth] = [bytes[position + 1]!, bytes[position + 2]!, bytes[position + 3]!];
  return ((second & 0x1e) << 8) | ((third & ((second & 6) === 2 ? 0x0c : 0xfc)) << 1) | Number(fourth >= 0xc0);
}

/** Bytes of the frame at a position; 0 if there is none. */
function frameAt(bytes: Uint8Array, position: number): number {
  if (bytes[position] !== 0xff || position + 4 > bytes.length) return 0;
  return FRAME[(bytes[position + 1]! << 8) | bytes[position + 2]!]!;
}

/** Runs of frames; a new one begins at a table of lengths. */
async function* findRuns(source: Source, start: number): AsyncGenerator<Run> {
  const end = source.size;
  const limit = start + MAX_OFFSET;
  let kind: number | null = null;
  for (let gaps = 0; gaps <= MAX_GAPS && start < end; gaps++) {
    const first = await findFirst(source, start, kind === null ? Math.min(end, limit) : end, kind);
    if (first === null) return;
    start = first + 1;
    for await (const run of runsAt(source, first)) {
      yield run;
      start = run.end;
      kind = run.kind;
    }
  }
}

/** The first frame from `start` on: others follow it, or it is the last of the file and of a known kind. */
async function findFirst(source: Source, start: number, end: number, kind: number | null): Promise<number | null> {
  const ahead = MIN_FRAMES * MAX_FRAME_BYTES;
  let tries = 0;
  for await (const [place, window] of windows(source, start, end, ahead)) {
    const isEnd = place + window.length >= end;
    const stop = isEnd ? window.length : window.length - ahead;
    for (let index = window.indexOf(0xff); index >= 0 && index < stop; index = window.indexOf(0xff, index + 1)) {
      if (!frameAt(window, index)) continue;
      if (isFirst(window, index, kind, isEnd)) return place + index;
      tries += 1;
    }
    if (tries > MAX_TRIES) return null;
  }
  return null;
}

/** Whether `MIN_FRAMES` frames of one kind begin at a position. */
function isFirst(window: Uint8Array, position: number, kind: number | null, isEnd: boolean): boolean {
  let own: number | null = null;
  for (let number = 0; number < MIN_FRAMES; number++) {
    const size = frameAt(window, position);
    if (!size)
      return own !== null && own === kind && isEnd && window.length - 4 <= position && position <= window.length;
    if (own !== null && kindOf(window, position) !== own) return false;
    own = kindOf(window, position);
    position += size;
  }
  return true;
}

/** Contiguous frames from `start` on, split where their kind changes or a file begins. */
async function* runsAt(source: Source, start: number): AsyncGenerator<Run> {
  const end = source.size;
  let [position, frames, begin, kind] = [start, 0, start, -1];
  for await (const [base, window] of windows(source, start, end, MAX_FRAME_BYTES)) {
    const isEnd = base + window.length >= end;
    let isOver = isEnd;
    let offset = position - base;
    while (offset + MAX_FRAME_BYTES <= window.length || (isEnd && offset + 4 <= window.length)) {
      const size = frameAt(window, offset);
      if (!size || base + offset + size > end) {
        isOver = true;
        break;
      }
      const own = kindOf(window, offset);
      if (own !== kind || isTable(window, offset + dataOffset(window[offset + 1]!, window[offset + 3]!))) {
        if (frames) yield { start: begin, end: base + offset, kind, frames };
        [begin, frames, kind] = [base + offset, 0, own];
      }
      offset += size;
      frames += 1;
    }
    position = base + offset;
    if (isOver) break;
  }
  if (frames) yield { start: begin, end: position, kind, frames };
}
