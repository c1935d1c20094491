// Numbers and names as text.

export function clock(seconds: number): string {
  const whole = Math.round(Math.max(seconds, 0));
  const [hours, minutes, second] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  const end = String(second).padStart(2, "0");
  return hours ? `${hours}:${String(minutes).padStart(2, "0")}:${end}` : `${minutes}:${end}`;
}

/** A duration in words, such as `50 s`, `34 min` or `2 h 5 min`. */
export function duration(seconds: number): string {
  const minutes = Math.round(seconds / 60);
  if (minutes < 2) return `${Math.round(seconds)} s`;
  return minutes < 60 ? `${minutes} min` : `${count(Math.floor(minutes / 60))} h ${minutes % 60} min`;
}

export function count(number: number): string {
  return number.toLocaleString("en");
}

/** A number with its noun, in singular or plural. */
export function counted(number: number, noun: string): string {
  return `${count(number)} ${noun}${number === 1 ? "" : "s"}`;
}

export function percent(share: number): string {
  return `${Math.round(100 * share)}%`;
}

export function score(value: number): string {
  return value.toFixed(value >= 0.1 ? 2 : 3);
}

export function evidence(value: number): string {
  return `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(1)}`;
}

/** How many times as likely as usual a tag is, with two digits. */
export function times(factor: number): string {
  if (factor < 0.01) return "<0.01 ×";
  if (factor > 999) return ">999 ×";
  return `${factor.toFixed(factor < 0.995 ? 2 : factor < 9.95 ? 1 : 0)} ×`;
}

/** The name of a file without folders and suffix. */
export function stem(path: string): string {
  const name = path.slice(path.lastIndexOf("/") + 1);
  return name.replace(/(?<=.)\.\w{1,5}$/, "");
}

/** The last two folders of a path. */
export function folders(path: string): string {
  return path.split("/").slice(0, -1).slice(-2).join("/");
}
