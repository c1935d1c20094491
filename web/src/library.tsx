// The view *Library*: a map and a list of all tracks, with filters, one track in detail, and the playlist.

import { useSignal } from "@preact/signals";
import type { ComponentChildren } from "preact";
import { useCallback, useEffect, useRef } from "preact/hooks";

import { isLocal } from "./api";
import {
  audioOf,
  type Details,
  type Filters,
  isFiltered,
  listTracks,
  loadMap,
  loadRow,
  loadVocabulary,
  NO_FILTERS,
  type Page,
  type Row,
  subtitle,
  type Vocabulary,
} from "./catalogue";
import type { MapData } from "./chart";
import { hued } from "./colours";
import { TrackDetails } from "./details";
import { FilterBar } from "./filter-bar";
import { TrackMap } from "./map";
import { PickButton, PlaylistPanel, playlist, playlistIds, playlistSet } from "./playlist";
import { PlayButton } from "./player";
import { FolderForm, followRunning, ScanProgress } from "./scan";
import { Name } from "./name";
import { clock, count, counted } from "./text";

/** Milliseconds without a key after which the search begins. */
const PAUSE = 180;
const FEW_TAGS = 4;
const NO_PATH: readonly number[] = [];

interface Loaded {
  vocabulary: Vocabulary;
  map: MapData;
}

export function Library({ track }: { track: number | null }) {
  const loaded = useSignal<Loaded | null>(null);
  const problem = useSignal("");
  /** Number of the last renewal, whose answer alone counts: an older one may be later. */
  const last = useRef(0);
  const load = useCallback(() => {
    const number = ++last.current;
    Promise.all([loadVocabulary(), loadMap()]).then(
      ([vocabulary, map]) => {
        if (number !== last.current) return;
        loaded.value = { vocabulary, map };
        problem.value = "";
      },
      (error: Error) => {
        if (number === last.current) problem.value = error.message;
      },
    );
  }, []);
  useEffect(() => {
    document.title = "Library – moodfield";
    load();
    void followRunning().catch(() => undefined); // what matters is asked for again
  }, []);
  const failure = problem.value ? <Failure message={problem.value} onRetry={load} /> : null;
  if (!loaded.value)
    return failure ? (
      <main class="narrow">
        <h1>The library cannot be read</h1>
        {failure}
      </main>
    ) : (
      <main>
        <p class="quiet loading" role="status">
          Loading the library …
        </p>
      </main>
    );
  if (!loaded.value.map.ids.length) return <Empty failure={failure} onChange={load} />;
  return <Tracks {...loaded.value} failure={failure} track={track} onChange={load} />;
}

/** Why the library cannot be read, or read again. */
function Failure({ message, onRetry }: { message: string; onRetry: () => void }) {
  return (
    <div class="summary">
      <p class="problem" role="alert">
        {message}
      </p>
      <button type="button" onClick={onRetry}>
        Try again
      </button>
    </div>
  );
}

/** A library without tracks: what to do. */
function Empty({ failure, onChange }: { failure: ComponentChildren; onChange: () => void }) {
  return (
    <main class="narrow empty">
      <h1>Your library is empty</h1>
      <p>
        Give a folder of {isLocal ? "this computer" : "the computer that runs this server"}. All music in it and below
        is tagged once and mapped by mood; then you can search it, find similar tracks, and make playlists. Files are
        only read, never changed.
      </p>
      <FolderForm isFirst />
      <ScanProgress onChange={onChange} />
      {failure}
    </main>
  );
}

function Tracks({
  vocabulary,
  map,
  failure,
  track,
  onChange,
}: Loaded & { failure: ComponentChildren; track: number | null; onChange: () => void }) {
  const filters = useSignal<Filters>(NO_FILTERS);
  const page = useSignal<Page | null>(null);
  const shown = useSignal<ReadonlySet<number> | null>(null);
  const problem = useSignal("");
  const panel = useSignal<"tracks" | "playlist">("tracks");
  const isAdding = useSignal(false);
  const changes = useSignal(0);
  const rows = useRef(new Map<number, Row>());
  /** Of the list that is shown; aborted once the filters are others. */
  const listing = useRef(new AbortController());
  const keep = (found: readonly Row[]) => {
    for (const row of found) rows.current.set(row.id, row);
  };

  // The list and the map follow the filters, after a pause in typing.
  const wanted = filters.value;
  useEffect(() => {
    const controller = new AbortController();
    const timer = setTimeout(
      () => {
        listTracks(wanted, vocabulary, null, controller.signal).then(
          (found) => {
            keep(found.tracks);
            listing.current = controller;
            page.value = found;
            shown.value = isFiltered(wanted) ? new Set(found.ids) : null;
            problem.value = "";
          },
          (error: Error) => {
            if (!controller.signal.aborted) problem.value = error.message;
          },
        );
      },
      page.value ? PAUSE : 0,
    );
    return () => {
      clearTimeout(timer);
      controller.abort();
    };
  }, [wanted, changes.value]);
  useEffect(() => {
    if (track !== null) panel.value = "tracks";
  }, [track]);

  const more = () => {
    const last = page.value!;
    const { signal } = listing.current;
    void listTracks(filters.value, vocabulary, last.next, signal).then(
      (found) => {
        if (page.value !== last) return; // another answer was first
        keep(found.tracks);
        page.value = { ...found, tracks: [...last.tracks, ...found.tracks] };
      },
      (error: Error) => {
        if (!signal.aborted) problem.value = error.message;
      },
    );
  };
  const describe = useCallback(async (id: number) => {
    const row = rows.current.get(id) ?? (await loadRow(id));
    rows.current.set(id, row);
    return { title: row.title, subtitle: subtitle(row), tags: row.decided ?? [] };
  }, []);
  const open = useCallback((id: number) => {
    location.hash = `library/${id}`;
  }, []);
  const isPlaylist = panel.value === "playlist" && playlist.value.length > 0;
  const tag = wanted.tags.length === 1 ? wanted.tags[0]! : null;
  return (
    <main class="library">
      <h1 class="unseen">Library</h1>
      <FilterBar
        filters={filters.value}
        vocabulary={vocabulary}
        onChange={(value) => {
          filters.value = value;
          panel.value = "tracks";
          if (track !== null) location.hash = "library";
        }}>
        <button
          type="button"
          aria-expanded={isAdding.value}
          onClick={() => {
            isAdding.value = !isAdding.value;
          }}>
          Add music
        </button>
      </FilterBar>
      {isAdding.value && <FolderForm isFirst={false} />}
      <ScanProgress
        onChange={(isEnd) => {
          onChange();
          if (isEnd) changes.value += 1;
        }}
      />
      {failure}
      <div class="columns">
        <TrackMap
          data={map}
          shown={isPlaylist ? playlistSet.value : shown.value}
          tag={isPlaylist ? null : tag}
          path={isPlaylist ? playlistIds.value : NO_PATH}
          current={track}
          describe={describe}
          onOpen={open}
        />
        <div class="panel">
          <div class="tabs">
            <button
              type="button"
              aria-pressed={panel.value === "tracks"}
              onClick={() => {
                panel.value = "tracks";
              }}>
              Tracks <span class="number">{page.value ? count(page.value.total) : ""}</span>
            </button>
            <button
              type="button"
              aria-pressed={panel.value === "playlist"}
              onClick={() => {
                panel.value = "playlist";
              }}>
              Playlist <span class="number">{count(playlist.value.length)}</span>
            </button>
          </div>
          <p class="problem" role="alert">
            {problem.value}
          </p>
          {panel.value === "playlist" ? (
            <PlaylistPanel vocabulary={vocabulary} onOpen={open} />
          ) : track !== null ? (
            <TrackDetails
              key={track}
              id={track}
              vocabulary={vocabulary}
              onChange={(details: Details) => {
                rows.current.set(details.id, details);
                changes.value += 1;
                onChange();
              }}
            />
          ) : (
            <List
              page={page.value}
              total={map.ids.length}
              isFiltered={isFiltered(wanted)}
              onMore={more}
              onClear={() => {
                filters.value = NO_FILTERS;
              }}
            />
          )}
        </div>
      </div>
    </main>
  );
}

function List({
  page,
  total,
  isFiltered: isSome,
  onMore,
  onClear,
}: {
  page: Page | null;
  total: number;
  isFiltered: boolean;
  onMore: () => void;
  onClear: () => void;
}) {
  if (!page)
    return (
      <p class="quiet loading" role="status">
        Loading tracks …
      </p>
    );
  const sources = page.tracks.map(audioOf);
  return (
    <>
      <p class="quiet found" role="status">
        {isSome && `${count(page.total)} of ${counted(total, "track")}`}
      </p>
      {isSome && page.total === 0 && (
        <p class="none">
          No track fits.{" "}
          <button type="button" class="link" onClick={onClear}>
            Show all tracks
          </button>
        </p>
      )}
      <table class="rows">
        <caption class="unseen">Tracks</caption>
        <thead class="unseen">
          <tr>
            <th>Play</th>
            <th>Track</th>
            <th>Tags</th>
            <th>Length</th>
            <th>Playlist</th>
          </tr>
        </thead>
        <tbody>
          {page.tracks.map((row, place) => (
            <tr key={row.id}>
              <td>{!row.missing && !row.error && <PlayButton track={sources[place]!} among={sources} small />}</td>
              <td class="what">
                <a class="title" href={`#library/${row.id}`}>
                  <Name text={row.title} />
                </a>
                <bdi class="quiet">{subtitle(row)}</bdi>
              </td>
              <td class="few-tags">
                {row.error ? (
                  <span class="problem">{row.error.message}</span>
                ) : row.missing ? (
                  <span class="problem">the file has gone</span>
                ) : (
                  (row.decided ?? []).slice(0, FEW_TAGS).map((tag) => (
                    <span key={tag} class={row.themes?.includes(tag) ? "theme" : ""} style={hued(tag)}>
                      {tag}
                    </span>
                  ))
                )}
              </td>
              <td class="number quiet">{row.duration === null ? "" : clock(row.duration)}</td>
              <td>{row.model && <PickButton row={row} />}</td>
            </tr>
          ))}
        </tbody>
      </table>
      {page.next && (
        <button type="button" class="more" onClick={onMore}>
          Show more
        </button>
      )}
    </>
  );
}
