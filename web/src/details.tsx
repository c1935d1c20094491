// One track of the library: tags and why, relative to the library and absolute; corrections; similar tracks.

import { useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";

import { Evidence, NO_TAG, tagClass } from "./card";
import {
  audioOf,
  correct,
  type Decisions,
  type Details,
  loadDetails,
  loadSimilar,
  type Row,
  subtitle,
  tagsOf,
  trackOf,
  type Vocabulary,
} from "./catalogue";
import { hued } from "./colours";
import { Icon } from "./icons";
import { PickButton } from "./playlist";
import { PlayButton } from "./player";
import { TagSelect } from "./tag-picker";
import { Name } from "./name";
import { clock, evidence, percent } from "./text";
import { Timeline } from "./timeline";

/** Screens on which the details are below the map, as in the style. */
const NARROW = "(max-width: 60rem)";

export function TrackDetails({
  id,
  vocabulary,
  onChange,
}: {
  id: number;
  vocabulary: Vocabulary;
  onChange: (details: Details) => void;
}) {
  const details = useSignal<Details | null>(null);
  const similar = useSignal<Row[] | null>(null);
  const problem = useSignal("");
  // Whoever opens a track is taken to it; the map stays in view where there is room.
  const heading = useRef<HTMLHeadingElement>(null);
  const isLoaded = details.value !== null;
  useEffect(() => {
    heading.current?.focus({ preventScroll: true });
    if (isLoaded && matchMedia(NARROW).matches) heading.current?.closest(".panel")?.scrollIntoView();
  }, [isLoaded]);
  useEffect(() => {
    const controller = new AbortController();
    loadDetails(id, controller.signal).then(
      (found) => {
        details.value = found;
      },
      (error: Error) => {
        if (!controller.signal.aborted) problem.value = error.message;
      },
    );
    loadSimilar(id, controller.signal).then(
      (rows) => {
        similar.value = rows;
      },
      () => {
        similar.value = [];
      },
    );
    return () => controller.abort();
  }, [id]);
  const change = (values: { add?: string[]; remove?: string[] }) => {
    correct(id, values).then(
      (found) => {
        details.value = found;
        problem.value = "";
        onChange(found);
      },
      (error: Error) => {
        problem.value = error.message;
      },
    );
  };
  const back = (
    <a class="back" href="#library">
      <Icon name="back" /> All tracks
    </a>
  );
  const found = details.value;
  if (!found)
    return (
      <>
        {back}
        <p class={problem.value ? "problem" : "quiet loading"} role="status">
          {problem.value || "Loading the track …"}
        </p>
      </>
    );
  const track = trackOf(found, vocabulary);
  const source = audioOf(found);
  const isPlayable = !found.missing;
  const decisions = found.relative;
  return (
    <article class="details" aria-label={found.title}>
      {back}
      <div class="file-head">
        {isPlayable && <PlayButton track={source} />}
        <h2 ref={heading} tabIndex={-1}>
          <Name text={found.title} />
        </h2>
        <span class="number quiet">{found.duration === null ? "" : clock(found.duration)}</span>
        {track && <PickButton row={found} />}
      </div>
      <p class="facts quiet">
        {[found.artist, found.album, found.year, found.genre].filter(Boolean).map((fact) => (
          <bdi key={fact}>{fact}</bdi>
        ))}
        <bdi class="path">{found.path}</bdi>
      </p>
      {found.error && (
        <p class="problem" role="note">
          {found.error.message}
        </p>
      )}
      {found.missing && (
        <p class="problem" role="note">
          The file has gone since the last scan.
        </p>
      )}
      <p class="problem" role="alert">
        {problem.value}
      </p>
      {track && decisions && (
        <>
          <Correctable details={found} decisions={decisions} vocabulary={vocabulary} onChange={change} />
          <Timeline track={track} audio={isPlayable ? source : null} />
          <Reasons details={found} vocabulary={vocabulary} />
          <Evidence
            track={track}
            caption={`standard deviations above what is usual ${found.relative?.relative ? "in the library" : "in music"}; a tag needs more than 1`}
          />
        </>
      )}
      <Similar rows={similar.value} />
    </article>
  );
}

/** The tags of the track, each of which can be removed, and others added. */
function Correctable({
  details,
  decisions,
  vocabulary,
  onChange,
}: {
  details: Details;
  decisions: Decisions;
  vocabulary: Vocabulary;
  onChange: (change: { add?: string[]; remove?: string[] }) => void;
}) {
  const { decided } = decisions;
  const removed = details.removed ?? [];
  return (
    <div class="chips correctable">
      <ul class="moods" aria-label="Tags">
        {decided.map((tag) => (
          <li key={tag} class={vocabulary.themes.has(tag) ? "theme" : ""} style={hued(tag)}>
            {tag}
            {details.added?.includes(tag) && <span class="unseen"> (added by hand)</span>}
            <button
              type="button"
              aria-label={`${tag} does not fit`}
              title="does not fit"
              onClick={() => onChange({ remove: [tag] })}>
              <Icon name="close" />
            </button>
          </li>
        ))}
        {!decided.length && <li class="none">{NO_TAG}</li>}
      </ul>
      <TagSelect
        vocabulary={vocabulary}
        without={decided}
        first="Add a tag …"
        label="Add a tag to the track"
        onChoose={(tag) => onChange({ add: [tag] })}
      />
      {removed.length > 0 && (
        <p class="quiet">
          removed by hand:{" "}
          {removed.map((tag) => (
            <button
              key={tag}
              type="button"
              class="link"
              aria-label={`${tag} fits after all`}
              onClick={() => onChange({ add: [tag] })}>
              {tag}
            </button>
          ))}
        </p>
      )}
    </div>
  );
}

/** Decisions relative to the library beside absolute ones, with the reason for each tag. */
function Reasons({ details, vocabulary }: { details: Details; vocabulary: Vocabulary }) {
  const columns = [
    ["In your library", details.relative],
    ["Among music in general", details.absolute],
  ] as const;
  return (
    <div class="reasons">
      {columns.map(
        ([heading, decisions]) =>
          decisions && (
            <div key={heading}>
              <h3>{heading}</h3>
              <ul>
                {tagsOf(decisions, vocabulary)
                  .filter(({ isDecided }) => isDecided)
                  .map((tag) => (
                    <li key={tag.name} style={hued(tag.name)}>
                      <span class={tagClass(tag)}>{tag.name}</span> <span class="number">{evidence(tag.evidence)}</span>
                      <span class="quiet why">{tag.why}</span>
                    </li>
                  ))}
                {!decisions.decided.length && <li class="quiet">{NO_TAG}</li>}
              </ul>
            </div>
          ),
      )}
    </div>
  );
}

function Similar({ rows }: { rows: Row[] | null }) {
  if (rows === null || !rows.length) return null;
  const sources = rows.map(audioOf);
  return (
    <section class="similar">
      <h3>Similar tracks</h3>
      <ul class="rows">
        {rows.map((row, place) => (
          <li key={row.id}>
            <PlayButton track={sources[place]!} among={sources} small />
            <div class="what">
              <a class="title" href={`#library/${row.id}`}>
                <Name text={row.title} />
              </a>
              <bdi class="quiet">{subtitle(row)}</bdi>
            </div>
            <span class="number quiet" title="cosine of embeddings">
              {percent(row.similarity ?? 0)}
            </span>
            <PickButton row={row} />
          </li>
        ))}
      </ul>
    </section>
  );
}
