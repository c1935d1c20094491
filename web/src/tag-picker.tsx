// Tags chosen from the vocabulary: chips of those that are chosen, and a list of the others.

import { hued } from "./colours";
import { Icon } from "./icons";
import type { Vocabulary } from "./catalogue";

export function TagPicker({
  label,
  chosen,
  vocabulary,
  onChange,
  first = "Add …",
}: {
  label: string;
  chosen: readonly string[];
  vocabulary: Vocabulary;
  onChange: (tags: string[]) => void;
  first?: string;
}) {
  return (
    <div class="field tag-picker">
      <label>
        <span>{label}</span>
        <TagSelect
          vocabulary={vocabulary}
          without={chosen}
          first={first}
          hasCounts
          onChoose={(tag) => onChange([...chosen, tag])}
        />
      </label>
      {chosen.length > 0 && (
        <ul class="moods" aria-label={label}>
          {chosen.map((tag) => (
            <li key={tag} style={hued(tag)}>
              {tag}
              <button
                type="button"
                aria-label={`Remove ${tag}`}
                onClick={() => onChange(chosen.filter((other) => other !== tag))}>
                <Icon name="close" />
              </button>
            </li>
          ))}
        </ul>
      )}
    </div>
  );
}

/** A list of moods and themes that chooses one at a time. */
export function TagSelect({
  vocabulary,
  without,
  first,
  label,
  hasCounts = false,
  onChoose,
}: {
  vocabulary: Vocabulary;
  without: readonly string[];
  first: string;
  label?: string;
  /** Whether the number of tracks with each tag is shown. */
  hasCounts?: boolean;
  onChoose: (tag: string) => void;
}) {
  const free = vocabulary.tags.filter((tag) => !without.includes(tag));
  const group = (name: string, tags: string[]) =>
    tags.length > 0 && (
      <optgroup label={name}>
        {tags.map((tag) => (
          <option key={tag} value={tag}>
            {hasCounts ? `${tag} (${vocabulary.counts[tag] ?? 0})` : tag}
          </option>
        ))}
      </optgroup>
    );
  return (
    <select
      value=""
      aria-label={label}
      onChange={(event) => {
        const tag = event.currentTarget.value;
        event.currentTarget.value = "";
        if (tag) onChoose(tag);
      }}>
      <option value="">{first}</option>
      {group(
        "Moods",
        free.filter((tag) => !vocabulary.themes.has(tag)),
      )}
      {group(
        "Themes",
        free.filter((tag) => vocabulary.themes.has(tag)),
      )}
    </select>
  );
}
