// The map: the name and tags of the track under the pointer or chosen by arrow keys, and the tracks that are found.

const MAP_WIDTH = 3000;
const NEAR = 14;
const ARROWS = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowDown: [0, 1], ArrowUp: [0, -1] };
const places = document.querySelector(".places");
if (places) {
  const drawingNode = places.querySelector("svg");
  const label = element("div", { class: "tip", role: "status" });
  const ring = element("div", { class: "here" });
  const found = element("g");
  let current = null;
  drawingNode.append(found);
  places.append(ring, label);
  Object.entries({ tabindex: 0, role: "application", "aria-label": "Map of tracks: arrow keys move, Enter opens" })
    .forEach(([key, value]) => places.setAttribute(key, value));

  const look = (track) => {
    current = track;
    places.classList.toggle("active", track !== null);
    if (track === null) return label.replaceChildren();
    const [x, y] = [track.x / MAP_WIDTH, track.y / (MAP_WIDTH / 1.5)];
    for (const node of [ring, label]) {
      node.style.left = `${100 * x}%`;
      node.style.top = `${100 * y}%`;
    }
    label.className = `tip to-${x < 0.5 ? "right" : "left"} to-${y < 0.5 ? "below" : "above"}`;
    const names = track.decided.slice(0, LISTED_TAGS).map((tag) => tags[tag])
      .flatMap((tag) => [", ", element("span", { class: tagClass(tag), style: `--h:${tag.hue}` }, tag.name)]);
    return label.replaceChildren(element("bdi", {}, track.name),
      element("small", {}, ...(names.length ? names.slice(1) : [NO_TAG])));
  };

  // The track nearest to the pointer, none if all are far away.
  const nearest = (event) => {
    const { left, top, width } = places.getBoundingClientRect();
    const scale = MAP_WIDTH / width;
    const [x, y] = [(event.clientX - left) * scale, (event.clientY - top) * scale];
    let [best, least] = [null, (NEAR * scale) ** 2];
    for (const track of table.order) {
      const distance = (track.x - x) ** 2 + (track.y - y) ** 2;
      if (distance < least) [best, least] = [track, distance];
    }
    return best;
  };

  // The next track in a direction: near, and more along than across.
  const next = ([right, down]) => {
    let [best, least] = [current ?? table.order[0] ?? null, Infinity];
    for (const track of current ? table.order : []) {
      const [x, y] = [track.x - current.x, track.y - current.y];
      const [along, across] = [x * right + y * down, Math.abs(x * down) + Math.abs(y * right)];
      if (along > 0 && across <= along && along + 2 * across < least) [best, least] = [track, along + 2 * across];
    }
    return best;
  };

  const showFound = () => {
    const isAll = table.order.length === tracks.length;
    places.classList.toggle("filtered", !isAll);
    const dots = new Map();
    for (const track of isAll ? [] : table.order) {
      const hue = tags[table.tag ?? moodOf(track)].hue;
      dots.set(hue, `${dots.get(hue) ?? ""}M${track.x} ${track.y}h0`);
    }
    found.replaceChildren(...[...dots].map(([hue, d]) => element("path", { class: "dot", style: `--h:${hue}`, d })));
    look(null);
  };
  const moodOf = ({ strongest }) => strongest.find((tag) => !tags[tag].isTheme) ?? strongest[0];

  let pointer = "mouse";
  places.addEventListener("pointermove", (event) => {
    if (event.pointerType === "mouse") look(nearest(event));
  });
  places.addEventListener("pointerdown", (event) => { pointer = event.pointerType; });
  places.addEventListener("pointerleave", (event) => {
    if (event.pointerType === "mouse" && document.activeElement !== places) look(null);
  });
  places.addEventListener("blur", () => look(null));
  places.addEventListener("click", (event) => {
    const track = nearest(event);
    const isChosen = pointer === "mouse" || track === current;
    look(track);
    if (track && isChosen) openTrack(track);
  });
  places.addEventListener("keydown", (event) => {
    if (event.key in ARROWS) look(next(ARROWS[event.key]));
    else if (event.key === "Enter" && current) openTrack(current);
    else if (event.key === "Escape") look(null);
    else return;
    event.preventDefault();
  });
  table.onChange.push(showFound);
}

// A link to a track, such as report.html#t12, opens it.
function openLinked() {
  const track = tracks[Number(/^#t(\d+)$/.exec(location.hash)?.[1])];
  if (track) openTrack(track);
}
addEventListener("hashchange", openLinked);
openLinked();
