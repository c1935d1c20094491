// Bytes of files: read in windows, searched, and joined from pieces of other files.

/** Bytes that can be read anywhere. */
export interface Source {
  readonly size: number;
  /** Up to `count` bytes from `start` on, fewer only at the end. */
  read(start: number, count: number): Promise<Uint8Array>;
}

/** Given bytes, or a range of a source from its first byte to the end. */
export type Piece = Uint8Array | readonly [number, number];

const READ_AHEAD = 1 << 18;
/** Bytes of the first window of a search, and of the largest: windows grow. */
const [WINDOW, MAX_WINDOW] = [1 << 16, 1 << 20];
/** Bytes that consecutive windows of a search share. */
const OVERLAP = 16;
/** One character a byte; the same number, but for bytes of 0x80 to 0x9f. */
const LATIN = new TextDecoder("latin1");

export function text(bytes: Uint8Array, start = 0, end = bytes.length): string {
  return LATIN.decode(bytes.subarray(start, end));
}

/** A file, of which a part is kept in memory. */
export class FileSource implements Source {
  #start = 0;
  #kept = new Uint8Array(0);

  constructor(readonly file: Blob) {}

  get size(): number {
    return this.file.size;
  }

  async read(start: number, count: number): Promise<Uint8Array> {
    const end = Math.min(start + count, this.size);
    if (start < this.#start || end > this.#start + this.#kept.length) {
      const last = Math.max(end, start + READ_AHEAD);
      this.#kept = new Uint8Array(await this.file.slice(start, last).arrayBuffer());
      this.#start = start;
    }
    return this.#kept.subarray(start - this.#start, Math.max(0, end - this.#start));
  }
}

/** Pieces of a source, one after the other. */
export class Pieces implements Source {
  readonly #starts: number[] = [];
  readonly size: number;

  constructor(
    readonly source: Source,
    readonly pieces: readonly Piece[],
  ) {
    let size = 0;
    for (const piece of pieces) {
      this.#starts.push(size);
      size += lengthOf(piece);
    }
    this.size = size;
  }

  async read(start: number, count: number): Promise<Uint8Array> {
    const end = Math.min(start + count, this.size);
    const joined = new Uint8Array(Math.max(0, end - start));
    let index = this.#starts.findLastIndex((first) => first <= start);
    for (let position = start; position < end; index++) {
      const [piece, offset] = [this.pieces[index]!, position - this.#starts[index]!];
      const size = Math.min(end - position, lengthOf(piece) - offset);
      const part =
        piece instanceof Uint8Array
          ? piece.subarray(offset, offset + size)
          : await this.source.read(piece[0] + offset, size);
      joined.set(part, position - start);
      position += size;
    }
    return joined;
  }
}

export function lengthOf(piece: Piece): number {
  return piece instanceof Uint8Array ? piece.length : piece[1] - piece[0];
}

/** Adds a range to pieces; it is joined to the last one if it follows it. */
export function addRange(pieces: Piece[], start: number, end: number): void {
  const last = pieces.at(-1);
  if (last && !(last instanceof Uint8Array) && last[1] === start) pieces[pieces.length - 1] = [last[0], end];
  else pieces.push([start, end]);
}

/** The bytes from `start` to `end` in overlapping windows of growing size, each with its position. */
export async function* windows(
  source: Source,
  start: number,
  end: number,
  overlap: number,
): AsyncGenerator<[number, Uint8Array]> {
  for (let size = WINDOW; start < end; size = Math.min(2 * size, MAX_WINDOW)) {
    const window = await source.read(start, Math.min(size, end - start));
    yield [start, window];
    if (start + window.length >= end || window.length < size) return;
    start += size - overlap;
  }
}

/** The first position of a pattern of up to `OVERLAP` bytes from `start` on; `end` if there is none. */
export async function find(source: Source, start: number, end: number, pattern: RegExp): Promise<number> {
  for await (const [position, window] of windows(source, start, end, OVERLAP)) {
    const index = text(window).search(pattern);
    if (index >= 0) return position + index;
  }
  return end;
}

/** The position after tags (ID3v2) at the start. */
export async function afterTags(source: Source): Promise<number> {
  for (let start = 0; ;) {
    const head = await source.read(start, 10);
    if (head.length < 10 || text(head, 0, 3) !== "ID3" || head.subarray(6).some((byte) => byte > 127)) return start;
    const size = head.subarray(6).reduce((sum, byte) => (sum << 7) | byte, 0);
    start += 10 + size + (head[5]! & 0x10 ? 10 : 0);
  }
}

/** The position of tags (ID3v1, APE) at the end; `end` if there are none. */
export async function beforeTags(source: Source, start: number, end: number): Promise<number> {
  if (end - start > 128 && text(await source.read(end - 128, 3)) === "TAG") end -= 128;
  const foot = await source.read(Math.max(start, end - 32), 32);
  if (foot.length < 32 || text(foot, 0, 8) !== "APETAGEX") return end;
  const size = numberAt(foot, 12, 4, true) + (foot[23]! & 0x80 ? 32 : 0);
  return start < end - size ? end - size : end;
}

/** An unsigned integer; beyond 53 bits it is rounded. */
export function numberAt(bytes: Uint8Array, start: number, count: number, isLittle: boolean): number {
  const digits = bytes.subarray(start, start + count);
  return isLittle
    ? digits.reduceRight((sum, byte) => sum * 256 + byte, 0)
    : digits.reduce((sum, byte) => sum * 256 + byte, 0);
}

/** The bytes of an unsigned integer of 32 bits, the most significant first. */
export function bytesOf(value: number): number[] {
  return [value >>> 24, (value >>> 16) & 255, (value >>> 8) & 255, value & 255];
}
