// The files of the *Drop* view: tagged one after the other, cancelled, saved.

import { batch, computed, type Signal, signal } from "@preact/signals";

import { release } from "./player";
import type { Progress, Tagged, Tagger } from "./tagger";

export interface Item {
  id: number;
  file: File;
  /** Address of the file for the audio element. */
  url: string;
  state: "waiting" | "tagging" | "done" | "failed";
  progress: Progress | null;
  tagged: Tagged | null;
  error: string;
}

/** A file whose state changes; only its own part of the page follows. */
export type Entry = Signal<Item>;

export class Queue {
  readonly entries = signal<readonly Entry[]>([]);
  /** Names of files that were left out, since they are no audio. */
  readonly leftOut = signal<readonly string[]>([]);
  /** Which dropped files and folders were left out, since they cannot be read, and why. */
  readonly problem = signal("");
  readonly counts = computed(() => {
    const counts = { waiting: 0, tagging: 0, done: 0, failed: 0 };
    for (const { value } of this.entries.value) counts[value.state] += 1;
    return counts;
  });
  /** Seconds until all files are tagged; null if nothing is known or to do. */
  readonly secondsLeft = signal<number | null>(null);
  #next = 0;
  #running: AbortController | null = null;
  /** Bytes and seconds of what has been tagged, for the time left. */
  #bytes = 0;
  #seconds = 0;

  constructor(readonly tagger: Tagger) {}

  /** Adds what was dropped; to be called while the event is handled. */
  async addDropped(transfer: DataTransfer): Promise<void> {
    const { files, unreadable } = await droppedFiles(transfer);
    this.add(files);
    const some = unreadable.slice(0, 3).join(", ") + (unreadable.length > 3 ? ", …" : "");
    this.problem.value = some && `Left out, since it cannot be read: ${some}`;
  }

  add(files: readonly File[]): void {
    const music = files.filter(isAudio);
    const entries = music.map((file) =>
      signal<Item>({
        id: this.#next++,
        file,
        url: URL.createObjectURL(file),
        state: "waiting",
        progress: null,
        tagged: null,
        error: "",
      }),
    );
    batch(() => {
      this.entries.value = [...this.entries.value, ...entries];
      this.leftOut.value = files.filter((file) => !isAudio(file)).map(({ name }) => name);
    });
    if (!this.#running) void this.#run();
  }

  /** Stops, and removes the files that are not tagged yet. */
  cancel(): void {
    this.#running?.abort();
    this.#remove(({ state }) => state === "waiting" || state === "tagging");
  }

  remove(entry: Entry): void {
    this.#remove(({ id, state }) => id === entry.value.id && state !== "tagging");
  }

  clear(): void {
    this.cancel();
    this.#remove(() => true);
    this.leftOut.value = [];
    this.problem.value = "";
  }

  retry(entry: Entry): void {
    change(entry, { state: "waiting", error: "" });
    if (!this.#running) void this.#run();
  }

  async #run(): Promise<void> {
    const { signal } = (this.#running = new AbortController());
    for (let entry = this.#first(); entry && !signal.aborted; entry = this.#first()) await this.#tag(entry, signal);
    if (this.#running.signal !== signal) return;
    this.#running = null;
    this.secondsLeft.value = null;
    if (this.#first()) void this.#run();
  }

  async #tag(entry: Entry, signal: AbortSignal): Promise<void> {
    const { file } = entry.peek();
    const began = performance.now();
    change(entry, { state: "tagging" });
    try {
      const tagged = await this.tagger.tag(file, { signal, onProgress: (progress) => change(entry, { progress }) });
      change(entry, { state: "done", tagged });
    } catch (error) {
      if (signal.aborted) return;
      change(entry, { state: "failed", error: (error as Error).message });
    }
    this.#bytes += file.size;
    this.#seconds += (performance.now() - began) / 1000;
    const waiting = this.entries
      .peek()
      .map((other) => other.peek())
      .filter(({ state }) => state === "waiting");
    const left = waiting.reduce((sum, item) => sum + item.file.size, 0);
    this.secondsLeft.value = left && this.#bytes ? (left * this.#seconds) / this.#bytes : null;
  }

  #first(): Entry | undefined {
    return this.entries.peek().find((entry) => entry.peek().state === "waiting");
  }

  #remove(isGone: (item: Item) => boolean): void {
    const gone = this.entries.peek().filter((entry) => isGone(entry.peek()));
    this.entries.value = this.entries.peek().filter((entry) => !gone.includes(entry));
    for (const entry of gone) {
      const { id, url } = entry.peek();
      release(keyOf(id));
      URL.revokeObjectURL(url);
    }
  }
}

function change(entry: Entry, values: Partial<Item>): void {
  entry.value = { ...entry.peek(), ...values };
}

/** The key of a file in the player. */
export function keyOf(id: number): string {
  return `file ${id}`;
}

const SUFFIXES = /\.(aac|aif|aiff|alac|ape|flac|m4a|mka|mp2|mp3|mp4|oga|ogg|opus|wav|webm|wma|wv)$/i;

function isAudio(file: File): boolean {
  return file.type.startsWith("audio/") || SUFFIXES.test(file.name);
}

/** All files that were dropped, also those of folders, and what cannot be read, in words. */
async function droppedFiles(transfer: DataTransfer): Promise<{ files: File[]; unreadable: string[] }> {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry()).filter((entry) => entry !== null);
  if (!entries.length) return { files: [...transfer.files], unreadable: [] };
  const unreadable: string[] = [];
  const below = async (entry: FileSystemEntry): Promise<File[]> => {
    try {
      if (entry.isFile) return [await fileOf(entry as FileSystemFileEntry)];
      return (await Promise.all((await entriesOf(entry as FileSystemDirectoryEntry)).map(below))).flat();
    } catch (error) {
      unreadable.push(`${entry.name} (${(error as Error).message})`);
      return [];
    }
  };
  return { files: (await Promise.all(entries.map(below))).flat(), unreadable };
}

function fileOf(entry: FileSystemFileEntry): Promise<File> {
  return new Promise((resolve, reject) => entry.file(resolve, reject));
}

async function entriesOf(folder: FileSystemDirectoryEntry): Promise<FileSystemEntry[]> {
  const reader = folder.createReader();
  const found: FileSystemEntry[] = [];
  for (;;) {
    // a reader lists a hundred entries at a time
    const some = await new Promise<FileSystemEntry[]>((resolve, reject) => reader.readEntries(resolve, reject));
    if (!some.length) break;
    found.push(...some);
  }
  return found.sort((one, other) => one.name.localeCompare(other.name, undefined, { numeric: true }));
}

/** The results as JSON lines, one a file, as `moodfield tag --json` has them. */
export function asJson(items: readonly Item[]): string {
  const rows = ended(items).map(({ file, tagged, error }) => tagged?.result ?? { source: file.name, error });
  return rows.map((row) => `${JSON.stringify(row)}\n`).join("");
}

/** The decided tags as a table, one row a file. */
export function asCsv(items: readonly Item[]): string {
  const quote = (value: string) => `"${value.replaceAll('"', '""')}"`;
  const rows = ended(items).map(({ file, tagged, error }) => [
    quote(file.name),
    tagged ? String(tagged.result.duration) : "",
    quote(tagged?.result.decided.join("; ") ?? ""),
    quote(error),
  ]);
  return [["source", "duration", "decided", "error"], ...rows].map((row) => `${row.join(",")}\r\n`).join("");
}

function ended(items: readonly Item[]): Item[] {
  return items.filter(({ state }) => state === "done" || state === "failed");
}

/** Lets the browser save a text as a file. */
export function save(name: string, content: BlobPart, type: string): void {
  const url = URL.createObjectURL(new Blob([content], { type }));
  const link = document.createElement("a");
  Object.assign(link, { href: url, download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}
