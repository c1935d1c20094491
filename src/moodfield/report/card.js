// The details of one track: tags, waveform with ribbons of moods and themes, scores, and curves over time.

const BARS = 5;
const CHIPS = 12;
const CURVES = 6;
const SUMMARY_TAGS = 4;
const MOST_TIMES = 1000;
const TICKS = 4;
const INTERVALS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400];

// Length of a bar: the logarithm of the score / the usual score, from 1 on; the score if it is unknown what is usual.
function barLength(score, { usual }) {
  return usual === null ? score : Math.log2(Math.min(Math.max(score / usual, 1), MOST_TIMES));
}

// Length of the longest bar of the report; computed when the first details are shown.
const longestBar = (() => {
  let longest = 0;
  return () => {
    if (longest) return longest;
    for (const track of tracks) {
      for (const tag of track.strongest.slice(0, BARS)) {
        const { threshold } = tags[tag];
        const mark = threshold === null ? 0 : barLength(threshold, tags[tag]);
        longest = Math.max(longest, barLength(scoreOf(track, tag), tags[tag]), mark);
      }
    }
    longest ||= 1;
    return longest;
  };
})();

function card(track) {
  const node = element("article", { id: `t${track.number}`, "aria-labelledby": `n${track.number}` });
  const folder = track.folder ? [element("bdi", { class: "folder" }, track.folder)] : [];
  node.append(
    element("div", { class: "head" },
      element("h3", { id: `n${track.number}` }, element("bdi", {}, track.name)),
      element("p", {}, ...folder, element("span", { class: "number" }, clock(track.seconds))),
      ...chips(track)),
  );
  const hasTime = track.curves !== "";
  const unit = tags[track.strongest[0]].usual === null ? [] : [element("span", { class: "unit" }, "as usual")];
  const charts = element("div", { class: "charts" },
    element("div", {}, element("h4", {}, "Strongest tags", ...unit), bars(track)));
  if (hasTime) {
    const { node: curvesNode, rows } = curves(track);
    const heading = element("span", { class: "unit" }, "above threshold");
    node.append(...timeline(track, { rows, heading }));
    charts.append(element("div", {}, element("h4", {}, "Over time", heading), curvesNode));
  }
  node.append(charts);
  return node;
}

// The decided tags: moods, then themes.
function chips(track) {
  if (!track.decided.length) return [element("p", { class: "quiet" }, NO_TAG)];
  const shown = track.decided.slice(0, CHIPS).map((tag) => tags[tag]);
  const rest = track.decided.slice(CHIPS).map((tag) => tags[tag]);
  const lists = [["Moods", shown.filter((tag) => !tag.isTheme)], ["Themes", shown.filter((tag) => tag.isTheme)]];
  const nodes = lists.filter(([, members]) => members.length).map(([kind, members]) => element(
    "div", { class: kind.toLowerCase() },
    ...(kind === "Themes" ? [element("span", { class: "quiet" }, kind)] : []),
    element("ul", { "aria-label": kind },
      ...members.map((tag) => element("li", { style: `--h:${tag.hue}` }, tag.name))),
  ));
  if (rest.length) {
    const names = rest.flatMap((tag) => [", ", element("span", { class: tagClass(tag) }, tag.name)]).slice(1);
    nodes.push(element("details", {}, element("summary", {}, `${rest.length} more`), element("p", {}, ...names)));
  }
  return nodes;
}

// Bars of the strongest tags, by how much more likely than usual they are, with marks at the thresholds.
function bars(track) {
  const scale = longestBar();
  const lines = track.strongest.slice(0, BARS).map((index) => {
    const tag = tags[index];
    const score = scoreOf(track, index);
    const rule = tag.threshold === null ? "never decided" : `threshold ${short(tag.threshold)}`;
    const place = tag.threshold === null ? null : barLength(tag.threshold, tag) / scale;
    const mark = place === null ? [] : [element("i", { style: `left:${100 * Math.min(place, 1)}%` })];
    return element("li", {
      class: track.decided.includes(index) ? undefined : "faint", title: `score ${short(score)}, ${rule}`,
      style: `--h:${tag.hue};--w:${100 * Math.min(barLength(score, tag) / scale, 1)}%`,
    },
    element("span", { class: tagClass(tag) }, tag.name),
    element("span", { class: "bar", role: "img", "aria-label": rule }, ...mark),
    element("span", { class: "number" }, amount(score, tag)));
  });
  return element("ol", { class: "bars" }, ...lines);
}

function ticks(track) {
  const span = Math.max(track.seconds, 1e-3);
  const between = INTERVALS.find((seconds) => span / seconds <= TICKS) ?? 3600 * Math.ceil(span / TICKS / 3600);
  const labels = [];
  for (let second = 0; second < 0.95 * span; second += between) {
    labels.push(element("span", { style: `left:${100 * second / span}%` }, clock(second)));
  }
  return element("div", { class: "ticks", "aria-hidden": "true" }, ...labels);
}

// Curves of the strongest tags over a time axis, and what each row shows at a time.
function curves(track) {
  const shown = track.strongest.slice(0, CURVES);
  const steps = track.curves.length / shown.length;
  const rows = shown.map((index, row) => {
    const tag = tags[index];
    const heights = sharesOf(track.curves.slice(row * steps, (row + 1) * steps));
    const share = percent(heights.filter((height) => height > 0.5).length / steps);
    const peak = clock(track.seconds * (heights.indexOf(Math.max(...heights)) + 0.5) / steps);
    const number = element("span", { class: "number", "aria-hidden": "true" }, share);
    const path = `M0 60L0 ${60 - 60 * heights[0]}${heights.map((height, step) => (
      `L${step + 0.5} ${(60 - 60 * height).toFixed(1)}`)).join("")}L${steps} ${60 - 60 * heights.at(-1)}V60z`;
    const picture = drawing("", steps, 60,
      element("path", { class: "low", d: path }),
      element("svg", { width: steps, height: 30, viewBox: `0 0 ${steps} 30`, preserveAspectRatio: "none" },
        element("path", { class: "high", d: path })),
      element("path", { class: "line", d: `M0 30H${steps}` }));
    picture.setAttribute("role", "img");
    picture.removeAttribute("aria-hidden");
    const label = `${tag.name}: above its threshold for ${share} of the time, strongest at ${peak}`;
    picture.setAttribute("aria-label", label);
    const node = element("div", { class: track.decided.includes(index) ? "row" : "row faint", style: `--h:${tag.hue}` },
      element("span", { class: tagClass(tag), "aria-hidden": "true" }, tag.name), picture, number);
    return { node, tag, heights, share, number };
  });
  return { node: element("div", { class: "curves" }, ticks(track), ...rows.map(({ node }) => node)), rows };
}

// How much more likely than usual a tag is at a height of its curve, which is the sigmoid of 2 × the difference of the
// logits of score and threshold. The lowest and the highest curves are only known to be beyond.
function amountAt(height, tag) {
  if (tag.threshold === null) return "–";
  const share = Math.min(Math.max(height, 0.5 / MAX_LETTER), 1 - 0.5 / MAX_LETTER);
  const text = amount(sigmoid(logit(tag.threshold) + logit(share) / 2), tag);
  const beyond = height === 1 ? ">" : height === 0 ? "<" : "";
  return /^[<>]/.test(text) ? text : beyond + text;
}

// The waveform, ribbons with the strongest mood and theme at each time, a slider, and a line that describes them.
function timeline(track, { rows, heading }) {
  const lanes = [["moods", track.moods], ["themes", track.themes]].filter(([, numbers]) => numbers.length)
    .map(([kind, numbers]) => ({ kind, numbers, segments: segmentsOf(track, runsOf(numbers)) }));
  const steps = rows[0].heights.length;
  const slider = element("input", { type: "range", min: 0, max: steps - 1, value: 0, "aria-label": "Position in the track" });
  const node = element("div", { class: "timeline" }, ticks(track), ...wave(track), ...lanes.map(lane), slider);
  const summary = lanes.length ? summaryOf(lanes[0].kind, lanes[0].segments, steps) : "";
  const label = element("p", { class: "at quiet" }, summary);
  const update = () => {
    const step = Number(slider.value);
    const now = lanes.flatMap(({ segments }) => segments.filter(({ first, end }) => first <= step && step < end));
    label.textContent = now.map(({ description }) => description).join(" · ");
    slider.setAttribute("aria-valuetext", label.textContent);
    heading.textContent = `at ${clock(track.seconds * (step + 0.5) / steps)}`;
    for (const { tag, heights, number } of rows) number.textContent = amountAt(heights[step], tag);
    const card = node.closest("article");
    card.style.setProperty("--at", (step + 0.5) / steps);
    card.classList.add("active");
  };
  const reset = () => {
    if (document.activeElement === slider) return;
    label.textContent = summary;
    heading.textContent = "above threshold";
    for (const { share, number } of rows) number.textContent = share;
    node.closest("article")?.classList.remove("active");
  };
  for (const kind of ["input", "focus"]) slider.addEventListener(kind, update);
  for (const kind of ["blur", "pointerleave"]) slider.addEventListener(kind, reset);
  slider.addEventListener("pointermove", (event) => {
    if (event.pointerType !== "mouse") return;
    const { left, width } = slider.getBoundingClientRect();
    slider.value = Math.floor((steps * (event.clientX - left)) / width);
    update();
  });
  return [node, label];
}

// The waveform as bars around a middle line.
function wave(track) {
  const levels = sharesOf(track.levels).map((level) => Math.max(Math.round(100 * level), 1));
  if (!levels.length) return [];
  const path = levels.map((level, bar) => `M${bar + 0.5} ${104 - level}v${2 * level}`).join("");
  return [drawing("wave", levels.length, 208, element("path", { d: path }))];
}

// Consecutive runs with the same tag, with their time in words.
function segmentsOf(track, runs) {
  const segments = [];
  const steps = runs.at(-1).end;
  for (const { tag, first, end, isAbove } of runs) {
    const last = segments.at(-1);
    if (last?.tag === tag) Object.assign(last, { end, above: [...last.above, isAbove] });
    else segments.push({ tag, first, end, above: [isAbove] });
  }
  for (const segment of segments) {
    const [first, end] = [segment.first, segment.end].map((step) => clock(track.seconds * step / steps));
    const place = segment.above.every(Boolean) ? "above" : segment.above.some(Boolean) ? "partly above" : "below";
    segment.description = `${first} – ${end} ${tags[segment.tag].name}, ${place} its threshold`;
  }
  return segments;
}

// A ribbon of the strongest mood, or theme, with names where they fit.
function lane({ kind, numbers, segments }) {
  const items = segments.map(({ tag, first, end, description }) => element("li", {
    style: `--h:${tags[tag].hue};grid-column:${first + 1}/${end + 1}`, title: description,
  }, element("span", {}, tags[tag].name)));
  const columns = `grid-template-columns:repeat(${segments.at(-1).end},minmax(0,1fr))`;
  return element("div", { class: `lane ${kind}-lane` },
    element("h4", {}, kind === "moods" ? "Moods" : "Themes"), ribbon(numbers),
    element("ol", { "aria-label": `Strongest ${kind} over time`, style: columns }, ...items));
}

// The strongest tags with their share of the time.
function summaryOf(kind, segments, steps) {
  const counts = new Map();
  for (const { tag, first, end } of segments) counts.set(tag, (counts.get(tag) ?? 0) + end - first);
  const [[top, count], ...rest] = [...counts].sort((one, other) => other[1] - one[1]);
  const others = rest.slice(0, SUMMARY_TAGS - 1).map(([tag, steps_]) => `${tags[tag].name} ${percent(steps_ / steps)}`);
  if (counts.size > SUMMARY_TAGS) others.push("others");
  const first = `Strongest ${kind.slice(0, -1)}: ${tags[top].name} for ${percent(count / steps)} of the time`;
  return [first, ...others].join(", ");
}
