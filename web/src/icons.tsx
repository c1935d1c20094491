// Icons, drawn for this page.

const SHAPES = {
  play: "M7 4.5v15l12-7.5z",
  pause: "M7 5h3.5v14H7zM13.5 5H17v14h-3.5z",
  close: "M6 6l12 12M18 6L6 18",
  add: "M12 5v14M5 12h14",
  check: "M5 12.5l4.5 4.5L19 7.5",
  up: "M6 14.5l6-6 6 6",
  down: "M6 9.5l6 6 6-6",
  back: "M14.5 6l-6 6 6 6",
  search: "M10.5 4.5a6 6 0 100 12 6 6 0 000-12zM15 15l4.5 4.5",
  reset: "M4 9V4h5M20 15v5h-5M4 4l6 6M20 20l-6-6",
} as const;
const FILLED = new Set(["play", "pause"]);

export function Icon({ name }: { name: keyof typeof SHAPES }) {
  return (
    <svg class={FILLED.has(name) ? "icon filled" : "icon"} viewBox="0 0 24 24" aria-hidden="true">
      <path d={SHAPES[name]} />
    </svg>
  );
}
