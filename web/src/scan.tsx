// Scans of folders: the question for a folder, and the progress of a scan with its errors.

import { signal, useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";

import { get, isLocal, Problem, send } from "./api";
import { count, counted, duration, percent } from "./text";

export interface Scan {
  id: number;
  state: "running" | "done" | "failed" | "cancelled";
  done: number;
  /** Files that have to be tagged; null until that is known. */
  total: number | null;
  /** Files that the library has already. */
  unchanged: number;
  failed: number;
  /** Files a second. */
  rate: number | null;
  seconds_left: number | null;
  current: string | null;
  errors: { path: string; message: string }[];
  error: string | null;
}

const INTERVAL = 700;
/** Milliseconds after which tracks that were scanned appear on the map. */
const RENEWAL = 15_000;
const CONFLICT = 409;
/** The scan that runs, or that has run last. */
export const scan = signal<Scan | null>(null);
let timer = 0;
let requests = 0;

/** Starts a scan of a folder, or of all folders; follows the one that runs if there is one. */
export async function startScan(path: string | null): Promise<void> {
  let id;
  try {
    ({ id } = await send<{ id: number }>("POST", "v1/scans", path === null ? {} : { path }));
  } catch (error) {
    if (!(error instanceof Problem) || error.status !== CONFLICT || !error.details.id) throw error;
    id = Number(error.details.id);
  }
  await follow(id);
}

/** Asks for the progress of a scan until it ends. */
async function follow(id: number): Promise<void> {
  clearTimeout(timer);
  requests += 1;
  const request = requests;
  const answer = await get<Scan>(`v1/scans/${id}`);
  if (request !== requests) return; // a later one has a newer answer
  scan.value = answer;
  if (answer.state === "running") timer = window.setTimeout(() => void followLater(id), INTERVAL);
}

/** Goes on to ask, also while the server cannot be reached; a refusal is the end. */
async function followLater(id: number): Promise<void> {
  try {
    await follow(id);
  } catch (error) {
    const last = scan.value;
    if (last?.id !== id) return;
    const isPassing = error instanceof Problem && (error.status === 0 || error.status >= 500);
    scan.value = { ...last, state: isPassing ? last.state : "failed", error: (error as Error).message };
    if (isPassing) timer = window.setTimeout(() => void followLater(id), 5 * INTERVAL);
  }
}

/** Follows the scan that runs, if there is one. */
export async function followRunning(): Promise<void> {
  const { scans } = await get<{ scans: Scan[] }>("v1/scans");
  const running = scans.find(({ state }) => state === "running");
  if (running) await follow(running.id);
}

async function cancelScan(id: number): Promise<void> {
  await send("DELETE", `v1/scans/${id}`);
  await followLater(id);
}

/** The question for a folder. */
export function FolderForm({ isFirst }: { isFirst: boolean }) {
  const path = useSignal("");
  const problem = useSignal("");
  const begin = (folder: string | null) => {
    problem.value = "";
    startScan(folder).catch((error: Error) => {
      problem.value = error.message;
    });
  };
  return (
    <form
      class="line"
      onSubmit={(event) => {
        event.preventDefault();
        begin(path.value.trim());
      }}>
      <label>
        Folder
        <input
          type="text"
          required
          placeholder={isLocal ? "~/Music" : "/home/me/Music"}
          spellcheck={false}
          autocomplete="off"
          value={path.value}
          onInput={(event) => {
            path.value = event.currentTarget.value;
          }}
        />
      </label>
      <span class="actions">
        <button type="submit" class="primary">
          Scan the folder
        </button>
        {!isFirst && (
          <button type="button" onClick={() => begin(null)}>
            Scan all folders again
          </button>
        )}
      </span>
      <p class="problem" role="alert">
        {problem.value}
      </p>
    </form>
  );
}

/** How far the scan is; when it has ended, what it has done. `onChange` is called now and then, and at its end. */
export function ScanProgress({ onChange }: { onChange: (isEnd: boolean) => void }) {
  const problem = useSignal("");
  const current = scan.value;
  const state = current?.state;
  useEffect(() => {
    if (state && state !== "running") onChange(true);
    if (state !== "running") return undefined;
    const renewing = setInterval(() => onChange(false), RENEWAL);
    return () => clearInterval(renewing);
  }, [state]);
  if (!current) return null;
  const { done, total, failed, rate, seconds_left: left } = current;
  const isRunning = state === "running";
  const message = (isRunning && problem.value) || current.error;
  const share = total ? done / total : 0;
  const facts = [
    total === null ? "looking for music" : `${count(done)} of ${counted(total, "file")}`,
    current.unchanged ? `${count(current.unchanged)} unchanged` : "",
    isRunning && rate ? `${rate.toFixed(rate < 10 ? 1 : 0)} files a second` : "",
    isRunning && left !== null ? `about ${duration(Math.max(left, 1))} left` : "",
  ].filter(Boolean);
  const heading = {
    running: "Scanning",
    done: "The scan is done",
    failed: "The scan has failed",
    cancelled: "The scan was cancelled",
  }[current.state];
  return (
    <section class="scan" aria-label="Scan">
      <div class="summary">
        <p>
          <strong>{heading}</strong> <span class="number quiet">{facts.join(" · ")}</span>
        </p>
        <span class="actions">
          {isRunning ? (
            <button
              type="button"
              onClick={() => {
                problem.value = "";
                cancelScan(current.id).catch((error: Error) => {
                  problem.value = error.message;
                });
              }}>
              Cancel
            </button>
          ) : (
            <button
              type="button"
              onClick={() => {
                scan.value = null;
              }}>
              Close
            </button>
          )}
        </span>
      </div>
      {isRunning && <progress {...(total ? { max: 1, value: share } : {})} aria-label="Files scanned" />}
      <p class="unseen" role="status">
        {isRunning ? `${percent(Math.floor(share * 10) / 10)} scanned` : `${heading}, ${facts[0]}`}
      </p>
      {isRunning && current.current && (
        <p class="quiet current">
          <bdi>{current.current}</bdi>
        </p>
      )}
      {message && (
        <p class="problem" role="alert">
          {message}
        </p>
      )}
      {failed > 0 && (
        <details>
          <summary>{counted(failed, "file")} could not be tagged</summary>
          <ul class="errors">
            {current.errors.map(({ path, message }) => (
              <li key={path}>
                <bdi>{path}</bdi>
                <span class="quiet">{message}</span>
              </li>
            ))}
          </ul>
        </details>
      )}
    </section>
  );
}
