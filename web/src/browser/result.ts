// The result of tagging a track, with the names and values of `moodfield tag --json`.

import type { Tagging } from "../track";
import { calibrate, type Constants, decide, evidence, type Head, type Metadata, sigmoid } from "./decisions";
import type { Outputs } from "./model";

/** Smaller usual scores count as this one. */
const MIN_USUAL = 1e-9;
const SPANS_PER_SECOND = 20;
const MAX_SPANS = 600;

/** Values that differ between the heads of a model. */
interface HeadTagging {
  decided: string[];
  scores: Record<string, number>;
  times_usual: Record<string, number> | null;
  evidence: Record<string, number>;
  thresholds: Record<string, number>;
  priors: Record<string, number> | null;
}

export interface BrowserTagging extends Tagging {
  moods: string[];
  relative: false;
  priors: Record<string, number> | null;
  heads?: Record<string, HeadTagging>;
}

export function tagging(source: string, duration: number, model: Metadata, outputs: Outputs): BrowserTagging {
  const { vocabulary, themes, decisions } = model;
  const { decided, ...values } = headTagging(model, decisions, outputs.logits);
  const rows = overTime(model, outputs.logits);
  const heads = Object.entries(model.heads).map(([name, head]) => [
    name,
    headTagging(head, decisions, outputs.heads[name]!),
  ]);
  return {
    source,
    duration: Number(duration.toFixed(3)),
    model: model.name,
    decided,
    moods: decided.filter((tag) => !themes.includes(tag)),
    themes: decided.filter((tag) => themes.includes(tag)),
    relative: false,
    ...values,
    ...(heads.length ? { heads: Object.fromEntries(heads) } : {}),
    over_time: {
      seconds: outputs.seconds.map((second) => Number(second.toFixed(3))),
      scores: Object.fromEntries(vocabulary.map((tag, index) => [tag, rows[index]!.map(round)])),
    },
  };
}

/** Scores and decisions by logits over time. */
function headTagging(head: Head, decisions: Constants, overTime: readonly (readonly number[])[]): HeadTagging {
  const { vocabulary, thresholds, priors, usual } = head;
  const logits = calibrate(head, overTime.map(mean));
  const scores = logits.map((logit) => Math.fround(sigmoid(logit)));
  const unusual = evidence(head, decisions, logits);
  const usualScores = usual?.scores ?? priors;
  const byTag = (values: readonly number[]) =>
    Object.fromEntries(vocabulary.map((tag, index) => [tag, round(values[index]!)]));
  return {
    decided: decide(head, decisions, scores, unusual).map((tag) => vocabulary[tag]!),
    scores: byTag(scores),
    times_usual: usualScores && byTag(scores.map((score, tag) => score / Math.max(usualScores[tag]!, MIN_USUAL))),
    evidence: byTag(unusual),
    thresholds: byTag(thresholds.map((threshold) => Math.min(Math.max(threshold ?? 1, 0), 1))),
    priors: priors && byTag(priors),
  };
}

/** Scores of every tag over time. */
function overTime({ calibration }: Head, logits: readonly (readonly number[])[]): number[][] {
  return logits.map((row, tag) => {
    const [slope, offset] = calibration ? [calibration.slopes[tag]!, calibration.offsets[tag]!] : [1, 0];
    return row.map((logit) => sigmoid(slope * logit + offset));
  });
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

/** Six significant digits, more than the weights hold. */
function round(value: number): number {
  return Number(value.toPrecision(6));
}

/** The peak amplitude of a waveform over time. */
export class PeakEnvelope {
  readonly #peaks: number[] = [];
  #peak = 0;
  #count = 0;

  constructor(readonly rate: number) {}

  push(samples: Float32Array): void {
    const span = Math.max(1, Math.round(this.rate / SPANS_PER_SECOND));
    for (const sample of samples) {
      this.#peak = Math.max(this.#peak, Math.abs(sample));
      this.#count += 1;
      if (this.#count % span === 0) {
        this.#peaks.push(Math.min(1, this.#peak));
        this.#peak = 0;
      }
    }
  }

  /** At most `MAX_SPANS` peaks. */
  finish(): number[] {
    const group = Math.ceil(this.#peaks.length / MAX_SPANS) || 1;
    const count = Math.ceil(this.#peaks.length / group);
    return Array.from({ length: count }, (_, index) =>
      round(Math.max(...this.#peaks.slice(index * group, (index + 1) * group))),
    );
  }
}
