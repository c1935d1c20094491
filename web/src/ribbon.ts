// The strongest tag at each time of a track, as the runs of a ribbon, and heights of curves over time.

import type { TagResult, Track } from "./track";

/** A ribbon shows scores averaged over the duration / this number. */
const WINDOWS = 20;
const EDGE = 1e-6;
/** Height of curves by the threshold / that of the sigmoid of logits: most scores are near their threshold. */
const STEEPNESS = 2;
/** Evidence at the threshold. */
const CUT = 1;
/** Difference of logits below which two points give no slope of evidence; bounds of slopes. */
const SHORT = 0.05;
const [FLATTEST, STEEPEST] = [0.2, 5];

export interface Run {
  tag: string;
  first: number;
  end: number;
  /** Whether the tag is above its threshold. */
  isAbove: boolean;
}

export function logit(score: number): number {
  const clipped = Math.min(Math.max(score, EDGE), 1 - EDGE);
  return Math.log(clipped / (1 - clipped));
}

/** Scores relative to the threshold, 0 … 1: 0.5 is equal. A tag that is never decided has the maximum 0.5. */
export function heights(scores: readonly number[], threshold: number | null): number[] {
  const half = logit(threshold ?? Math.max(...scores));
  return scores.map((score) => 1 / (1 + Math.exp(-STEEPNESS * (logit(score) - half))));
}

/**
 * Evidence over time. It is linear in the logit of the score: 1 at the threshold, and that of the track at its score.
 */
function evidenceOf(tag: TagResult, scores: readonly number[]): number[] {
  const origin = logit(tag.threshold ?? Math.max(...scores));
  const distance = logit(tag.score) - origin;
  const isClear = tag.threshold !== null && Math.abs(distance) > SHORT;
  const slope = isClear ? Math.min(Math.max((tag.evidence - CUT) / distance, FLATTEST), STEEPEST) : 1;
  return scores.map((score) => CUT + slope * (logit(score) - origin));
}

/** Runs of the mood, or theme, with the most evidence at each time. */
export function runs(track: Track, isTheme: boolean): Run[] {
  const { curves } = track;
  const all = track.tags.filter((tag) => tag.isTheme === isTheme && curves?.scores[tag.name]);
  const possible = all.filter((tag) => tag.threshold !== null);
  const tags = possible.length ? possible : all;
  if (!curves || !tags.length) return [];
  const rows = tags.map((tag) => evidenceOf(tag, smooth(curves.scores[tag.name]!)));
  const result: Run[] = [];
  for (let step = 0; step < curves.steps; step += 1) {
    let best = 0;
    for (let row = 1; row < rows.length; row += 1) if (rows[row]![step]! > rows[best]![step]!) best = row;
    const tag = (tags[best] as TagResult).name;
    const isAbove = rows[best]![step]! > CUT;
    const last = result.at(-1);
    if (last?.tag === tag && last.isAbove === isAbove) last.end = step + 1;
    else result.push({ tag, first: step, end: step + 1, isAbove });
  }
  return result;
}

/** Consecutive runs of the same tag as one. */
export function segments(all: readonly Run[]): Run[] {
  const result: Run[] = [];
  for (const run of all) {
    const last = result.at(-1);
    if (last?.tag === run.tag) Object.assign(last, { end: run.end, isAbove: last.isAbove || run.isAbove });
    else result.push({ ...run });
  }
  return result;
}

/** The strongest tags with their share of the time, in words. */
export function summary(all: readonly Run[], kind: string): string {
  const shares = new Map<string, number>();
  const steps = all.at(-1)?.end ?? 1;
  for (const { tag, first, end } of all) shares.set(tag, (shares.get(tag) ?? 0) + (end - first) / steps);
  const parts = [...shares]
    .sort((one, other) => other[1] - one[1])
    .slice(0, 4)
    .map(([tag, share]) => `${tag} ${Math.round(100 * share)}%`);
  return `Strongest ${kind} by share of the time: ${parts.join(", ")}${shares.size > 4 ? ", others" : ""}`;
}

/** Moving average over a centred window, shorter at both ends. */
function smooth(scores: readonly number[]): number[] {
  const half = Math.round(scores.length / WINDOWS / 2);
  return scores.map((_, at) => {
    const window = scores.slice(Math.max(at - half, 0), at + half + 1);
    return window.reduce((sum, score) => sum + score, 0) / window.length;
  });
}

/** Means of values in equal steps of time; values have increasing times in seconds. */
export function resample(values: readonly number[], seconds: readonly number[], span: number, steps: number): number[] {
  if (!values.length) return [];
  const sums = new Float64Array(steps);
  const counts = new Float64Array(steps);
  values.forEach((value, index) => {
    const step = Math.min(Math.floor((steps * seconds[index]!) / span), steps - 1);
    sums[step]! += value;
    counts[step]! += 1;
  });
  let last = values[0]!;
  return Array.from(sums, (sum, step) => {
    if (counts[step]) last = sum / counts[step]!;
    return last;
  });
}
