// Detection of the format of a file, and of its streams, by content: as the Python package does (`decoding/sniffing.py`).

import { afterTags, Pieces, type Source, text } from "./bytes";
import { flacStreams } from "./flac";
import { mpegStreams } from "./mpeg";
import { oggStreams } from "./ogg";
import { type WavFormat, wavStreams } from "./wav";

export type Format = "wav" | "flac" | "mpeg" | "vorbis" | "opus" | "other";

/** An audio stream in a file. */
export interface Stream {
  /** `other` is left to the browser. */
  format: Format;
  /** Bytes for the decoder. */
  content: Source;
  /** Descriptions of damaged parts, which are not in the content. */
  faults: readonly string[];
  /** Samples of each channel that the header states; may be wrong, and 0 is unknown. */
  samples?: number;
  /** Samples at the end that the encoder has added. */
  surplus?: number;
  /** Of WAV files, whose content is the data alone. */
  wav?: WavFormat;
}

/** Streams of one file; a file that seems to have more is left to the browser as a whole. */
const MAX_STREAMS = 1_000;
/** Beginnings of files without bare MPEG frames, though some of their bytes may look like frames. */
const OTHERS = ["FORM", "RIFF", "RIFX", "caff", "riff", ".snd", "\x1aE\xdf\xa3", "0&\xb2u", "MAC ", "wvpk"];
const MPEG_VIDEO = ["\0\0\x01\xba", "\0\0\x01\xb3"];

/** The streams of a file, in order: one of format `other` if its structure is unknown. */
export async function findStreams(source: Source): Promise<Stream[]> {
  const streams = await knownStreams(source, await afterTags(source));
  if (streams.length && streams.length <= MAX_STREAMS) return streams;
  return [{ format: "other", content: new Pieces(source, [[0, source.size]]), faults: [] }];
}

async function knownStreams(source: Source, start: number): Promise<Stream[]> {
  const head = text(await source.read(start, 377));
  if (head.startsWith("OggS")) return oggStreams(source, start);
  if (head.startsWith("fLaC")) return flacStreams(source, start);
  if (/^(RIFF|RF64|RIFX)....WAVE/s.test(head)) return wavStreams(source, start);
  const isTransport = [0, 188, 376].every((offset) => head[offset] === "G");
  if ([...OTHERS, ...MPEG_VIDEO].some((begin) => head.startsWith(begin)) || head.startsWith("ftyp", 4) || isTransport)
    return [];
  return mpegStreams(source, start, MAX_STREAMS);
}
