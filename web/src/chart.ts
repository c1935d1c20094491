// The map of all tracks: points by WebGL, names of regions, the playlist as a line; panned, zoomed and searched.

import { select } from "d3-selection";
import { zoom, type ZoomBehavior, zoomIdentity, type ZoomTransform } from "d3-zoom";
import KDBush from "kdbush";

import { bytes, hue, isDeep } from "./colours";
import { Scatter, type View } from "./scatter";

/** What `GET /v1/map` answers: one item of each list per track. */
export interface MapData {
  ids: number[];
  /** 0 … 1, from left to right. */
  x: number[];
  /** 0 … 1, from top to bottom. */
  y: number[];
  /** Index of the strongest tag. */
  tag: number[];
  tags: string[];
  regions: { tag: string; x: number; y: number; tracks: number }[];
}

const PADDING = 12;
const MOST_ZOOM = 60;
/** Colour of tracks that do not fit the filters. */
const FAINT = [128, 128, 128] as const;
/** Pixels within which a track is under the pointer. */
const NEAR = 16;
/** Diameters of points, in pixels. */
const [SMALLEST, LARGEST] = [2.4, 10];
const ARROWS: Record<string, [number, number]> = {
  ArrowRight: [1, 0],
  ArrowLeft: [-1, 0],
  ArrowDown: [0, 1],
  ArrowUp: [0, -1],
};

export class Chart {
  readonly #scatter: Scatter;
  readonly #zoom: ZoomBehavior<HTMLElement, unknown>;
  readonly #rows = new Map<number, number>();
  readonly #index: KDBush;
  readonly #states: Uint8Array;
  readonly #observer: ResizeObserver;
  readonly #scheme = matchMedia("(prefers-color-scheme: dark)");
  #transform: ZoomTransform = zoomIdentity;
  #size = [1, 1] as [number, number];
  #frame = 0;
  #shown: ReadonlySet<number> | null = null;
  #emphasis: string | null = null;
  #path: readonly number[] = [];
  #current: number | null = null;

  /**
   * `node` contains a canvas, an SVG with a polyline, and elements `.region`, one for each region of the data.
   * `onPoint` gets the track under the pointer or reached by arrow keys, with its place in pixels; `onOpen` a chosen one.
   */
  constructor(
    readonly node: HTMLElement,
    readonly data: MapData,
    readonly onPoint: (id: number | null, x: number, y: number) => void,
    readonly onOpen: (id: number) => void,
    transform: ZoomTransform = zoomIdentity,
  ) {
    const { ids, x, y } = data;
    this.#scatter = new Scatter(node.querySelector("canvas")!);
    const positions = new Float32Array(2 * ids.length);
    this.#index = new KDBush(Math.max(ids.length, 1), 64, Float32Array);
    ids.forEach((id, row) => {
      this.#rows.set(id, row);
      positions.set([x[row]!, y[row]!], 2 * row);
      this.#index.add(x[row]!, y[row]!);
    });
    if (!ids.length) this.#index.add(0, 0);
    this.#index.finish();
    this.#states = new Uint8Array(ids.length).fill(255);
    this.#scatter.setPositions(positions);
    this.#scatter.setStates(this.#states);
    this.#zoom = zoom<HTMLElement, unknown>()
      .scaleExtent([1, MOST_ZOOM])
      .filter((event: Event) => this.#takes(event))
      .on("zoom", ({ transform }: { transform: ZoomTransform }) => {
        this.#transform = transform;
        // As long as all is in view, one finger scrolls the page.
        node.style.touchAction = transform.k > 1 ? "none" : "pan-y";
        this.#schedule();
      });
    node.style.touchAction = "pan-y";
    select(node).call(this.#zoom).on("dblclick.zoom", null);
    node.addEventListener("pointermove", this.#onPointerMove);
    node.addEventListener("pointerleave", this.#onPointerLeave);
    node.addEventListener("click", this.#onClick);
    node.addEventListener("keydown", this.#onKey);
    node.addEventListener("blur", this.#onPointerLeave);
    this.#scheme.addEventListener("change", this.#colour);
    this.#observer = new ResizeObserver(() => this.#resize());
    this.#observer.observe(node);
    this.#colour();
    this.#resize();
    select(node).call(this.#zoom.transform, transform);
  }

  /** Pan and zoom, for a map of later data. */
  get transform(): ZoomTransform {
    return this.#transform;
  }

  dispose(): void {
    this.node.removeEventListener("pointermove", this.#onPointerMove);
    this.node.removeEventListener("pointerleave", this.#onPointerLeave);
    this.node.removeEventListener("click", this.#onClick);
    this.node.removeEventListener("keydown", this.#onKey);
    this.node.removeEventListener("blur", this.#onPointerLeave);
    cancelAnimationFrame(this.#frame);
    this.#observer.disconnect();
    this.#scheme.removeEventListener("change", this.#colour);
    this.#scatter.dispose();
  }

  /** Shows some tracks, or all; the others are faint. With a tag, those that are shown have its colour. */
  show(ids: ReadonlySet<number> | null, tag: string | null): void {
    this.#shown = ids;
    this.#emphasis = tag;
    this.data.ids.forEach((id, row) => {
      this.#states[row] = ids === null || ids.has(id) ? 255 : 0;
    });
    this.#scatter.setStates(this.#states);
    this.#colour();
  }

  /** Draws a line along tracks. */
  drawPath(ids: readonly number[]): void {
    this.#path = ids;
    this.#schedule();
  }

  /** Marks a track, and brings it into view. */
  mark(id: number | null): void {
    this.#current = id;
    const place = id === null ? null : this.#place(id);
    if (place) {
      const [width, height] = this.#size;
      const [x, y] = place;
      const isInside = x > 0 && y > 0 && x < width && y < height;
      if (!isInside)
        select(this.node).call(
          this.#zoom.translateBy,
          (width / 2 - x) / this.#transform.k,
          (height / 2 - y) / this.#transform.k,
        );
    }
    this.#schedule();
  }

  zoomBy(factor: number): void {
    select(this.node).call(this.#zoom.scaleBy, factor);
  }

  reset(): void {
    select(this.node).call(this.#zoom.transform, zoomIdentity);
  }

  #takes(event: Event): boolean {
    if (event.type === "wheel") return true;
    if (event instanceof MouseEvent && event.button !== 0) return false;
    const touches = (event as TouchEvent).touches;
    return !touches || touches.length > 1 || this.#transform.k > 1;
  }

  readonly #colour = (): void => {
    const [lightness, chroma] = this.#scheme.matches ? [0.74, 0.13] : [0.66, 0.15];
    const palette = this.data.tags.map((tag) => bytes(lightness - (isDeep(tag) ? 0.08 : 0), chroma, hue(tag)));
    const emphasis = this.#emphasis === null ? null : bytes(lightness, chroma, hue(this.#emphasis));
    const colours = new Uint8Array(3 * this.data.ids.length);
    this.data.tag.forEach((tag, row) => {
      colours.set((this.#states[row] ? emphasis : FAINT) ?? palette[tag] ?? FAINT, 3 * row);
    });
    this.#scatter.setColours(colours);
    this.#schedule();
  };

  #resize(): void {
    const { clientWidth, clientHeight } = this.node;
    this.#size = [clientWidth, clientHeight];
    this.#zoom.extent([[0, 0], this.#size]).translateExtent([[0, 0], this.#size]);
    this.#scatter.resize(clientWidth, clientHeight);
    this.#schedule();
  }

  #schedule(): void {
    this.#frame ||= requestAnimationFrame(() => {
      this.#frame = 0;
      this.#draw();
    });
  }

  #view(): View {
    const [width, height] = this.#size;
    const { k, x, y } = this.#transform;
    return {
      scaleX: (width - 2 * PADDING) * k,
      scaleY: (height - 2 * PADDING) * k,
      offsetX: PADDING * k + x,
      offsetY: PADDING * k + y,
    };
  }

  #place(id: number): [number, number] | null {
    const row = this.#rows.get(id);
    if (row === undefined) return null;
    const { scaleX, scaleY, offsetX, offsetY } = this.#view();
    return [this.data.x[row]! * scaleX + offsetX, this.data.y[row]! * scaleY + offsetY];
  }

  #draw(): void {
    const view = this.#view();
    this.#scatter.draw(view, [
      0.7 * this.#diameter(this.data.ids.length),
      this.#diameter(this.#shown?.size ?? this.data.ids.length),
    ]);
    this.#placeRegions(view);
    const line = this.node.querySelector("polyline")!;
    const places = this.#path.map((id) => this.#place(id)).filter((place) => place !== null);
    line.setAttribute("points", places.map(([x, y]) => `${x.toFixed(1)},${y.toFixed(1)}`).join(" "));
    const start = places
      .slice(0, 1)
      .map(([x, y]) => `M${x.toFixed(1)} ${y.toFixed(1)}h0`)
      .join("");
    this.node.querySelector(".start")!.setAttribute("d", start);
    const here = this.node.querySelector<HTMLElement>(".here")!;
    const place = this.#current === null ? null : this.#place(this.#current);
    here.hidden = place === null;
    if (place) here.style.transform = `translate(${place[0]}px, ${place[1]}px)`;
  }

  /** Diameter of so many points: the fewer there are, and the nearer one looks, the larger they are. */
  #diameter(count: number): number {
    const [width, height] = this.#size;
    const room = Math.sqrt((width * height) / Math.max(count, 1));
    return Math.min(Math.max(room / 3, SMALLEST), LARGEST) * Math.min(this.#transform.k ** 0.4, 3.5);
  }

  /** Moves the names of regions; of two that would overlap, the larger region has its name. */
  #placeRegions({ scaleX, scaleY, offsetX, offsetY }: View): void {
    const [width, height] = this.#size;
    const taken: [number, number, number][] = [];
    this.node.querySelectorAll<HTMLElement>(".region").forEach((label, number) => {
      const region = this.data.regions[number]!;
      const half = (region.tag.length * 8 + 18) / 2;
      const [x, y] = [region.x * scaleX + offsetX, region.y * scaleY + offsetY];
      const at = Math.min(Math.max(x, half), width - half);
      const isFree =
        x > -half &&
        x < width + half &&
        y > 0 &&
        y < height &&
        taken.every(([left, top, other]) => Math.abs(left - at) > half + other || Math.abs(top - y) > 24);
      label.style.visibility = isFree ? "visible" : "hidden";
      if (!isFree) return;
      taken.push([at, y, half]);
      label.style.transform = `translate(${at.toFixed(1)}px, ${y.toFixed(1)}px) translate(-50%, -50%)`;
    });
  }

  #nearest(event: MouseEvent): number | null {
    const { left, top } = this.node.getBoundingClientRect();
    const { scaleX, scaleY, offsetX, offsetY } = this.#view();
    const [x, y] = [event.clientX - left, event.clientY - top];
    const inside = this.#index.within((x - offsetX) / scaleX, (y - offsetY) / scaleY, NEAR / Math.min(scaleX, scaleY));
    let [best, least] = [null as number | null, NEAR ** 2];
    for (const row of inside) {
      if (!this.#states[row]) continue;
      const distance =
        (this.data.x[row]! * scaleX + offsetX - x) ** 2 + (this.data.y[row]! * scaleY + offsetY - y) ** 2;
      if (distance < least) [best, least] = [this.data.ids[row] ?? null, distance];
    }
    return best;
  }

  #point(id: number | null): void {
    const place = id === null ? null : this.#place(id);
    this.onPoint(place ? id : null, place?.[0] ?? 0, place?.[1] ?? 0);
  }

  readonly #onPointerMove = (event: PointerEvent): void => {
    if (event.pointerType === "mouse" && !event.buttons) this.#point(this.#nearest(event));
  };

  readonly #onPointerLeave = (): void => this.#point(null);

  readonly #onClick = (event: MouseEvent): void => {
    if (event.defaultPrevented || (event.target as Element).closest("button")) return;
    const id = this.#nearest(event);
    if (id !== null) this.onOpen(id);
  };

  readonly #onKey = (event: KeyboardEvent): void => {
    if (event.target !== this.node || event.ctrlKey || event.metaKey || event.altKey) return;
    const arrow = ARROWS[event.key];
    if (arrow) this.mark(this.#next(arrow));
    else if (event.key === "Enter" && this.#current !== null) this.onOpen(this.#current);
    else if (event.key === "Escape") this.mark(null);
    else if (event.key === "+" || event.key === "=") this.zoomBy(1.5);
    else if (event.key === "-") this.zoomBy(1 / 1.5);
    else if (event.key === "0") this.reset();
    else return;
    event.preventDefault();
    this.#point(this.#current);
  };

  /** The next track in a direction: near, and more along than across; without a current one, the one in the middle. */
  #next([right, down]: [number, number]): number | null {
    const { ids, x, y } = this.data;
    const row = this.#current === null ? undefined : this.#rows.get(this.#current);
    const [fromX, fromY] = row === undefined ? [0.5, 0.5] : [x[row]!, y[row]!];
    let [best, least] = [this.#current, Infinity];
    ids.forEach((id, other) => {
      if (other === row || (this.#shown && !this.#shown.has(id))) return;
      const [byX, byY] = [x[other]! - fromX, y[other]! - fromY];
      const along = row === undefined ? Math.hypot(byX, byY) : byX * right + byY * down;
      const across = row === undefined ? 0 : Math.abs(byX * down) + Math.abs(byY * right);
      if (along > 0 && across <= along && along + 2 * across < least) [best, least] = [id, along + 2 * across];
    });
    return best;
  }
}
