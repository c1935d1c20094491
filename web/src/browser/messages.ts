// Messages between the page and its worker.

import type { Metadata } from "./decisions";
import type { BrowserTagging } from "./result";

export type ToWorker =
  | { kind: "load"; model: Uint8Array; wasm: Uint8Array; glue: Uint8Array; metadata: Metadata; threads: number }
  | { kind: "tag"; file: File }
  | { kind: "decoded"; rate: number; channels: Float32Array[] }
  | { kind: "undecodable" };

export type FromWorker =
  | { kind: "ready" }
  | { kind: "progress"; share: number }
  /** Asks the page to decode the file by the browser, which a worker cannot. */
  | { kind: "decode" }
  | { kind: "tagged"; result: BrowserTagging }
  | { kind: "failed"; message: string };
