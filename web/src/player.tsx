// One audio element for the whole page, and the bar that shows what it plays.

import { computed, effect, signal } from "@preact/signals";

import { Problem, request } from "./api";
import { Icon } from "./icons";
import { Name } from "./name";
import { clock } from "./text";

export interface Source {
  /** What identifies the track among all that can be played. */
  key: string;
  title: string;
  subtitle: string;
  seconds: number;
  /** Address of the audio. */
  url: string;
}

/** Statuses with which no other track can be played. */
const [UNREACHABLE, UNAUTHORIZED] = [0, 401];
/** How far the bar moves by an arrow key, in seconds. */
const STEP = 5;
const DIRECTIONS: Record<string, number> = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1 };
const audio = new Audio();
audio.preload = "metadata";

export const source = signal<Source | null>(null);
export const isPlaying = signal(false);
export const position = signal(0);
const failure = signal("");
const playingKey = computed(() => source.value?.key ?? null);
let queue: Source[] = [];

for (const event of ["play", "pause", "ended"]) {
  audio.addEventListener(event, () => {
    isPlaying.value = !audio.paused && !audio.ended;
  });
}
audio.addEventListener("ended", playNext);
audio.addEventListener("error", async () => {
  const failed = source.value;
  if (!failed) return;
  audio.pause(); // an element that fails counts as one that plays
  const { status, message } = await reason(failed);
  if (source.value !== failed) return; // another track was chosen
  if (status !== UNREACHABLE && status !== UNAUTHORIZED) playNext();
  failure.value = `${failed.title}: ${message}`;
});

// While it plays, the position follows the screen; `timeupdate` alone would move in jumps.
effect(() => {
  if (!isPlaying.value) return undefined;
  let frame = requestAnimationFrame(function follow() {
    position.value = audio.currentTime;
    frame = requestAnimationFrame(follow);
  });
  return () => cancelAnimationFrame(frame);
});

function playNext(): void {
  const next = queue[queue.findIndex(({ key }) => key === playingKey.value) + 1];
  if (next) play(next, { among: queue });
}

/** Why the audio element cannot play a track: it does not tell a refusal of the server from a format. */
async function reason({ url }: Source): Promise<Problem> {
  try {
    if (!url.startsWith("blob:")) await request(url, { headers: { Range: "bytes=0-0" } });
  } catch (error) {
    if (error instanceof Problem) return error;
  }
  return new Problem(200, "This browser cannot play the file.");
}

/** Plays a track from a time on; when it ends, the next one of `among` follows. Goes on with a track that plays. */
export function play(next: Source, { at, among }: { at?: number; among?: Source[] } = {}): void {
  const isOther = playingKey.peek() !== next.key;
  if (isOther || among) queue = among ?? [];
  if (isOther || audio.error) {
    source.value = next;
    failure.value = "";
    audio.src = next.url;
    position.value = at ?? 0;
  }
  if (at !== undefined) seek(at);
  void audio.play().catch(() => undefined); // the error event has the reason
}

export function toggle(track: Source, among?: Source[]): void {
  if (playingKey.peek() === track.key && isPlaying.peek()) audio.pause();
  else play(track, among ? { among } : {});
}

export function seek(seconds: number): void {
  audio.currentTime = seconds;
  position.value = seconds;
}

/** Stops, and lets go of a track that is removed. */
export function release(key: string): void {
  if (playingKey.peek() !== key) return;
  audio.pause();
  source.value = null;
  audio.removeAttribute("src");
}

/** A round button that plays and pauses a track. */
export function PlayButton({ track, among, small = false }: { track: Source; among?: Source[]; small?: boolean }) {
  const isThis = playingKey.value === track.key && isPlaying.value;
  return (
    <button
      type="button"
      class={small ? "play small" : "play"}
      aria-label={`${isThis ? "Pause" : "Play"} ${track.title}`}
      onClick={() => toggle(track, among)}>
      <Icon name={isThis ? "pause" : "play"} />
    </button>
  );
}

/** The bar at the bottom: what plays, and where. */
export function PlayerBar() {
  const track = source.value;
  if (!track) return null;
  const end = audio.duration > 0 && Number.isFinite(audio.duration) ? audio.duration : track.seconds;
  const at = Math.min(position.value, end);
  return (
    <section class="player" aria-label="Player">
      <PlayButton track={track} />
      <div class="playing">
        <Name text={track.title} /> <bdi class="quiet">{track.subtitle}</bdi>
        {failure.value && (
          <span class="problem" role="alert">
            {failure.value}
          </span>
        )}
      </div>
      <span class="number quiet">{clock(at)}</span>
      <input
        type="range"
        min="0"
        max={end || 1}
        step="0.1"
        value={at}
        aria-label="Position"
        aria-valuetext={`${clock(at)} of ${clock(end)}`}
        style={{ "--share": `${(100 * at) / (end || 1)}%` }}
        onInput={(event) => seek(Number(event.currentTarget.value))}
        onKeyDown={(event) => {
          const direction = DIRECTIONS[event.key];
          if (direction === undefined) return;
          event.preventDefault();
          seek(Math.min(Math.max(at + direction * STEP, 0), end));
        }}
      />
      <span class="number quiet">{clock(end)}</span>
      <button type="button" class="plain" aria-label="Close the player" onClick={() => release(track.key)}>
        <Icon name="close" />
      </button>
    </section>
  );
}
