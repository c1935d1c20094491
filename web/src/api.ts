// Requests to the server: JSON, problem answers as exceptions, and the token.

import { signal } from "@preact/signals";

import { store, stored } from "./storage";

const KEY = "moodfield-token";

/** Whether the server is this computer. */
export const isLocal = ["localhost", "127.0.0.1", "[::1]"].includes(location.hostname);

/** A refusal of the server in words (RFC 9457). */
export class Problem extends Error {
  constructor(
    readonly status: number,
    message: string,
    readonly retryAfter: number | null = null,
    readonly details: Record<string, unknown> = {},
  ) {
    super(message);
  }
}

/** Whether the server asks for a token that the page does not have. */
export const isLocked = signal(false);
let token = takeToken();

/** Takes the token from the address (`#token=…`), out of which it is removed, or from the session. */
function takeToken(): string | null {
  const given = /[#&]token=([^&]+)/.exec(location.hash)?.[1];
  if (given) {
    history.replaceState(null, "", location.pathname + location.search);
    store(KEY, decoded(given));
    return decoded(given);
  }
  return stored(KEY);
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text; // a % that escapes nothing
  }
}

/** Opens a session with the token: its cookie allows the audio element to play tracks. */
export async function openSession(given: string | null = token): Promise<void> {
  if (given === null) return;
  token = given;
  await request("v1/session", { method: "POST" });
  store(KEY, given);
  isLocked.value = false;
}

export function authorization(): Record<string, string> {
  return token === null ? {} : { Authorization: `Bearer ${token}` };
}

export async function request(path: string, init: RequestInit = {}): Promise<Response> {
  let response;
  try {
    response = await fetch(path, { ...init, headers: { ...init.headers, ...authorization() } });
  } catch (error) {
    if ((error as Error).name === "AbortError") throw error;
    throw new Problem(0, "The server cannot be reached. Is moodfield serve still running?");
  }
  if (!response.ok) throw problem(response.status, await response.text(), response.headers.get("Retry-After"));
  return response;
}

export function problem(status: number, body: string, retryAfter: string | null): Problem {
  if (status === 401) isLocked.value = true;
  let details: Record<string, unknown> = {};
  try {
    details = JSON.parse(body);
  } catch {
    // not JSON: an answer of a proxy, whose status says enough
  }
  const words = details.detail ?? details.title ?? `The server answered with status ${status}.`;
  return new Problem(status, String(words), retryAfter === null ? null : Number(retryAfter), details);
}

export async function get<T>(path: string, signal?: AbortSignal): Promise<T> {
  return (await request(path, signal ? { signal } : {})).json();
}

export async function send<T>(method: string, path: string, body?: unknown): Promise<T> {
  const response = await sendRaw(method, path, body);
  return response.status === 204 ? (undefined as T) : response.json();
}

export async function sendRaw(method: string, path: string, body?: unknown): Promise<Response> {
  if (body === undefined) return request(path, { method });
  return request(path, { method, body: JSON.stringify(body), headers: { "Content-Type": "application/json" } });
}

/** An address with the parameters that have values. */
export function query(path: string, values: Record<string, string | number | readonly string[] | null>): string {
  const parameters = new URLSearchParams();
  for (const [name, value] of Object.entries(values)) {
    for (const item of Array.isArray(value) ? value : [value]) {
      if (item !== null && item !== "") parameters.append(name, String(item));
    }
  }
  const text = parameters.toString();
  return text ? `${path}?${text}` : path;
}
