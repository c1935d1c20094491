// The tags of a track: chips of decided ones, and bars of evidence with curves over time.

import { useMemo, useState } from "preact/hooks";

import { hued } from "./colours";
import { heights } from "./ribbon";
import { evidence, percent, times } from "./text";
import { decided, type TagResult, type Track } from "./track";

const FEWEST_BARS = 6;
const MORE_BARS = 56;
/** Evidence at the right end of bars. */
const MOST_EVIDENCE = 4;
export const NO_TAG = "No tag is above its threshold.";

export function tagClass(tag: { isTheme: boolean }): string {
  return tag.isTheme ? "tag theme" : "tag";
}

/** The decided tags: moods, then themes. */
export function Chips({ track }: { track: Track }) {
  const tags = decided(track);
  if (!tags.length) return <p class="quiet none">{NO_TAG}</p>;
  const kinds = [
    ["Moods", tags.filter((tag) => !tag.isTheme)],
    ["Themes", tags.filter((tag) => tag.isTheme)],
  ] as const;
  return (
    <div class="chips">
      {kinds.map(
        ([kind, members]) =>
          members.length > 0 && (
            <ul key={kind} class={kind.toLowerCase()} aria-label={kind}>
              {members.map(({ name }) => (
                <li key={name} style={hued(name)}>
                  {name}
                </li>
              ))}
            </ul>
          ),
      )}
    </div>
  );
}

/** What was damaged in a file, in words. */
export function Warnings({ lines }: { lines: readonly string[] }) {
  if (!lines.length) return null;
  return (
    <div class="warnings" role="note">
      <strong>Tagged as far as possible</strong>
      <ul>
        {lines.map((line) => (
          <li key={line}>{line}</li>
        ))}
      </ul>
    </div>
  );
}

/** The strongest tags with their evidence, and their curves over time. */
export function Evidence({ track, caption }: { track: Track; caption: string }) {
  const [isLong, setLong] = useState(false);
  const most = Math.max(FEWEST_BARS, decided(track).length);
  const shown = track.tags.slice(0, isLong ? MORE_BARS : most);
  return (
    <div class="evidence">
      <h3>
        Evidence <span class="unit">{caption}</span>
      </h3>
      <ol>
        {shown.map((tag) => (
          <Row key={tag.name} tag={tag} scores={track.curves?.scores[tag.name]} />
        ))}
      </ol>
      {track.tags.length > most && (
        <button type="button" class="link" onClick={() => setLong(!isLong)}>
          {isLong ? "Fewer tags" : `All ${track.tags.length} tags`}
        </button>
      )}
    </div>
  );
}

function Row({ tag, scores }: { tag: TagResult; scores: number[] | undefined }) {
  const share = Math.min(Math.max(tag.evidence / MOST_EVIDENCE, 0), 1);
  const words = tag.times === null ? tag.why : `${tag.why}; ${times(tag.times)} as likely as usual`;
  return (
    <li class={tag.isDecided ? "" : "faint"} style={{ ...hued(tag.name), "--w": `${100 * share}%` }} title={words}>
      <span class={tagClass(tag)}>{tag.name}</span>
      <span class="bar">
        <i />
      </span>
      <span class="number">{evidence(tag.evidence)}</span>
      <Curve scores={scores} threshold={tag.threshold} />
      <span class="unseen">{words}</span>
    </li>
  );
}

/** A curve over time by the threshold, which is at half of the height. */
function Curve({ scores, threshold }: { scores: number[] | undefined; threshold: number | null }) {
  const shape = useMemo(() => {
    if (!scores?.length) return null;
    const values = heights(scores, threshold);
    const points = values.map((height, step) => `L${step + 0.5} ${(60 - 60 * height).toFixed(1)}`).join("");
    const path = `M0 60L0 ${60 - 60 * values[0]!}${points}L${values.length} ${60 - 60 * values.at(-1)!}V60z`;
    return { path, steps: values.length, share: values.filter((height) => height > 0.5).length / values.length };
  }, [scores, threshold]);
  if (!shape) return <span />;
  const { path, steps, share } = shape;
  return (
    <svg
      class="curve"
      viewBox={`0 0 ${steps} 60`}
      preserveAspectRatio="none"
      role="img"
      aria-label={`above its threshold for ${percent(share)} of the time`}>
      <path class="low" d={path} />
      <svg width={steps} height="30" viewBox={`0 0 ${steps} 30`} preserveAspectRatio="none">
        <path class="high" d={path} />
      </svg>
      <path class="line" d={`M0 30H${steps}`} />
    </svg>
  );
}
