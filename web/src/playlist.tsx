// The playlist: tracks that were picked, or made by moods or as a journey, in an order that can be changed.

import { computed, effect, signal, useSignal } from "@preact/signals";

import { audioOf, makePlaylist, playlistFile, type Row, subtitle, type Vocabulary, type Wish } from "./catalogue";
import { Icon } from "./icons";
import { PlayButton } from "./player";
import { save } from "./queue";
import { Name } from "./name";
import { store, stored } from "./storage";
import { clock, counted, duration } from "./text";
import { TagPicker } from "./tag-picker";

const KEY = "moodfield-playlist";
const MINUTES = 45;

export const playlist = signal<readonly Row[]>(restore());
/** What the playlist was before it was replaced as a whole; null after changes by hand. */
const former = signal<readonly Row[] | null>(null);
export const playlistIds = computed(() => playlist.value.map(({ id }) => id));
export const playlistSet = computed<ReadonlySet<number>>(() => new Set(playlistIds.value));

effect(() => {
  const rows = playlist.value.map(({ id, path, title, artist, duration: seconds }) => ({
    id,
    path,
    title,
    artist,
    duration: seconds,
  }));
  store(KEY, JSON.stringify(rows));
});

function restore(): Row[] {
  try {
    return JSON.parse(stored(KEY) ?? "[]");
  } catch {
    return []; // written by something else
  }
}

function replace(rows: readonly Row[]): void {
  former.value = playlist.value.length ? playlist.value : null;
  playlist.value = rows;
}

function edit(rows: readonly Row[]): void {
  former.value = null;
  playlist.value = rows;
}

function removeAt(place: number): void {
  edit(playlist.value.filter((_, other) => other !== place));
}

function move(from: number, to: number): void {
  if (to < 0 || to >= playlist.value.length) return;
  const rows = [...playlist.value];
  rows.splice(to, 0, ...rows.splice(from, 1));
  edit(rows);
}

/** Adds a track to the playlist, or takes it out. */
export function PickButton({ row }: { row: Row }) {
  const isIn = playlistIds.value.includes(row.id);
  return (
    <button
      type="button"
      class="plain pick"
      aria-pressed={isIn}
      aria-label={`${row.title} in the playlist`}
      title={isIn ? "Take out of the playlist" : "Add to the playlist"}
      onClick={() => {
        edit(isIn ? playlist.value.filter(({ id }) => id !== row.id) : [...playlist.value, row]);
      }}>
      <Icon name={isIn ? "check" : "add"} />
    </button>
  );
}

export function PlaylistPanel({ vocabulary, onOpen }: { vocabulary: Vocabulary; onOpen: (id: number) => void }) {
  const problem = useSignal("");
  const rows = playlist.value;
  const seconds = rows.reduce((sum, row) => sum + (row.duration ?? 0), 0);
  const sources = rows.map(audioOf);
  const exportFile = () => {
    problem.value = "";
    playlistFile(playlistIds.value).then(
      (content) => save("playlist.m3u8", content, "audio/x-mpegurl"),
      (error: Error) => {
        problem.value = error.message;
      },
    );
  };
  return (
    <div class="playlist">
      <Maker vocabulary={vocabulary} />
      {rows.length === 0 ? (
        <p class="quiet none">
          The playlist is empty. Add tracks by the + beside them, or choose moods above. From two tracks, a journey
          between them can be made. <Undo />
        </p>
      ) : (
        <>
          <div class="summary">
            <p role="status">
              {counted(rows.length, "track")}, {duration(seconds)}
            </p>
            <span class="actions">
              <button type="button" class="primary" onClick={exportFile}>
                Export M3U8
              </button>
              <Undo />
              <button type="button" onClick={() => replace([])}>
                Clear
              </button>
            </span>
          </div>
          <p class="problem" role="alert">
            {problem.value}
          </p>
          <ol class="rows">
            {rows.map((row, place) => (
              <li key={row.id}>
                <PlayButton track={sources[place]!} among={sources} small />
                <div class="what">
                  <button type="button" class="title" onClick={() => onOpen(row.id)}>
                    <Name text={row.title} />
                  </button>
                  <bdi class="quiet">{subtitle(row)}</bdi>
                </div>
                <span class="number quiet">{row.duration === null ? "" : clock(row.duration)}</span>
                <span class="order">
                  <button
                    type="button"
                    class="plain"
                    disabled={place === 0}
                    aria-label={`Move ${row.title} up`}
                    onClick={() => move(place, place - 1)}>
                    <Icon name="up" />
                  </button>
                  <button
                    type="button"
                    class="plain"
                    disabled={place === rows.length - 1}
                    aria-label={`Move ${row.title} down`}
                    onClick={() => move(place, place + 1)}>
                    <Icon name="down" />
                  </button>
                  <button
                    type="button"
                    class="plain"
                    aria-label={`Take ${row.title} out of the playlist`}
                    onClick={() => removeAt(place)}>
                    <Icon name="close" />
                  </button>
                </span>
              </li>
            ))}
          </ol>
        </>
      )}
    </div>
  );
}

/** Brings back the playlist that was cleared, or replaced by another one. */
function Undo() {
  const rows = former.value;
  return (
    rows && (
      <button type="button" onClick={() => replace(rows)}>
        Undo
      </button>
    )
  );
}

/** Makes a playlist: of moods, or as a journey from the first to the last track that was picked. */
function Maker({ vocabulary }: { vocabulary: Vocabulary }) {
  const wanted = useSignal<string[]>([]);
  const unwanted = useSignal<string[]>([]);
  const minutes = useSignal(MINUTES);
  const energy = useSignal<Wish["energy"] | "">("");
  const seed = useSignal(0);
  const words = useSignal<{ text: string; isProblem: boolean }>({ text: "", isProblem: false });
  const isBusy = useSignal(false);
  const [first, last] = [playlist.value[0], playlist.value.at(-1)];
  const isJourney = first !== undefined && last !== undefined && first.id !== last.id;

  const make = (wish: Wish) => {
    isBusy.value = true;
    makePlaylist(wish)
      .then(
        ({ tracks, message }) => {
          replace(tracks);
          words.value = { text: message ?? "", isProblem: false };
        },
        (error: Error) => {
          words.value = { text: error.message, isProblem: true };
        },
      )
      .finally(() => {
        isBusy.value = false;
      });
  };
  const byMoods = (number: number) => {
    seed.value = number;
    make({
      minutes: minutes.value,
      tags: wanted.value,
      not: unwanted.value,
      ...(energy.value ? { energy: energy.value } : {}),
      ...(number ? { seed: number } : {}),
    });
  };
  return (
    <form
      class="maker"
      aria-label="Make a playlist"
      onSubmit={(event) => {
        event.preventDefault();
        byMoods(0);
      }}>
      <TagPicker
        label="Moods and themes"
        chosen={wanted.value}
        vocabulary={vocabulary}
        onChange={(tags) => {
          wanted.value = tags;
        }}
      />
      <TagPicker
        label="Without"
        chosen={unwanted.value}
        vocabulary={vocabulary}
        onChange={(tags) => {
          unwanted.value = tags;
        }}
      />
      <label class="field minutes">
        <span>Minutes</span>
        <input
          type="number"
          min="1"
          max="1440"
          required
          value={minutes.value}
          onInput={(event) => {
            minutes.value = Number(event.currentTarget.value);
          }}
        />
      </label>
      <label class="field">
        <span>Energy</span>
        <select
          value={energy.value}
          onChange={(event) => {
            energy.value = event.currentTarget.value as Wish["energy"] | "";
          }}>
          <option value="">as it comes</option>
          <option value="rising">rising</option>
          <option value="falling">falling</option>
          <option value="peak">peak in the middle</option>
        </select>
      </label>
      <span class="actions">
        <button type="submit" class="primary" disabled={isBusy.value || !wanted.value.length}>
          Make a playlist
        </button>
        {wanted.value.length > 0 && playlist.value.length > 0 && (
          <button type="button" disabled={isBusy.value} onClick={() => byMoods(seed.value + 1)}>
            Another
          </button>
        )}
        <button
          type="button"
          disabled={isBusy.value || !isJourney}
          title={isJourney ? `From ${first.title} to ${last.title}` : "Pick a first and a last track"}
          onClick={() => {
            if (isJourney) make({ minutes: minutes.value, from: first.id, to: last.id });
          }}>
          Journey from first to last
        </button>
      </span>
      <p class={words.value.isProblem ? "problem" : "quiet"} role="status">
        {words.value.text}
      </p>
    </form>
  );
}
