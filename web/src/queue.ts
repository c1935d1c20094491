// The files of the *Drop* view: tagged one after the other, cancelled, saved.

import { batch, computed, signal } from "@preact/signals";

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

export class Queue {
  readonly items = signal<readonly Item[]>([]);
  /** Names of files that were left out, since they are no audio. */
  readonly leftOut = signal<readonly string[]>([]);
  readonly counts = computed(() => {
    const counts = { waiting: 0, tagging: 0, done: 0, failed: 0 };
    for (const { state } of this.items.value) counts[state] += 1;
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

  add(files: readonly File[]): void {
    const music = files.filter(isAudio);
    const items = music.map((file): Item => ({
      id: this.#next++, file, url: URL.createObjectURL(file), state: "waiting", progress: null, tagged: null, error: "",
    }));
    batch(() => {
      this.items.value = [...this.items.value, ...items];
      this.leftOut.value = files.filter((file) => !isAudio(file)).map(({ name }) => name);
    });
    if (!this.#running) void this.#run();
  }

  /** Stops, and removes the files that are not tagged yet. */
  cancel(): void {
    this.#running?.abort();
    this.#remove(({ state }) => state === "waiting" || state === "tagging");
  }

  remove(id: number): void {
    this.#remove((item) => item.id === id && item.state !== "tagging");
  }

  clear(): void {
    this.cancel();
    this.#remove(() => true);
    this.leftOut.value = [];
  }

  retry(id: number): void {
    this.#set(id, { state: "waiting", error: "" });
    if (!this.#running) void this.#run();
  }

  async #run(): Promise<void> {
    const { signal } = (this.#running = new AbortController());
    for (let item = this.#first(); item && !signal.aborted; item = this.#first()) await this.#tag(item, signal);
    if (this.#running.signal !== signal) return;
    this.#running = null;
    this.secondsLeft.value = null;
    if (this.#first()) void this.#run();
  }

  async #tag({ id, file }: Item, signal: AbortSignal): Promise<void> {
    const began = performance.now();
    this.#set(id, { state: "tagging" });
    try {
      const tagged = await this.tagger.tag(file, { signal, onProgress: (progress) => this.#set(id, { progress }) });
      this.#set(id, { state: "done", tagged });
    } catch (error) {
      if (signal.aborted) return;
      this.#set(id, { state: "failed", error: (error as Error).message });
    }
    this.#bytes += file.size;
    this.#seconds += (performance.now() - began) / 1000;
    const left = this.items.peek().reduce((sum, item) => sum + (item.state === "waiting" ? item.file.size : 0), 0);
    this.secondsLeft.value = left && this.#bytes ? (left * this.#seconds) / this.#bytes : null;
  }

  #first(): Item | undefined {
    return this.items.peek().find(({ state }) => state === "waiting");
  }

  #set(id: number, values: Partial<Item>): void {
    this.items.value = this.items.peek().map((item) => (item.id === id ? { ...item, ...values } : item));
  }

  #remove(isGone: (item: Item) => boolean): void {
    const gone = this.items.peek().filter(isGone);
    this.items.value = this.items.peek().filter((item) => !gone.includes(item));
    for (const { id, url } of gone) {
      release(keyOf(id));
      URL.revokeObjectURL(url);
    }
  }
}

/** The key of a file in the player. */
export function keyOf(id: number): string {
  return `file ${id}`;
}

const SUFFIXES = /\.(aac|aif|aiff|alac|ape|flac|m4a|mka|mp2|mp3|mp4|oga|ogg|opus|wav|webm|wma|wv)$/i;

function isAudio(file: File): boolean {
  return file.type.startsWith("audio/") || SUFFIXES.test(file.name);
}

/** All files that were dropped, also those of folders; to be called while the event is handled. */
export function droppedFiles(transfer: DataTransfer): Promise<File[]> {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry()).filter((entry) => entry !== null);
  if (!entries.length) return Promise.resolve([...transfer.files]);
  return Promise.all(entries.map(filesBelow)).then((groups) => groups.flat());
}

async function filesBelow(entry: FileSystemEntry): Promise<File[]> {
  if (entry.isFile) return [await new Promise<File>((resolve, reject) => (entry as FileSystemFileEntry).file(resolve, reject))];
  const reader = (entry as FileSystemDirectoryEntry).createReader();
  const found: FileSystemEntry[] = [];
  for (;;) {  // a reader lists a hundred entries at a time
    const some = await new Promise<FileSystemEntry[]>((resolve, reject) => reader.readEntries(resolve, reject));
    if (!some.length) break;
    found.push(...some);
  }
  found.sort((one, other) => one.name.localeCompare(other.name, undefined, { numeric: true }));
  return (await Promise.all(found.map(filesBelow))).flat();
}

/** The results as JSON lines, one a file, as `moodfield tag --json` has them. */
export function asJson(items: readonly Item[]): string {
  const rows = items.filter(({ state }) => state === "done" || state === "failed").map(({ file, tagged, error }) => {
    if (!tagged) return { source: file.name, error };
    const { over_time: _, envelope: __, ...values } = tagged.result;
    return values;
  });
  return rows.map((row) => `${JSON.stringify(row)}\n`).join("");
}

/** The decided tags as a table, one row a file. */
export function asCsv(items: readonly Item[]): string {
  const quote = (value: string) => `"${value.replaceAll('"', '""')}"`;
  const rows = items.filter(({ state }) => state === "done" || state === "failed").map(({ file, tagged, error }) => [
    quote(file.name), tagged ? String(tagged.result.duration) : "", quote(tagged?.result.decided.join("; ") ?? ""), quote(error),
  ]);
  return [["source", "duration", "decided", "error"], ...rows].map((row) => `${row.join(",")}\r\n`).join("");
}

/** Lets the browser save a text as a file. */
export function save(name: string, content: BlobPart, type: string): void {
  const url = URL.createObjectURL(new Blob([content], { type }));
  const link = document.createElement("a");
  Object.assign(link, { href: url, download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}
