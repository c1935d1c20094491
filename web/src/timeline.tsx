// The waveform of a track, ribbons of the strongest mood and theme under it, and a slider that plays from a time on.

import { useSignal } from "@preact/signals";
import { useEffect, useMemo, useRef } from "preact/hooks";

import { hued, isDeep } from "./colours";
import { play, position, seek, source, type Source } from "./player";
import { type Run, runs, segments, summary } from "./ribbon";
import { clock } from "./text";
import type { Track } from "./track";

const BARS = 200;
const TICKS = 4;
const INTERVALS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400];

export function Timeline({ track, audio }: { track: Track; audio: Source | null }) {
  const node = useRef<HTMLDivElement>(null);
  const pointed = useSignal<number | null>(null);
  const lanes = useMemo(
    () =>
      [false, true]
        .map((isTheme) => ({ kind: isTheme ? "themes" : "moods", all: runs(track, isTheme) }))
        .filter(({ all }) => all.length),
    [track],
  );
  const steps = track.curves?.steps ?? 1;
  const span = Math.max(track.seconds, 1e-3);
  const isPlayed = audio !== null && source.value?.key === audio.key;

  // The position is set directly: it changes sixty times a second.
  useEffect(
    () =>
      position.subscribe((seconds) => {
        node.current?.style.setProperty("--at", String(isPlayed ? Math.min(seconds / span, 1) : 0));
      }),
    [isPlayed, span],
  );

  const describe = (share: number) => {
    const step = Math.min(Math.floor(share * steps), steps - 1);
    const parts = lanes
      .flatMap(({ all }) => all.filter(({ first, end }) => first <= step && step < end))
      .map(({ tag, isAbove }) => `${tag}, ${isAbove ? "above" : "below"} its threshold`);
    return [clock(share * span), ...parts].join(" · ");
  };
  const shareAt = (event: PointerEvent) => {
    const { left, width } = (event.currentTarget as Element).getBoundingClientRect();
    return Math.min(Math.max((event.clientX - left) / width, 0), 1);
  };
  const start = (seconds: number) => {
    if (isPlayed) seek(seconds);
    else if (audio) play(audio, { at: seconds });
  };
  const share = pointed.value ?? (isPlayed ? position.value / span : null);
  return (
    <>
      <div ref={node} class={`timeline${isPlayed ? " active" : ""}`}>
        <Ticks span={span} />
        <Wave levels={track.envelope} />
        {lanes.map(({ kind, all }) => (
          <Lane key={kind} kind={kind} all={all} span={span} />
        ))}
        <input
          type="range"
          min="0"
          max={span}
          step={Math.max(span / 100, 1)}
          disabled={!audio}
          value={isPlayed ? position.value : 0}
          aria-label={`Position in ${track.title}`}
          aria-valuetext={describe(isPlayed ? Math.min(position.value / span, 1) : 0)}
          onInput={(event) => start(Number(event.currentTarget.value))}
          onPointerMove={(event) => {
            pointed.value = event.pointerType === "mouse" ? shareAt(event) : null;
          }}
          onPointerLeave={() => {
            pointed.value = null;
          }}
        />
        {pointed.value !== null && <i class="pointer" style={{ "--at": pointed.value }} />}
      </div>
      <p class="at quiet">
        {share !== null ? describe(Math.min(share, 1)) : lanes.length ? summary(lanes[0]!.all, lanes[0]!.kind) : ""}
      </p>
    </>
  );
}

function Ticks({ span }: { span: number }) {
  const between = INTERVALS.find((seconds) => span / seconds <= TICKS) ?? 3600 * Math.ceil(span / TICKS / 3600);
  const times = Array.from({ length: Math.ceil((0.95 * span) / between) }, (_, tick) => tick * between);
  return (
    <div class="ticks" aria-hidden="true">
      {times.map((second) => (
        <span key={second} style={{ left: `${(100 * second) / span}%` }}>
          {clock(second)}
        </span>
      ))}
    </div>
  );
}

/** The waveform as bars around a middle line; the part that was played is darker. */
function Wave({ levels }: { levels: readonly number[] }) {
  const path = useMemo(() => {
    if (!levels.length) return "";
    const bars = Math.min(BARS, levels.length);
    const means = Array.from({ length: bars }, (_, bar) => {
      const part = levels.slice(
        Math.floor((bar * levels.length) / bars),
        Math.ceil(((bar + 1) * levels.length) / bars),
      );
      return part.reduce((sum, level) => sum + level, 0) / part.length;
    });
    const loudest = Math.max(...means, 1e-6);
    return means
      .map((level, bar) => {
        const height = Math.max((100 * level) / loudest, 1);
        return `M${((bar + 0.5) * BARS) / bars} ${(104 - height).toFixed(1)}v${(2 * height).toFixed(1)}`;
      })
      .join("");
  }, [levels]);
  if (!path) return null;
  const drawing = (
    <svg class="wave" viewBox={`0 0 ${BARS} 208`} preserveAspectRatio="none" aria-hidden="true">
      <path d={path} />
    </svg>
  );
  return (
    <div class="waves">
      {drawing}
      <div class="played">{drawing}</div>
    </div>
  );
}

/** A ribbon of the strongest mood, or theme, with names where they fit. */
function Lane({ kind, all, span }: { kind: string; all: Run[]; span: number }) {
  const steps = all.at(-1)!.end;
  return (
    <div class={`lane ${kind}-lane`}>
      <Ribbon all={all} />
      <ol
        aria-label={`Strongest ${kind} over time`}
        style={{ gridTemplateColumns: `repeat(${steps}, minmax(0, 1fr))` }}>
        {segments(all).map(({ tag, first, end }) => (
          <li key={first} style={{ ...hued(tag), gridColumn: `${first + 1} / ${end + 1}` }}>
            <span>{tag}</span>
            <span class="unseen">{` ${clock((first * span) / steps)} to ${clock((end * span) / steps)}`}</span>
          </li>
        ))}
      </ol>
    </div>
  );
}

/** Runs as stripes in the colours of their tags, tall and saturated where the tag is above its threshold. */
export function Ribbon({ all }: { all: readonly Run[] }) {
  const steps = all.at(-1)?.end ?? 1;
  return (
    <svg class="ribbon" viewBox={`0 0 ${steps} 8`} preserveAspectRatio="none" aria-hidden="true">
      {all.map(({ tag, first, end, isAbove }) => (
        <rect
          key={first}
          x={first}
          width={end - first}
          y={isAbove ? 0 : 3}
          height={isAbove ? 8 : 5}
          class={`${isAbove ? "high" : "low"}${isDeep(tag) ? " deep" : ""}`}
          style={hued(tag)}
        />
      ))}
    </svg>
  );
}
