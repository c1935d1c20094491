// Scores and decisions from logits, as the Python package has them (`decisions.py`).

/** What is usual for the calibrated logits of tags. */
export interface Usual {
  mean: number[];
  std: number[];
  scores: number[];
  kinds: Record<string, Usual>;
}

/** Tags of a model, and what decides them. */
export interface Head {
  vocabulary: string[];
  /** Null: never exceeded. */
  thresholds: (number | null)[];
  priors: number[] | null;
  calibration: { slopes: number[]; offsets: number[] } | null;
  usual: Usual | null;
}

export interface Metadata extends Head {
  name: string;
  /** Digest of the model, in hexadecimal digits. */
  sha256: string;
  sample_rate: number;
  min_samples: number;
  mel: { n_fft: number; hop_length: number; kind: "plain" | "perceptual" };
  lengths: { kind: "any" | "whole" | "fixed"; stride: number; receptive_field?: number; start?: number };
  themes: string[];
  heads: Record<string, Head>;
  decisions: Constants;
}

/** Constants of the rule for decisions. */
export interface Constants {
  margin: number;
  max_tags: number;
  kind_slack: number;
  max_logit: number;
  min_std: number;
}

/** Calibrated logits of all tags, in their order. */
export function calibrate({ calibration }: Head, logits: readonly number[]): number[] {
  return calibration
    ? logits.map((logit, tag) => calibration.slopes[tag]! * logit + calibration.offsets[tag]!)
    : [...logits];
}

export function sigmoid(logit: number): number {
  return 0.5 * (1 + Math.tanh(0.5 * logit));
}

/** How far calibrated logits are above what is usual, in standard deviations; in nats if that is unknown. */
export function evidence(head: Head, decisions: Constants, logits: readonly number[]): number[] {
  const { usual } = head;
  if (!usual) return logits.map((logit, tag) => logit - reference(head, tag));
  return logits.map((logit, tag) => {
    const std = usual.std[tag]!;
    if (std <= decisions.min_std) return 0;
    const clipped = Math.max(-decisions.max_logit, Math.min(decisions.max_logit, logit));
    const unusual = ({ mean, std }: Usual) => (clipped - mean[tag]!) / Math.max(std[tag]!, decisions.min_std);
    return Math.min(unusual(usual), ...Object.values(usual.kinds).map((kind) => unusual(kind) + decisions.kind_slack));
  });
}

/** The logit of a tag's prior, or else of its threshold, from which evidence counts without statistics. */
function reference({ priors, thresholds }: Head, tag: number): number {
  const threshold = thresholds[tag] ?? 1;
  const score = priors?.[tag] ?? (threshold > 0 && threshold < 1 ? threshold : 0.5);
  return Math.log(score) - Math.log1p(-score);
}

/** Numbers of the decided tags, by decreasing evidence. */
export function decide(
  head: Head,
  decisions: Constants,
  scores: readonly number[],
  evidence: readonly number[],
): number[] {
  const above = scores
    .map((_, tag) => tag)
    .filter((tag) => scores[tag]! > (head.thresholds[tag] ?? Infinity))
    .sort((one, other) => evidence[other]! - evidence[one]!);
  if (!head.usual) return above;
  const lowest = evidence[above[0]!]! - decisions.margin;
  return above.slice(0, decisions.max_tags).filter((tag) => evidence[tag]! >= lowest);
}
