// The table of tracks, which can be searched, sorted and paged, and details that open in it.

const PAGE_ROWS = 50;
const MIN_CONTROLS = 8;
const LISTED_TAGS = 5;

const table = { word: "", tag: null, sort: null, order: tracks, page: 0, open: new Set(), onChange: [] };
const cards = document.getElementById("cards");
const cardOf = (() => {
  const built = new Map();
  return (track) => {
    if (!built.has(track)) built.set(track, card(track));
    return built.get(track);
  };
})();
const textOf = (track) => (
  track.text ??= [track.name, track.folder, ...track.decided.map((tag) => tags[tag].name)].join(" ").toLowerCase()
);
const SORTS = {
  name: (one, other) => COLLATOR.compare(one.name, other.name),
  time: (one, other) => one.seconds - other.seconds,
};
const COLLATOR = new Intl.Collator(undefined, { numeric: true });

const body = element("tbody");
const heads = { name: sortButton("Track", "name"), time: sortButton("Time", "time") };
const status = element("span", { role: "status", class: "quiet" });
const pager = element("nav", { class: "pager", "aria-label": "Pages of the table" });
const hasTime = tracks.some((track) => track.moods.length || track.themes.length);
const search = element("input", { type: "search", autocomplete: "off" });
const select = element("select", {}, element("option", { value: "" }, "any"), ...["Moods", "Themes"].map(tagOptions));
const controls = element("div", { id: "find" },
  element("label", {}, element("span", {}, "Find by name or tag"), search),
  element("label", {}, element("span", {}, "Tag"), select), status);

function tagOptions(kind) {
  const counts = new Map();
  for (const tag of tracks.flatMap((track) => track.decided)) counts.set(tag, (counts.get(tag) ?? 0) + 1);
  const members = [...counts].filter(([tag]) => tags[tag].isTheme === (kind === "Themes"))
    .sort(([one], [other]) => COLLATOR.compare(tags[one].name, tags[other].name));
  return element("optgroup", { label: kind },
    ...members.map(([tag, count]) => element("option", { value: tag }, `${tags[tag].name} (${count.toLocaleString("en")})`)));
}

function sortButton(name, key) {
  const button = element("button", { type: "button" }, name);
  const head = element("th", { scope: "col", "aria-sort": "none" }, button);
  button.addEventListener("click", () => {
    const { sort } = table;
    table.sort = sort?.key !== key ? { key, sign: 1 } : sort.sign > 0 ? { key, sign: -1 } : null;
    update();
  });
  return head;
}

// The order of the table: tracks with all words and the tag, by the chosen column, else by the score of the tag.
function update() {
  const words = table.word.toLowerCase().split(/\s+/);
  table.order = tracks.filter((track) => (
    (table.tag === null || track.decided.includes(table.tag)) && words.every((word) => textOf(track).includes(word))
  ));
  if (table.sort) table.order.sort((one, other) => table.sort.sign * SORTS[table.sort.key](one, other));
  else if (table.tag !== null) table.order.sort((one, other) => scoreOf(other, table.tag) - scoreOf(one, table.tag));
  table.page = 0;
  show();
  for (const change of table.onChange) change();
}

function show() {
  const pages = Math.max(Math.ceil(table.order.length / PAGE_ROWS), 1);
  const rows = isFew ? table.order : table.order.slice(table.page * PAGE_ROWS, (table.page + 1) * PAGE_ROWS);
  body.replaceChildren(...rows.flatMap(rowsOf));
  if (isFew) cards.replaceChildren(...table.order.map(cardOf));
  for (const [key, head] of Object.entries(heads)) {
    const sign = table.sort?.key === key ? table.sort.sign : 0;
    head.setAttribute("aria-sort", sign > 0 ? "ascending" : sign < 0 ? "descending" : "none");
  }
  const isAll = table.order.length === tracks.length;
  status.textContent = isAll ? "" : `${table.order.length.toLocaleString("en")} of ${tracks.length.toLocaleString("en")}`;
  if (!isFew) showPager(pages);
}

function showPager(pages) {
  const button = (name, page, isOff) => {
    const node = element("button", { type: "button" }, name);
    node.disabled = isOff;
    node.addEventListener("click", () => {
      table.page = page;
      show();
      [...pager.querySelectorAll("button")].find((other) => other.textContent === name && !other.disabled)?.focus();
    });
    return node;
  };
  const first = table.page * PAGE_ROWS;
  const last = Math.min(first + PAGE_ROWS, table.order.length);
  const [from, to, all] = [first + 1, last, table.order.length].map((number) => number.toLocaleString("en"));
  pager.hidden = pages === 1;
  pager.replaceChildren(
    button("First", 0, table.page === 0), button("Previous", table.page - 1, table.page === 0),
    element("span", { class: "number" }, `${from} – ${to} of ${all}`),
    button("Next", table.page + 1, table.page === pages - 1), button("Last", pages - 1, table.page === pages - 1));
}

function rowsOf(track) {
  const isOpen = table.open.has(track);
  const name = element("bdi", {}, ...track.name.split(/(?<=_)/).flatMap((part) => [part, element("wbr")]).slice(0, -1));
  const opener = isFew ? element("a", { href: `#t${track.number}` }, name)
    : element("button", { type: "button", "aria-expanded": isOpen, "data-track": track.number }, name);
  if (!isFew) opener.addEventListener("click", () => toggle(track));
  const listed = track.decided.slice(0, LISTED_TAGS).map((tag) => tags[tag]);
  const names = listed.flatMap((tag) => [", ", element("span", { class: tagClass(tag), style: `--h:${tag.hue}` }, tag.name)]);
  const row = element("tr", {},
    element("td", { class: "title" }, opener),
    ...(hasTime ? [element("td", { class: "stripe" }, ribbon(track.moods.length ? track.moods : track.themes))] : []),
    element("td", { class: "few-tags" }, ...(listed.length ? names.slice(1) : ["–"])),
    element("td", { class: "number" }, clock(track.seconds)));
  if (!isOpen) return [row];
  return [row, element("tr", { class: "details" }, element("td", { colspan: hasTime ? 4 : 3 }, cardOf(track)))];
}

function toggle(track) {
  if (!table.open.delete(track)) table.open.add(track);
  show();
  body.querySelector(`[data-track="${track.number}"]`)?.focus();
}

// Show the details of a track: its page of the table, without a filter that hides it.
function openTrack(track) {
  if (!table.order.includes(track)) {
    Object.assign(table, { word: "", tag: null });
    search.value = select.value = "";
    update();
  }
  if (!isFew) {
    table.page = Math.floor(table.order.indexOf(track) / PAGE_ROWS);
    table.open.add(track);
    show();
  }
  const node = isFew ? cardOf(track) : body.querySelector(`[data-track="${track.number}"]`).closest("tr");
  node.scrollIntoView();
  if (isFew) location.hash = `t${track.number}`;
  else node.querySelector("button").focus({ preventScroll: true });
}

// Printed are all tracks that the search has found.
function printAll() {
  if (isFew) return;
  body.replaceChildren(...table.order.flatMap(rowsOf));
}

search.addEventListener("input", () => {
  table.word = search.value.trim();
  update();
});
select.addEventListener("change", () => {
  table.tag = select.value === "" ? null : Number(select.value);
  table.sort = null;
  update();
});
addEventListener("beforeprint", printAll);
addEventListener("afterprint", show);

document.getElementById("table").append(
  ...(hasTime ? [element("p", { class: "quiet" }, "A stripe has the colour of the strongest mood at each time.")] : []),
  ...(tracks.length >= MIN_CONTROLS ? [controls] : []),
  element("table", { class: "contents" },
    element("thead", {}, element("tr", {}, heads.name,
      ...(hasTime ? [element("th", { scope: "col" }, "Over time")] : []),
      element("th", { scope: "col" }, "Tags"), heads.time)), body),
  ...(isFew ? [] : [pager]));
show();
