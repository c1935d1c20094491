// Tags files in this browser, in a worker.

import { type Progress, type Tagged, tagged, type Tagger } from "../tagger";
import type { Metadata } from "./decisions";
import { FileError } from "./errors";
import { load } from "./files";
import type { FromWorker, ToWorker } from "./messages";

const MAX_THREADS = 4;
/** A module of one function with an instruction for vectors; engines without them refuse it. */
const SIMD = new Uint8Array([
  0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0, 253, 15, 253, 98, 11,
]);
/** Sample rate of files that the browser decodes. */
const RATE = 44_100;

type TagOptions = Parameters<Tagger["tag"]>[1];

export class BrowserTagger implements Tagger {
  readonly place = "Files are tagged in this browser. They do not leave this computer.";
  #metadata: Promise<Metadata> | null = null;
  #worker: Promise<Worker> | null = null;

  async model(): Promise<string> {
    return (await this.#load()).name;
  }

  async tag(file: File, options: TagOptions): Promise<Tagged> {
    options.onProgress({ stage: "tagging" });
    const metadata = await this.#load();
    this.#worker ??= start(metadata);
    const worker = await this.#worker.catch((error: unknown) => {
      this.#worker = null;
      throw error;
    });
    options.signal.throwIfAborted();
    return tagged(await this.#run(worker, file, options), file.name, new Set(metadata.themes));
  }

  #load(): Promise<Metadata> {
    this.#metadata ??= loadMetadata().catch((error: unknown) => {
      this.#metadata = null;
      throw error;
    });
    return this.#metadata;
  }

  /** Tags a file; the worker ends if it is cancelled, or may have run out of memory, and goes on after other failures. */
  async #run(worker: Worker, file: File, { signal, onProgress }: TagOptions) {
    const stopped = new Promise<never>((_, reject) => {
      signal.addEventListener("abort", () => reject(new DOMException("cancelled", "AbortError")), { once: true });
      worker.onerror = ({ message }) =>
        reject(new Error(`It needs more memory than there is, or its decoder failed (${message}).`));
    });
    try {
      return await Promise.race([result(worker, file, onProgress), stopped]);
    } catch (error) {
      if (error instanceof FileError) throw error;
      worker.terminate();
      this.#worker = null;
      throw error;
    }
  }
}

/** Lets the worker tag a file, and decodes it if the worker cannot. */
function result(worker: Worker, file: File, onProgress: (progress: Progress) => void) {
  return new Promise<Extract<FromWorker, { kind: "tagged" }>["result"]>((resolve, reject) => {
    worker.onmessage = async ({ data }: MessageEvent<FromWorker>) => {
      if (data.kind === "progress") onProgress({ stage: "tagging", share: data.share });
      else if (data.kind === "tagged") resolve(data.result);
      else if (data.kind === "decode") send(worker, await decode(file));
      else if (data.kind === "failed") {
        const message = `It cannot be tagged: ${data.message}.`;
        reject(data.isUsable ? new FileError(message) : new Error(message));
      }
    };
    send(worker, { kind: "tag", file });
  });
}

/** Decodes a file by the browser; if it cannot, the answer has the reason. */
async function decode(file: File): Promise<ToWorker> {
  try {
    const audio = await new OfflineAudioContext(1, 1, RATE).decodeAudioData(await file.arrayBuffer());
    const channels = Array.from({ length: audio.numberOfChannels }, (_, channel) => audio.getChannelData(channel));
    return { kind: "decoded", rate: audio.sampleRate, channels };
  } catch (error) {
    const { name, message } = error as Error;
    return {
      kind: "undecodable",
      message:
        name === "EncodingError"
          ? "its format is unknown to this browser: convert it to mp3, ogg, opus, flac or wav"
          : `this browser cannot decode it (${message}): convert it to mp3, ogg, opus, flac or wav`,
    };
  }
}

async function loadMetadata(): Promise<Metadata> {
  if (typeof DecompressionStream === "undefined" || typeof WebAssembly === "undefined" || !WebAssembly.validate(SIMD)) {
    throw new Error(
      "This browser lacks what tagging needs (WebAssembly with SIMD): use a current Firefox, Chrome, Edge or Safari.",
    );
  }
  return JSON.parse(new TextDecoder().decode(await load("metadata")));
}

/** Starts a worker that has loaded the model; one that cannot is ended. */
async function start(metadata: Metadata): Promise<Worker> {
  const [code, model, wasm, glue] = await Promise.all([load("worker"), load("model"), load("wasm"), load("glue")]);
  await checkModel(metadata, model);
  const url = URL.createObjectURL(new Blob([code as BlobPart], { type: "text/javascript" }));
  const worker = new Worker(url);
  const threads = crossOriginIsolated ? Math.min(MAX_THREADS, navigator.hardwareConcurrency) : 1;
  send(worker, { kind: "load", metadata, model, wasm, glue, threads });
  try {
    await new Promise<void>((resolve, reject) => {
      worker.onmessage = ({ data }: MessageEvent<FromWorker>) => {
        if (data.kind === "failed") reject(new Error(`The model cannot be started: ${data.message}`));
        else resolve();
      };
      worker.onerror = ({ message }) => reject(new Error(`The worker cannot be started: ${message}`));
    });
  } catch (error) {
    worker.terminate();
    throw error;
  } finally {
    URL.revokeObjectURL(url);
  }
  return worker;
}

/** Checks that the model is that of the metadata, where the browser can: a host or a cache may mix two versions. */
async function checkModel({ sha256 }: Metadata, model: Uint8Array): Promise<void> {
  if (!isSecureContext) return; // a page of plain http has no digests
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", model as BufferSource));
  const digits = [...digest].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  if (digits !== sha256)
    throw new Error("model.js and metadata.js are of different models: reload, or copy the folder again.");
}

function send(worker: Worker, message: ToWorker): void {
  worker.postMessage(message);
}
