// The worker: decodes, resamples and tags one file at a time.

import * as ort from "onnxruntime-web/wasm";

import { decode, type DecodeByBrowser, type Warn } from "./decode";
import type { Metadata } from "./decisions";
import { FileError } from "./errors";
import type { FromWorker, ToWorker } from "./messages";
import { TrackPredictor } from "./model";
import { mix } from "./mono";
import { Resampler } from "./resample";
import { type BrowserTagging, PeakEnvelope, tagging } from "./result";

let session: ort.InferenceSession;
let metadata: Metadata;
/** Receives the answer of the page that decodes a file. */
let onDecoded: (answer: ToWorker) => void = () => undefined;

const post = (message: FromWorker) => postMessage(message);

addEventListener("message", ({ data }: MessageEvent<ToWorker>) => {
  if (data.kind === "load") void answer(load(data), () => ({ kind: "ready" }));
  else if (data.kind === "tag") void answer(tag(data.file), (result) => ({ kind: "tagged", result }));
  else onDecoded(data);
});

async function answer<T>(work: Promise<T>, message: (value: T) => FromWorker): Promise<void> {
  try {
    post(message(await work));
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    post({ kind: "failed", message, isUsable: error instanceof FileError });
  }
}

async function load({ model, wasm, glue, threads, metadata: given }: ToWorker & { kind: "load" }): Promise<void> {
  const mjs = URL.createObjectURL(new Blob([glue as BlobPart], { type: "text/javascript" }));
  Object.assign(ort.env.wasm, { numThreads: threads, wasmPaths: { mjs }, wasmBinary: wasm.buffer });
  metadata = given;
  session = await ort.InferenceSession.create(model, { executionProviders: ["wasm"] });
}

async function tag(file: File): Promise<BrowserTagging> {
  const predictor = new TrackPredictor(session, metadata);
  const resampled = new Joined(predictor);
  const warnings = new Set<string>();
  let envelope: PeakEnvelope | null = null;
  const warn: Warn = (fault) => warnings.add(`${file.name}: ${fault}`);
  for await (const { rate, samples, share } of mix((onFault) => decode(file, decodeByBrowser, onFault), warn)) {
    envelope ??= new PeakEnvelope(rate);
    envelope.push(samples);
    await resampled.push(rate, samples);
    post({ kind: "progress", share });
  }
  const seconds = await resampled.finish();
  const outputs = await predictor.finish();
  return {
    ...tagging(file.name, seconds, metadata, outputs),
    envelope: envelope!.finish(),
    ...(warnings.size ? { warnings: [...warnings] } : {}),
  };
}

/** The samples for the model; where the sample rate changes, another resampler begins. */
class Joined {
  #resampler: Resampler | null = null;
  #count = 0;

  constructor(readonly predictor: TrackPredictor) {}

  async push(rate: number, samples: Float32Array): Promise<void> {
    if (this.#resampler?.from !== rate) {
      await this.#flush();
      this.#resampler = new Resampler(rate, metadata.sample_rate);
    }
    await this.#give(this.#resampler!.push(samples));
  }

  /** Returns the duration in seconds. */
  async finish(): Promise<number> {
    await this.#flush();
    if (this.#count < metadata.min_samples)
      throw new FileError("it is too short for this model: give a longer excerpt");
    return this.#count / metadata.sample_rate;
  }

  async #flush(): Promise<void> {
    if (this.#resampler) await this.#give(this.#resampler.finish());
  }

  async #give(samples: Float32Array): Promise<void> {
    this.#count += samples.length;
    await this.predictor.push(samples);
  }
}

const decodeByBrowser: DecodeByBrowser = () =>
  new Promise((resolve, reject) => {
    onDecoded = (message) => {
      if (message.kind === "decoded") resolve(message);
      else if (message.kind === "undecodable") reject(new FileError(message.message));
    };
    post({ kind: "decode" });
  });
