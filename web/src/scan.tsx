// Scans of folders: the question for a folder, and the progress of a scan with its errors.

import { signal, useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";

import { get, Problem, send } from "./api";
import { counted, duration, percent } from "./text";

export interface Scan {
  id: string;
  state: "running" | "done" | "failed" | "cancelled";
  done: number;
  total: number | null;
  failed: number;
  /** Files a second. */
  rate: number | null;
  seconds_left: number | null;
  current: string | null;
  errors: { path: string; message: string }[];
  message?: string | null;
}

const INTERVAL = 700;
const CONFLICT = 409;
/** The scan that runs, or that has run last. */
export const scan = signal<Scan | null>(null);
let timer = 0;

/** Starts a scan of a folder, or of all folders; follows the one that runs if there is one. */
export async function startScan(path: string | null): Promise<void> {
  let id;
  try {
    ({ id } = await send<{ id: string }>("POST", "v1/scans", path === null ? {} : { path }));
  } catch (error) {
    if (!(error instanceof Problem) || error.status !== CONFLICT || !error.details.id) throw error;
    id = String(error.details.id);
  }
  await follow(id);
}

/** Asks for the progress of a scan until it ends. */
export async function follow(id: string): Promise<void> {
  clearTimeout(timer);
  scan.value = { ...(await get<Scan>(`v1/scans/${id}`)), id };
  if (scan.value.state === "running") timer = window.setTimeout(() => void follow(id).catch(() => follow(id)), INTERVAL);
}

async function cancelScan(id: string): Promise<void> {
  await send("DELETE", `v1/scans/${id}`);
  await follow(id);
}

/** The question for a folder. */
export function FolderForm({ isFirst }: { isFirst: boolean }) {
  const path = useSignal("");
  const problem = useSignal("");
  const begin = (folder: string | null) => {
    problem.value = "";
    startScan(folder).catch((error: Error) => { problem.value = error.message; });
  };
  return (
    <form class="line" onSubmit={(event) => {
      event.preventDefault();
      begin(path.value.trim());
    }}>
      <label>Folder
        <input type="text" required placeholder="/home/me/Music" spellcheck={false} autocomplete="off" value={path.value}
          onInput={(event) => { path.value = event.currentTarget.value; }} />
      </label>
      <span class="actions">
        <button type="submit" class="primary">Scan the folder</button>
        {!isFirst && <button type="button" onClick={() => begin(null)}>Scan all folders again</button>}
      </span>
      <p class="problem" role="alert">{problem.value}</p>
    </form>
  );
}

/** How far the scan is; when it has ended, what it has done. */
export function ScanProgress({ onEnd }: { onEnd: () => void }) {
  const current = scan.value;
  const state = current?.state;
  useEffect(() => { if (state && state !== "running") onEnd(); }, [state]);
  if (!current) return null;
  const { done, total, failed, rate, seconds_left: left } = current;
  const isRunning = state === "running";
  const share = total ? done / total : 0;
  const facts = [
    total === null ? counted(done, "file") : `${counted(done, "file")} of ${total.toLocaleString("en")}`,
    isRunning && rate ? `${rate.toFixed(rate < 10 ? 1 : 0)} files a second` : "",
    isRunning && left !== null ? `about ${duration(Math.max(left, 1))} left` : "",
  ].filter(Boolean);
  const heading = { running: "Scanning", done: "The scan is done", failed: "The scan has failed", cancelled: "The scan was cancelled" }[current.state];
  return (
    <section class="scan" aria-label="Scan">
      <div class="summary">
        <p><strong>{heading}</strong> <span class="number quiet">{facts.join(" · ")}</span></p>
        <span class="actions">
          {isRunning ? <button type="button" onClick={() => void cancelScan(current.id).catch(() => undefined)}>Cancel</button>
            : <button type="button" onClick={() => { scan.value = null; }}>Close</button>}
        </span>
      </div>
      {isRunning && <progress {...(total ? { max: 1, value: share } : {})} aria-label="Files scanned" />}
      <p class="unseen" role="status">{isRunning ? `${percent(Math.floor(share * 10) / 10)} scanned` : `${heading}, ${facts[0]}`}</p>
      {isRunning && current.current && <p class="quiet current"><bdi>{current.current}</bdi></p>}
      {current.message && <p class="problem" role="alert">{current.message}</p>}
      {failed > 0 && (
        <details>
          <summary>{counted(failed, "file")} could not be tagged</summary>
          <ul class="errors">{current.errors.map(({ path, message }) => <li key={path}><bdi>{path}</bdi><span class="quiet">{message}</span></li>)}</ul>
        </details>
      )}
    </section>
  );
}
