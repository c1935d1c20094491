// The colour of every tag: that of its family, as in HTML reports.

const FAMILIES: Record<number, string> = {
  5: "love romantic sexy sensual passionate tender tenderness",
  35: "energetic action fast powerful power sport heavy groovy party aggressive angry exciting tense tension",
  62: "retro vintage nostalgic nostalgia cool ballad",
  82: "happy fun funny positive upbeat joyful joyful_activation cheerful children summer holiday christmas",
  128: "hopeful inspiring uplifting motivational amazement nature travel adventure game",
  168: "calm calmness relaxing soft slow meditative peaceful melodic",
  212: "dream dreamy space soundscape deep ambient background",
  258: "sad sadness melancholic emotional lonely drama",
  300: "dark mysterious scary horror trailer film movie documentary",
  335: "epic dramatic solemn solemnity triumphant advertising commercial corporate",
};
const HUES = new Map<string, number>();
const DEEP = new Set<string>();
for (const [hue, family] of Object.entries(FAMILIES)) {
  family.split(" ").forEach((tag, number) => {
    HUES.set(tag, Number(hue));
    if (number % 2) DEEP.add(tag);
  });
}

/** Hue in degrees (OKLCH): that of the family, or a checksum of the name. */
export function hue(tag: string): number {
  return HUES.get(tag.toLowerCase()) ?? crc32(new TextEncoder().encode(tag)) % 360;
}

/** Whether a tag has the darker shade of its family. */
export function isDeep(tag: string): boolean {
  return DEEP.has(tag.toLowerCase());
}

/** The hue as a CSS variable, for elements whose colour is that of a tag. */
export function hued(tag: string): Record<string, string> {
  return { "--h": String(hue(tag)) };
}

/** A colour of OKLCH as bytes of sRGB, for WebGL. */
export function bytes(lightness: number, chroma: number, hueDegrees: number): [number, number, number] {
  const angle = (hueDegrees * Math.PI) / 180;
  const [a, b] = [chroma * Math.cos(angle), chroma * Math.sin(angle)];
  const l = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3;
  const m = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3;
  const s = (lightness - 0.0894841775 * a - 1.291485548 * b) ** 3;
  const linear = [
    4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s,
    -1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s,
    -0.0041960863 * l - 0.7034186147 * m + 1.707614701 * s,
  ];
  return linear.map((value) => {
    const clipped = Math.min(Math.max(value, 0), 1);
    return Math.round(255 * (clipped <= 0.0031308 ? 12.92 * clipped : 1.055 * clipped ** (1 / 2.4) - 0.055));
  }) as [number, number, number];
}

function crc32(data: Uint8Array): number {
  let sum = ~0;
  for (const byte of data) {
    sum ^= byte;
    for (let bit = 0; bit < 8; bit += 1) sum = (sum >>> 1) ^ (sum & 1 ? 0xedb88320 : 0);
  }
  return ~sum >>> 0;
}
