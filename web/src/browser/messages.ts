// Messages between the page and its worker.

import type { Metadata } from "./decisions";
import type { BrowserTagging } from "./result";

export type ToWorker =
  | { kind: "load"; model: Uint8Array; wasm: Uint8Array; glue: Uint8Array; metadata: Metadata; threads: number }
  | { kind: "tag"; file: File }
  | { kind: "decoded"; rate: number; channels: Float32Array[] }
  | { kind: "undecodable"; message: string };

export type FromWorker =
  | { kind: "ready" }
  | { kind: "progress"; share: number }
  /** Asks the page to decode the file by the browser, which a worker cannot. */
  | { kind: "decode" }
  | { kind: "tagged"; result: BrowserTagging }
  /** Whether the worker can go on: not if it may have run out of memory. */
  | { kind: "failed"; message: string; isUsable: boolean };
