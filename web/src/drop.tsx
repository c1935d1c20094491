// The view *Drop*: files are dropped or chosen, tagged one after the other, and shown.

import { useSignal } from "@preact/signals";
import { useEffect, useMemo, useRef } from "preact/hooks";

import { Chips, Evidence, Warnings } from "./card";
import { hued } from "./colours";
import { Icon } from "./icons";
import { PlayButton } from "./player";
import { asCsv, asJson, type Entry, type Item, keyOf, type Queue, save } from "./queue";
import { Ribbon, Timeline } from "./timeline";
import { runs } from "./ribbon";
import { Name } from "./name";
import { clock, counted, duration, percent } from "./text";
import type { Progress } from "./tagger";
import { decided, type Track } from "./track";

/** Up to this number of files, details are open. */
const FEW = 3;
const FEW_TAGS = 5;

export function Drop({ queue }: { queue: Queue }) {
  const model = useSignal("");
  const entries = queue.entries.value;
  useEffect(() => {
    document.title = "moodfield";
    queue.tagger.model().then(
      (name) => {
        model.value = name;
      },
      () => undefined,
    ); // a request that matters will say why
  }, []);
  return (
    <main class={entries.length ? "drop" : "drop blank"}>
      <h1 class={entries.length ? "unseen" : ""}>What does your music feel like?</h1>
      <Zone queue={queue} isSmall={entries.length > 0} />
      {!entries.length && (
        <p class="quiet hint">
          {queue.tagger.place}
          {model.value && (
            <>
              <br />
              Model: <bdi>{model.value}</bdi>
            </>
          )}
        </p>
      )}
      {queue.problem.value && (
        <p class="problem" role="alert">
          {queue.problem.value}
        </p>
      )}
      <LeftOut names={queue.leftOut.value} />
      {entries.length > 0 && <Summary queue={queue} />}
      <ol class="files">
        {entries.map((entry) => (
          <File key={entry.peek().id} entry={entry} queue={queue} isFew={entries.length <= FEW} />
        ))}
      </ol>
    </main>
  );
}

/** Where files are dropped: the whole window, and a button to choose them. */
function Zone({ queue, isSmall }: { queue: Queue; isSmall: boolean }) {
  const input = useRef<HTMLInputElement>(null);
  const isOver = useSignal(false);
  useEffect(() => {
    const hasFiles = (event: DragEvent) => event.dataTransfer?.types.includes("Files") ?? false;
    const over = (event: DragEvent) => {
      if (!hasFiles(event)) return;
      event.preventDefault();
      isOver.value = true;
    };
    const leave = (event: DragEvent) => {
      if (!event.relatedTarget) isOver.value = false;
    };
    const drop = (event: DragEvent) => {
      isOver.value = false;
      if (!hasFiles(event)) return;
      event.preventDefault();
      void queue.addDropped(event.dataTransfer!);
    };
    const listeners = { dragover: over, dragleave: leave, drop } as const;
    for (const [name, listener] of Object.entries(listeners)) addEventListener(name, listener as EventListener);
    return () => {
      for (const [name, listener] of Object.entries(listeners)) removeEventListener(name, listener as EventListener);
    };
  }, [queue]);
  return (
    <div class={`zone${isSmall ? " small" : ""}${isOver.value ? " over" : ""}`}>
      {!isSmall && <Motif />}
      <p class={isOver.value ? "letting" : ""}>
        {isOver.value ? "Let go to tag" : isSmall ? "Drop more music, or" : "Drop music here, files or folders, or"}
      </p>
      <button type="button" class={isSmall ? "" : "primary"} onClick={() => input.current?.click()}>
        choose files
      </button>
      <input
        ref={input}
        type="file"
        multiple
        hidden
        accept="audio/*,.opus,.flac,.wma,.ape,.wv"
        aria-label="Files to tag"
        onChange={(event) => {
          queue.add([...(event.currentTarget.files ?? [])]);
          event.currentTarget.value = "";
        }}
      />
    </div>
  );
}

/** A ribbon of moods, as a picture of what will come. */
function Motif() {
  const tags = ["calm", "dream", "hopeful", "happy", "energetic", "epic", "dark", "sad", "love"];
  return (
    <div class="motif" aria-hidden="true">
      {tags.map((tag) => (
        <i key={tag} style={hued(tag)} />
      ))}
    </div>
  );
}

function LeftOut({ names }: { names: readonly string[] }) {
  if (!names.length) return null;
  const some = names.slice(0, 3).join(", ");
  return (
    <p class="note" role="status">
      {counted(names.length, "file")} without audio {names.length === 1 ? "was" : "were"} left out: <bdi>{some}</bdi>
      {names.length > 3 && ", …"}
    </p>
  );
}

/** How far the work is, and what can be done with all of it. */
function Summary({ queue }: { queue: Queue }) {
  const { waiting, tagging, done, failed } = queue.counts.value;
  const total = waiting + tagging + done + failed;
  const isBusy = waiting + tagging > 0;
  const left = queue.secondsLeft.value;
  const items = () => queue.entries.peek().map((entry) => entry.peek());
  return (
    <div class="summary">
      <p role="status">
        {isBusy ? `${done + failed} of ${counted(total, "file")} tagged` : `${counted(done, "file")} tagged`}
        {failed > 0 && <span class="problem">{`, ${failed} failed`}</span>}
        {isBusy && left !== null && <span class="quiet">{`, about ${duration(Math.max(left, 1))} left`}</span>}
      </p>
      {isBusy && total > 1 && <progress max={total} value={done + failed} aria-label="Files tagged" />}
      <span class="actions">
        {done > 0 && (
          <button type="button" onClick={() => save("moods.jsonl", asJson(items()), "application/jsonl")}>
            Save JSON
          </button>
        )}
        {done > 0 && (
          <button type="button" onClick={() => save("moods.csv", asCsv(items()), "text/csv")}>
            Save CSV
          </button>
        )}
        {isBusy ? (
          <button type="button" onClick={() => queue.cancel()}>
            Cancel
          </button>
        ) : (
          <button type="button" onClick={() => queue.clear()}>
            Clear
          </button>
        )}
      </span>
    </div>
  );
}

function File({ entry, queue, isFew }: { entry: Entry; queue: Queue; isFew: boolean }) {
  const isOpen = useSignal<boolean | null>(null);
  const item = entry.value;
  const { file, state, tagged, error } = item;
  if (state === "failed") {
    return (
      <li class="file failed">
        <div>
          <Name text={file.name} />
          <p class="problem">{error}</p>
        </div>
        <span class="actions">
          <button type="button" onClick={() => queue.retry(entry)}>
            Try again
          </button>
          <Remove name={file.name} onRemove={() => queue.remove(entry)} />
        </span>
      </li>
    );
  }
  if (!tagged) {
    return (
      <li class="file">
        <Name text={file.name} />
        {state === "tagging" && item.progress ? (
          <Working progress={item.progress} name={file.name} />
        ) : (
          <span class="quiet">waiting</span>
        )}
      </li>
    );
  }
  const open = isOpen.value ?? isFew;
  return (
    <li class="file done">
      <FileHead
        item={item}
        track={tagged.track}
        isOpen={open}
        onToggle={() => {
          isOpen.value = !open;
        }}
        onRemove={() => queue.remove(entry)}
      />
      {open && <FileDetails item={item} track={tagged.track} />}
    </li>
  );
}

function FileHead({
  item,
  track,
  isOpen,
  onToggle,
  onRemove,
}: {
  item: Item;
  track: Track;
  isOpen: boolean;
  onToggle: () => void;
  onRemove: () => void;
}) {
  const ribbon = useMemo(() => runs(track, false), [track]);
  return (
    <div class="file-head">
      <PlayButton track={audioOf(item, track)} />
      <h2>
        <button type="button" class="title" aria-expanded={isOpen} onClick={onToggle}>
          <Name text={track.title} />
        </button>
      </h2>
      {!isOpen && <Ribbon all={ribbon} />}
      {!isOpen && (
        <span class="few-tags">
          {decided(track)
            .slice(0, FEW_TAGS)
            .map(({ name, isTheme }) => (
              <span key={name} class={isTheme ? "theme" : ""} style={hued(name)}>
                {name}
              </span>
            ))}
          {!decided(track).length && "no tag"}
          {track.warnings.length > 0 && <span class="problem">with faults</span>}
        </span>
      )}
      <span class="number quiet">{clock(track.seconds)}</span>
      <Remove name={item.file.name} onRemove={onRemove} />
    </div>
  );
}

function FileDetails({ item, track }: { item: Item; track: Track }) {
  return (
    <article aria-label={track.title}>
      <Chips track={track} />
      <Warnings lines={track.warnings} />
      <Timeline track={track} audio={audioOf(item, track)} />
      <Evidence track={track} caption="standard deviations above what is usual; a tag needs more than 1" />
    </article>
  );
}

function Remove({ name, onRemove }: { name: string; onRemove: () => void }) {
  return (
    <button type="button" class="plain" aria-label={`Remove ${name}`} onClick={onRemove}>
      <Icon name="close" />
    </button>
  );
}

function Working({ progress, name }: { progress: Progress; name: string }) {
  const share = progress.stage === "waiting" ? undefined : progress.share;
  const words =
    progress.stage === "waiting"
      ? `the server is busy, next try in ${progress.seconds} s`
      : share === undefined
        ? progress.stage
        : `${progress.stage}, ${percent(share)}`;
  return (
    <span class="working">
      <span class="quiet">{words}</span>
      <progress max="1" value={share} aria-label={`${progress.stage === "sending" ? "Sending" : "Tagging"} ${name}`} />
    </span>
  );
}

function audioOf(item: Item, track: Track) {
  return { key: keyOf(item.id), title: track.title, subtitle: track.subtitle, seconds: track.seconds, url: item.url };
}
