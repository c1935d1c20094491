// The library as the server has it: tracks, filters, details, vocabulary.

import { get, query, send, sendRaw } from "./api";
import type { MapData } from "./chart";
import type { Source } from "./player";
import { folders } from "./text";
import { results, type TagResult, type Track } from "./track";

/** A track in lists. */
export interface Row {
  id: number;
  path: string;
  title: string;
  artist: string;
  album: string;
  genre: string;
  year: number | null;
  duration: number | null;
  missing: string | null;
  error: { reason: string; message: string } | null;
  model: string | null;
  decided?: string[];
  themes?: string[];
  added?: string[];
  removed?: string[];
  similarity?: number;
}

/** Decisions against one reference: what they are, and why. */
export interface Decisions {
  decided: string[];
  scores: Record<string, number>;
  evidence: Record<string, number>;
  thresholds: Record<string, number>;
  times_usual: Record<string, number> | null;
  why: Record<string, string>;
}

export interface Details extends Row {
  absolute: Decisions | null;
  relative: Decisions | null;
  curves: { tags: string[]; seconds: number[]; values: number[][] } | null;
  envelope: number[] | null;
}

export interface Page {
  tracks: Row[];
  total: number;
  next: string | null;
}

export interface Filters {
  q: string;
  tags: string[];
  not: string[];
  artist: string;
  album: string;
  genre: string;
  year: string;
  duration: string;
  path: string;
  corrected: boolean;
  order: "" | "evidence" | "name" | "random";
}

export const NO_FILTERS: Filters = {
  q: "", tags: [], not: [], artist: "", album: "", genre: "", year: "", duration: "", path: "", corrected: false, order: "",
};

export interface Vocabulary {
  tags: string[];
  themes: ReadonlySet<string>;
}

export async function loadVocabulary(): Promise<Vocabulary> {
  const { models } = await get<{ models: { tags: { name: string; kind: string }[] }[] }>("v1/models");
  const tags = models[0]?.tags ?? [];
  return {
    tags: tags.map(({ name }) => name),
    themes: new Set(tags.filter(({ kind }) => kind === "theme").map(({ name }) => name)),
  };
}

/** Parameters of a request; moods and themes are parameters of their own. */
function parameters(filters: Filters, { themes }: Vocabulary): Record<string, string | readonly string[] | null> {
  const { tags, corrected, order, ...rest } = filters;
  return {
    ...rest,
    mood: tags.filter((tag) => !themes.has(tag)),
    theme: tags.filter((tag) => themes.has(tag)),
    corrected: corrected ? "true" : null,
    order: order || (tags.length ? "evidence" : "name"),
  };
}

export function isFiltered({ order: _, ...filters }: Filters): boolean {
  return Object.values(filters).some((value) => (Array.isArray(value) ? value.length > 0 : Boolean(value)));
}

export function listTracks(filters: Filters, vocabulary: Vocabulary, cursor: string | null, signal: AbortSignal): Promise<Page> {
  return get(query("v1/tracks", { ...parameters(filters, vocabulary), limit: 50, cursor }), signal);
}

export function loadMap(): Promise<MapData> {
  return get("v1/map");
}

export function loadDetails(id: number, signal?: AbortSignal): Promise<Details> {
  return get(`v1/tracks/${id}`, signal);
}

export async function loadSimilar(id: number, signal: AbortSignal): Promise<Row[]> {
  return (await get<{ tracks: Row[] }>(`v1/tracks/${id}/similar?limit=8`, signal)).tracks;
}

export function correct(id: number, change: { add?: string[]; remove?: string[] }): Promise<Details> {
  return send("PATCH", `v1/tracks/${id}`, change);
}

export interface Wish {
  tags?: string[];
  not?: string[];
  minutes: number;
  from?: number;
  to?: number;
  seed?: number;
}

export function makePlaylist(wish: Wish): Promise<{ tracks: Row[]; message?: string | null }> {
  return send("POST", "v1/playlists", wish);
}

export async function playlistFile(tracks: readonly number[]): Promise<Blob> {
  return (await sendRaw("POST", "v1/playlists", { tracks, format: "m3u8" })).blob();
}

/** The artist, or the folders of the file. */
export function subtitle(row: Row): string {
  return row.artist || folders(row.path);
}

export function audioOf(row: Row): Source {
  return {
    key: `track ${row.id}`, title: row.title, subtitle: subtitle(row), seconds: row.duration ?? 0, url: `v1/tracks/${row.id}/audio`,
  };
}

export function tagsOf(decisions: Decisions, { themes }: Vocabulary): TagResult[] {
  return results(decisions, themes);
}

/** The details of a track as the page shows tracks; decisions are relative to the library if they can be. */
export function trackOf(details: Details, vocabulary: Vocabulary): Track | null {
  const decisions = details.relative ?? details.absolute;
  if (!decisions) return null;
  const { curves } = details;
  return {
    title: details.title,
    subtitle: subtitle(details),
    seconds: details.duration ?? 0,
    model: details.model ?? "",
    tags: tagsOf(decisions, vocabulary),
    curves: curves && {
      steps: curves.seconds.length,
      scores: Object.fromEntries(curves.tags.map((tag, row) => [tag, curves.values[row]!])),
    },
    envelope: details.envelope ?? [],
    warnings: [],
  };
}
