// A tagged track as the page shows it, whatever has tagged it.

import { folders, score as scoreText, stem } from "./text";

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
  /** Why it is decided, or not, in words. */
  why: string;
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
export function results(tagging: Tagging, themes: ReadonlySet<string>): TagResult[] {
  const isDecided = new Set(tagging.decided);
  const tags = Object.entries(tagging.scores).map(([name, score]): TagResult => {
    const threshold = tagging.thresholds[name] ?? 1;
    const tag = {
      name,
      isTheme: themes.has(name),
      score,
      threshold: threshold < 1 ? threshold : null,
      evidence: tagging.evidence[name] ?? 0,
      times: tagging.times_usual?.[name] ?? null,
      isDecided: isDecided.has(name),
    };
    return { ...tag, why: reason(tag) };
  });
  return tags.sort((one, other) => Number(other.isDecided) - Number(one.isDecided) || other.evidence - one.evidence);
}

function reason({ score, threshold, isDecided }: Omit<TagResult, "why">): string {
  if (threshold === null) return "never decided";
  const numbers = `score ${scoreText(score)}, threshold ${scoreText(threshold)}`;
  if (isDecided) return `among the clearest tags: ${numbers}`;
  return score > threshold
    ? `above its threshold, but less clear than others: ${numbers}`
    : `below its threshold: ${numbers}`;
}

export function fileNames(path: string): Pick<Track, "title" | "subtitle"> {
  return { title: stem(path), subtitle: folders(path) };
}
