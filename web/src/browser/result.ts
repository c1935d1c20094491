// The result of tagging a track, with the names and values of `moodfield tag --json`.

import type { Tagging } from "../track";
import { calibrate, decide, evidence, type Metadata, sigmoid } from "./decisions";
import type { Outputs } from "./model";

/** Smaller usual scores count as this one. */
const MIN_USUAL = 1e-9;
const SPANS_PER_SECOND = 20;
const MAX_SPANS = 600;

export interface BrowserTagging extends Tagging {
  moods: string[];
  relative: false;
  priors: Record<string, number> | null;
}

export function tagging(source: string, duration: number, model: Metadata, outputs: Outputs): BrowserTagging {
  const { vocabulary, themes, priors, usual } = model;
  const logits = calibrate(model, outputs.logits.map(mean));
  const scores = logits.map((logit) => Math.fround(sigmoid(logit)));
  const unusual = evidence(model, logits);
  const decided = decide(model, scores, unusual).map((tag) => vocabulary[tag]!);
  const usualScores = usual?.scores ?? priors;
  const byTag = (values: readonly number[]) =>
    Object.fromEntries(vocabulary.map((tag, index) => [tag, round(values[index]!)]));
  const rows = outputs.logits.map((row, tag) => row.map((logit) => sigmoid(calibrateOne(model, tag, logit))));
  return {
    source,
    duration: Number(duration.toFixed(3)),
    model: model.name,
    decided,
    moods: decided.filter((tag) => !themes.includes(tag)),
    themes: decided.filter((tag) => themes.includes(tag)),
    relative: false,
    scores: byTag(scores),
    times_usual: usualScores && byTag(scores.map((score, tag) => score / Math.max(usualScores[tag]!, MIN_USUAL))),
    evidence: byTag(unusual),
    thresholds: byTag(model.thresholds.map((threshold) => Math.min(Math.max(threshold ?? 1, 0), 1))),
    priors: priors && byTag(priors),
    over_time: {
      seconds: outputs.seconds.map((second) => Number(second.toFixed(3))),
      scores: Object.fromEntries(vocabulary.map((tag, index) => [tag, rows[index]!.map(round)])),
    },
  };
}

function calibrateOne({ calibration }: Metadata, tag: number, logit: number): number {
  return calibration ? calibration.slopes[tag]! * logit + calibration.offsets[tag]! : logit;
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
