// Names of files and tracks.

/** A name, whose lines may also end after an underscore. */
export function Name({ text }: { text: string }) {
  return <bdi>{text.split(/(?<=_)/).map((part, number) => [number > 0 && <wbr key={number} />, part])}</bdi>;
}
