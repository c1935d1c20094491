// The page: its views, the player, and the question for a token.

import { signal, useSignal } from "@preact/signals";
import type { ComponentType } from "preact";
import { useEffect } from "preact/hooks";

import { isLocked, openSession } from "./api";
import { Drop } from "./drop";
import { PlayerBar } from "./player";
import { Queue } from "./queue";
import { ServerTagger } from "./tagger";

const queue = new Queue(new ServerTagger());
const address = signal(location.hash);
addEventListener("hashchange", () => {
  address.value = location.hash;
});

export function App() {
  const isLibrary = address.value.startsWith("#library");
  const Library = useSignal<ComponentType<{ track: number | null }> | null>(null);
  const problem = useSignal("");
  useEffect(() => {
    void openSession().catch(() => undefined);
  }, []); // 401 opens the question for the token
  useEffect(() => {
    if (!isLibrary || Library.value) return;
    import("./library").then(
      (module) => {
        Library.value = module.Library;
      },
      () => {
        problem.value = "This part of the page cannot be loaded. Is moodfield serve still running?";
      },
    );
  }, [isLibrary]);
  const track = /^#library\/(\d+)$/.exec(address.value)?.[1];
  return (
    <>
      <a class="skip" href="#content" onClick={skip}>
        Skip to the content
      </a>
      <header class="top">
        <a class="brand" href="#drop">
          moodfield
        </a>
        <nav aria-label="Views">
          <a href="#drop" aria-current={isLibrary ? undefined : "page"}>
            Drop
          </a>
          <a href="#library" aria-current={isLibrary ? "page" : undefined}>
            Library
          </a>
        </nav>
      </header>
      <div id="content" tabIndex={-1}>
        {isLocked.value ? (
          <Unlock />
        ) : !isLibrary ? (
          <Drop queue={queue} />
        ) : Library.value ? (
          <Library.value track={track ? Number(track) : null} />
        ) : (
          <main>
            <p class="quiet" role="status">
              {problem.value || "Loading the library …"}
            </p>
          </main>
        )}
      </div>
      <PlayerBar />
    </>
  );
}

/** Moves the focus without changing the address, which names the view. */
function skip(event: Event) {
  event.preventDefault();
  document.getElementById("content")?.focus();
}

/** The question for the token of the server. */
function Unlock() {
  const value = useSignal("");
  const problem = useSignal("");
  return (
    <main class="narrow">
      <h1>This server asks for its token</h1>
      <p class="quiet">It is the one that was given by --token or MOODFIELD_TOKEN when the server was started.</p>
      <form
        class="line"
        onSubmit={(event) => {
          event.preventDefault();
          openSession(value.value).catch((error: Error) => {
            problem.value = error.message;
          });
        }}>
        <label>
          Token{" "}
          <input
            type="password"
            autocomplete="current-password"
            required
            value={value}
            onInput={(event) => {
              value.value = event.currentTarget.value;
            }}
          />
        </label>
        <button type="submit" class="primary">
          Open
        </button>
      </form>
      <p class="problem" role="alert">
        {problem.value}
      </p>
    </main>
  );
}
