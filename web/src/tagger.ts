// What tags a file: an exchangeable part of the page.

import { authorization, get, isLocal, Problem, problem } from "./api";
import { resample } from "./ribbon";
import { fileNames, results, type Tagging, type Track } from "./track";

export type Progress =
  { stage: "sending"; share: number } | { stage: "waiting"; seconds: number } | { stage: "tagging"; share?: number };

export interface Tagger {
  /** Tags one file; rejects with an `Error` whose message is for people, or with an `AbortError`. */
  tag(file: File, options: { signal: AbortSignal; onProgress: (progress: Progress) => void }): Promise<Tagged>;
  /** Where files go, in words. */
  readonly place: string;
  /** Name of the model, once it is known. */
  model(): Promise<string>;
}

export interface Tagged {
  track: Track;
  /** The result as it is saved, without scores over time. */
  result: Tagging;
}

const BUSY = 503;
/** Milliseconds for which the result of a file that was sent is awaited: longer than the server's queue. */
const LONGEST_WAIT = 15 * 60_000;
/** Time steps of curves. */
const STEPS = 160;

interface Models {
  models: { name: string; tags: { name: string; kind: string }[] }[];
}

/** Tags files by the server of this page. */
export class ServerTagger implements Tagger {
  readonly place = isLocal
    ? "Files are tagged on this computer. Nothing leaves it."
    : `Files are sent to ${location.host}, tagged there, and not kept.`;

  #models: Promise<Models> | null = null;

  async model(): Promise<string> {
    return (await this.#load()).models[0]?.name ?? "";
  }

  #load(): Promise<Models> {
    this.#models ??= get<Models>("v1/models").catch((error: unknown) => {
      this.#models = null;
      throw error;
    });
    return this.#models;
  }

  async tag(
    file: File,
    { signal, onProgress }: { signal: AbortSignal; onProgress: (progress: Progress) => void },
  ): Promise<Tagged> {
    const themes = new Set(
      (await this.#load()).models
        .flatMap(({ tags }) => tags)
        .filter(({ kind }) => kind === "theme")
        .map(({ name }) => name),
    );
    for (;;) {
      try {
        return tagged(await post(file, signal, onProgress), file.name, themes);
      } catch (error) {
        if (!(error instanceof Problem) || error.status !== BUSY) throw error;
        const seconds = error.retryAfter || 1;
        onProgress({ stage: "waiting", seconds });
        await sleep(1000 * seconds, signal);
      }
    }
  }
}

/** Sends a file; `fetch` would not report how much has been sent. */
function post(file: File, signal: AbortSignal, onProgress: (progress: Progress) => void): Promise<Tagging> {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    const abort = () => request.abort();
    request.open("POST", `v1/tag?over_time=true&name=${encodeURIComponent(file.name)}`);
    request.setRequestHeader("Content-Type", "application/octet-stream");
    for (const [name, value] of Object.entries(authorization())) request.setRequestHeader(name, value);
    request.upload.onprogress = ({ loaded, total }) => {
      onProgress(loaded < total ? { stage: "sending", share: loaded / total } : { stage: "tagging" });
    };
    request.onload = () => {
      const { status, responseText } = request;
      if (status >= 400) return reject(problem(status, responseText, request.getResponseHeader("Retry-After")));
      try {
        resolve(JSON.parse(responseText));
      } catch {
        reject(
          new Problem(status, "The answer is not from moodfield serve: is there a proxy that asks for something?"),
        );
      }
    };
    request.upload.onload = () => {
      request.timeout = performance.now() - began + LONGEST_WAIT; // counts from the start
    };
    request.ontimeout = () => reject(new Problem(0, "The server has not answered in time."));
    request.onerror = () => reject(new Problem(0, "The server cannot be reached, or it closed the connection."));
    request.onabort = () => reject(new DOMException("cancelled", "AbortError"));
    request.onloadend = () => signal.removeEventListener("abort", abort);
    signal.addEventListener("abort", abort);
    if (signal.aborted) return request.onabort!(new ProgressEvent("abort"));
    onProgress({ stage: "sending", share: 0 });
    const began = performance.now();
    request.send(file);
  });
}

/** A file with its result. */
export function tagged(result: Tagging, name: string, themes: ReadonlySet<string>): Tagged {
  const { over_time: _, envelope: __, ...kept } = result;
  return { track: fromTagging(result, name, themes), result: { ...kept, source: name } };
}

/** The track of a result, with curves in equal steps of time. */
function fromTagging(result: Tagging, path: string, themes: ReadonlySet<string>): Track {
  const { duration, over_time: overTime } = result;
  const last = overTime?.seconds.at(-1) ?? 0;
  const span = Math.max(duration, last, 1e-3);
  const steps = Math.min(STEPS, overTime?.seconds.length ?? 0);
  const rows = Object.entries(overTime?.scores ?? {}).map(([tag, scores]) => [
    tag,
    resample(scores, overTime!.seconds, span, steps),
  ]);
  return {
    ...fileNames(path),
    seconds: duration,
    model: result.model,
    tags: results(result, themes),
    curves: steps ? { steps, scores: Object.fromEntries(rows) } : null,
    envelope: result.envelope ?? [],
    warnings: result.warnings ?? [],
  };
}

function sleep(milliseconds: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, milliseconds);
    signal.addEventListener(
      "abort",
      () => {
        clearTimeout(timer);
        reject(signal.reason);
      },
      { once: true },
    );
  });
}
