// Search and filters of the library.

import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";

import { type Filters, isFiltered, NO_FILTERS, type Vocabulary } from "./catalogue";
import { Icon } from "./icons";
import { TagPicker } from "./tag-picker";

/** Number of seeds of a random order. */
const SEEDS = 2 ** 32;
const TEXTS = [
  ["artist", "Artist", ""],
  ["album", "Album", ""],
  ["genre", "Genre", ""],
  ["path", "In the path", ""],
  ["year", "Years", "1990-1999"],
  ["duration", "Length", "2:30-6:00"],
] as const;

export function FilterBar({
  filters,
  vocabulary,
  onChange,
  children,
}: {
  filters: Filters;
  vocabulary: Vocabulary;
  onChange: (filters: Filters) => void;
  children: ComponentChildren;
}) {
  const [isLong, setLong] = useState(false);
  const set = (values: Partial<Filters>) => onChange({ ...filters, ...values });
  const further =
    TEXTS.filter(([name]) => filters[name]).length +
    Number(filters.corrected) +
    Number(filters.failed) +
    Number(filters.not.length > 0);
  return (
    <form class="filters" role="search" aria-label="Tracks" onSubmit={(event) => event.preventDefault()}>
      <div class="first">
        <label class="search">
          <Icon name="search" />
          <span class="unseen">Search</span>
          <input
            type="search"
            placeholder="Title, artist, album …"
            value={filters.q}
            onInput={(event) => set({ q: event.currentTarget.value })}
          />
        </label>
        <TagPicker
          label="Mood"
          first="Any mood or theme"
          chosen={filters.tags}
          vocabulary={vocabulary}
          onChange={(tags) => set({ tags })}
        />
        <button type="button" aria-expanded={isLong} onClick={() => setLong(!isLong)}>
          Filters{further > 0 && <span class="number"> {further}</span>}
        </button>
        {children}
        {isFiltered(filters) && (
          <button type="button" class="link" onClick={() => onChange(NO_FILTERS)}>
            Show all
          </button>
        )}
      </div>
      {isLong && (
        <div class="further">
          <TagPicker label="Without" chosen={filters.not} vocabulary={vocabulary} onChange={(not) => set({ not })} />
          {TEXTS.map(([name, label, example]) => (
            <label key={name} class="field">
              <span>{label}</span>
              <input
                type="text"
                value={filters[name]}
                placeholder={example}
                onInput={(event) => set({ [name]: event.currentTarget.value })}
              />
            </label>
          ))}
          <label class="field">
            <span>Order</span>
            <select
              value={filters.order}
              onChange={(event) => {
                const order = event.currentTarget.value as Filters["order"];
                set({ order, seed: order === "random" ? Math.floor(Math.random() * SEEDS) : null });
              }}>
              <option value="">usual order</option>
              <option value="name">artist, album, title</option>
              <option value="evidence">evidence for the moods</option>
              <option value="random">random</option>
            </select>
          </label>
          <label class="check">
            <input
              type="checkbox"
              checked={filters.corrected}
              onChange={(event) => set({ corrected: event.currentTarget.checked })}
            />{" "}
            corrected by hand
          </label>
          <label class="check">
            <input
              type="checkbox"
              checked={filters.failed}
              onChange={(event) => set({ failed: event.currentTarget.checked })}
            />{" "}
            could not be tagged
          </label>
        </div>
      )}
    </form>
  );
}
