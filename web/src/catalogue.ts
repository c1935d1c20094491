// The library as the server has it: tracks, filters, details, vocabulary.

import { get, query, send, sendRaw } from "./api";
import type { MapData } from "./chart";
import type { Source } from "./player";
import { folders } from "./text";
import type { TagResult, Track } from "./track";

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

/** Decisions against one reference: every tag by decreasing evidence, and why it is decided or not. */
export interface Decisions {
  decided: string[];
  tags: {
    tag: string;
    decided: boolean;
    score: number;
    /** The score that is usual; null if unknown. */
    usual: number | null;
    /** 1: the tag is never decided. */
    threshold: number;
    evidence: number;
    why: string;
  }[];
}

export interface Details extends Row {
  absolute?: Decisions;
  relative?: Decisions & { relative: boolean };
  curves?: { seconds: number[]; scores: Record<string, number[]> } | null;
  envelope?: number[];
}

export interface Page {
  tracks: Row[];
  total: number;
  next: string | null;
  /** Numbers of all tracks that fit, on the first page of a filtered list. */
  ids?: number[];
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
  /** Files that could not be tagged. */
  failed: boolean;
  order: "" | "evidence" | "name" | "random";
  /** Of the random order, so that its pages belong together. */
  seed: number | null;
}

export const NO_FILTERS: Filters = {
  q: "",
  tags: [],
  not: [],
  artist: "",
  album: "",
  genre: "",
  year: "",
  duration: "",
  path: "",
  corrected: false,
  failed: false,
  order: "",
  seed: null,
};

export interface Vocabulary {
  /** Tags of the served model, and of the one that has tagged the library. */
  tags: string[];
  themes: ReadonlySet<string>;
  /** Number of tracks with each tag. */
  counts: Record<string, number>;
}

export async function loadVocabulary(): Promise<Vocabulary> {
  const [{ models }, stats] = await Promise.all([
    get<{ models: { tags: { name: string; kind: string }[] }[] }>("v1/models"),
    get<{ tags: Record<string, number> }>("v1/stats"),
  ]);
  const tags = models.flatMap((model) => model.tags);
  return {
    tags: [...new Set([...tags.map(({ name }) => name), ...Object.keys(stats.tags)])].sort(),
    themes: new Set(tags.filter(({ kind }) => kind === "theme").map(({ name }) => name)),
    counts: stats.tags,
  };
}

/** Parameters of a request; moods and themes are parameters of their own. */
function parameters(filters: Filters, { themes }: Vocabulary): Parameters<typeof query>[1] {
  const { tags, corrected, failed, order, ...rest } = filters;
  return {
    ...rest,
    mood: tags.filter((tag) => !themes.has(tag)),
    theme: tags.filter((tag) => themes.has(tag)),
    corrected: corrected ? "true" : null,
    failed: failed ? "true" : null,
    order: order || (tags.length ? "evidence" : "name"),
  };
}

export function isFiltered({ order: _, seed: __, ...filters }: Filters): boolean {
  return Object.values(filters).some((value) => (Array.isArray(value) ? value.length > 0 : Boolean(value)));
}

export function listTracks(
  filters: Filters,
  vocabulary: Vocabulary,
  cursor: string | null,
  signal: AbortSignal,
): Promise<Page> {
  const ids = cursor === null && isFiltered(filters) ? "true" : null;
  return get(query("v1/tracks", { ...parameters(filters, vocabulary), limit: 50, cursor, ids }), signal);
}

export function loadMap(): Promise<MapData> {
  return get("v1/map");
}

export function loadDetails(id: number, signal?: AbortSignal): Promise<Details> {
  return get(`v1/tracks/${id}`, signal);
}

/** A track as in lists, without the curves of its details: a playlist of this track alone. */
export async function loadRow(id: number): Promise<Row> {
  return (await send<{ tracks: [Row] }>("POST", "v1/playlists", { tracks: [id] })).tracks[0];
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
  /** How energy goes on; not for journeys. */
  energy?: "rising" | "falling" | "peak";
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
    key: `track ${row.id}`,
    title: row.title,
    subtitle: subtitle(row),
    seconds: row.duration ?? 0,
    url: `v1/tracks/${row.id}/audio`,
  };
}

/** Results of all tags: the decided ones, then the others, both by decreasing evidence. */
export function tagsOf({ tags }: Decisions, { themes }: Vocabulary): TagResult[] {
  const results = tags.map((tag): TagResult => ({
    name: tag.tag,
    isTheme: themes.has(tag.tag),
    score: tag.score,
    threshold: tag.threshold < 1 ? tag.threshold : null,
    evidence: tag.evidence,
    times: tag.usual ? tag.score / tag.usual : null,
    isDecided: tag.decided,
    why: tag.why,
  }));
  return [...results.filter(({ isDecided }) => isDecided), ...results.filter(({ isDecided }) => !isDecided)];
}

/** The details of a track as the page shows tracks, decided relative to the library; null if it is not tagged. */
export function trackOf(details: Details, vocabulary: Vocabulary): Track | null {
  const { relative, curves } = details;
  return relative
    ? {
        title: details.title,
        subtitle: subtitle(details),
        seconds: details.duration ?? 0,
        model: details.model ?? "",
        tags: tagsOf(relative, vocabulary),
        curves: curves ? { steps: curves.seconds.length, scores: curves.scores } : null,
        envelope: details.envelope ?? [],
        warnings: [],
      }
    : null;
}
