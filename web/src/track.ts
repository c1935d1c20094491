// A tagged track as the page shows it, whatever has tagged it.

import { folders, stem } from "./text";

export interface TagResult {
  name: string;
  isTheme: boolean;
  score: number;
  /** Null: the tag is never decided. */
  threshold: number | null;
  /** Standard deviations above what is usual. */
  evidence: number;
  /** How many times as likely as usual; null if unknown. */
  times: number | null;
  isDecided: boolean;
}

export interface Curves {
  steps: number;
  /** Scores by tag, in equal steps of time. */
  scores: Record<string, number[]>;
}

export interface Track {
  title: string;
  /** Artist, or folders of the file. */
  subtitle: string;
  seconds: number;
  model: string;
  /** Decided tags, then the others, both by decreasing evidence. */
  tags: TagResult[];
  curves: Curves | null;
  /** Peaks over time, 0 … 1. */
  envelope: number[];
  /** One line for each damaged part that was skipped. */
  warnings: string[];
}

/** What `POST /v1/tag` and further taggers answer. */
export interface Tagging {
  source: string;
  duration: number;
  model: string;
  decided: string[];
  themes: string[];
  scores: Record<string, number>;
  evidence: Record<string, number>;
  thresholds: Record<string, number>;
  times_usual: Record<string, number> | null;
  over_time?: { seconds: number[]; scores: Record<string, number[]> };
  envelope?: number[];
  warnings?: string[];
}

export function decided(track: Track): TagResult[] {
  return track.tags.filter((tag) => tag.isDecided);
}

/** Results of all tags: the decided ones, then the others, both by decreasing evidence. */
export function results(
  values: Pick<Tagging, "decided" | "scores" | "evidence"> & Partial<Pick<Tagging, "thresholds" | "times_usual">>,
  themes: ReadonlySet<string>,
): TagResult[] {
  const isDecided = new Set(values.decided);
  const names = new Set([...values.decided, ...Object.keys(values.scores)]);
  const tags = [...names].map((name): TagResult => {
    const threshold = values.thresholds?.[name] ?? 1;
    return {
      name,
      isTheme: themes.has(name),
      score: values.scores[name] ?? 0,
      threshold: threshold < 1 ? threshold : null,
      evidence: values.evidence[name] ?? 0,
      times: values.times_usual?.[name] ?? null,
      isDecided: isDecided.has(name),
    };
  });
  return tags.sort((one, other) => Number(other.isDecided) - Number(one.isDecided) || other.evidence - one.evidence);
}

export function fileNames(path: string): Pick<Track, "title" | "subtitle"> {
  return { title: stem(path), subtitle: folders(path) };
}
