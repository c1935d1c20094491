// The map as a part of the page: its canvas, names of regions, the tip of the track under the pointer, and buttons.

import { useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";

import { Chart, type MapData } from "./chart";
import { hued } from "./colours";
import { Icon } from "./icons";
import { counted } from "./text";

/** Milliseconds that the pointer rests before a track is asked for. */
const PAUSE = 60;

export interface Tip {
  title: string;
  subtitle: string;
  tags: string[];
}

export function TrackMap({
  data,
  shown,
  tag,
  path,
  current,
  describe,
  onOpen,
}: {
  data: MapData;
  /** Tracks that fit the filters; null: all. */
  shown: ReadonlySet<number> | null;
  tag: string | null;
  path: readonly number[];
  current: number | null;
  describe: (id: number) => Promise<Tip>;
  onOpen: (id: number) => void;
}) {
  const node = useRef<HTMLDivElement>(null);
  const chart = useRef<Chart | null>(null);
  const problem = useSignal("");
  const pointed = useSignal<{ id: number; x: number; y: number } | null>(null);
  const tip = useSignal<(Tip & { id: number }) | null>(null);
  const restored = useSignal(0);
  const latest = useRef(onOpen);
  latest.current = onOpen;

  useEffect(() => {
    try {
      chart.current = new Chart(
        node.current!,
        data,
        (id, x, y) => {
          pointed.value = id === null ? null : { id, x, y };
        },
        (id) => latest.current(id),
        chart.current?.transform,
      );
    } catch (error) {
      problem.value = `${(error as Error).message}; the list has all tracks.`;
    }
    return () => chart.current?.dispose();
  }, [data, restored.value]);
  useEffect(() => {
    const canvas = node.current?.querySelector("canvas");
    canvas?.addEventListener("webglcontextlost", (event) => event.preventDefault()); // so that it will be restored
    canvas?.addEventListener("webglcontextrestored", () => {
      restored.value += 1;
    });
  }, []);
  useEffect(() => chart.current?.show(shown, tag), [data, restored.value, shown, tag]);
  useEffect(() => chart.current?.drawPath(path), [data, restored.value, path]);
  useEffect(() => chart.current?.mark(current), [data, restored.value, current]);
  const id = pointed.value?.id;
  useEffect(() => {
    if (id === undefined) return undefined;
    let isGone = false;
    const timer = setTimeout(() => {
      void describe(id).then(
        (found) => {
          if (!isGone) tip.value = { ...found, id };
        },
        () => undefined,
      ); // a tip only
    }, PAUSE);
    return () => {
      isGone = true;
      clearTimeout(timer);
    };
  }, [id]);

  if (problem.value)
    return (
      <div class="map">
        <p class="note">The map cannot be drawn: {problem.value}</p>
      </div>
    );
  return (
    <div class="map">
      <div
        ref={node}
        class={`plane${id === undefined ? "" : " pointed"}`}
        tabIndex={0}
        role="application"
        aria-label={`Map of ${counted(data.ids.length, "track")}: arrow keys move from track to track, Enter opens one, plus and minus zoom, 0 shows all`}>
        <canvas />
        <svg class="path" aria-hidden="true">
          <polyline />
          <path class="start" />
        </svg>
        {data.regions.map(({ tag: name, x, y }) => (
          <span key={`${name} ${x} ${y}`} class="region" style={hued(name)} aria-hidden="true">
            {name}
          </span>
        ))}
        <i class="here" hidden />
        {pointed.value && tip.value?.id === id && <TipBox tip={tip.value!} at={pointed.value} node={node.current!} />}
      </div>
      <p class="unseen" role="status">
        {pointed.value && tip.value?.id === id ? words(tip.value!) : ""}
      </p>
      <div class="map-foot">
        <p class="quiet">{counted(data.ids.length, "track")}: near ones have similar moods</p>
        <button type="button" aria-label="Zoom in" onClick={() => chart.current?.zoomBy(1.6)}>
          +
        </button>
        <button type="button" aria-label="Zoom out" onClick={() => chart.current?.zoomBy(1 / 1.6)}>
          −
        </button>
        <button type="button" aria-label="Show all of the map" onClick={() => chart.current?.reset()}>
          <Icon name="reset" />
        </button>
      </div>
    </div>
  );
}

function TipBox({ tip, at, node }: { tip: Tip; at: { x: number; y: number }; node: HTMLElement }) {
  const side = `to-${at.x < node.clientWidth / 2 ? "right" : "left"} to-${at.y < node.clientHeight / 2 ? "below" : "above"}`;
  return (
    <div class={`tip ${side}`} style={{ left: `${at.x}px`, top: `${at.y}px` }}>
      <bdi>{tip.title}</bdi>
      {tip.subtitle && <bdi class="quiet">{tip.subtitle}</bdi>}
      <small>
        {tip.tags.length
          ? tip.tags.map((tag) => (
              <span key={tag} style={hued(tag)}>
                {tag}
              </span>
            ))
          : "no tag"}
      </small>
    </div>
  );
}

function words({ title, subtitle, tags }: Tip): string {
  return [title, subtitle, tags.join(", ") || "no tag"].filter(Boolean).join(", ");
}
