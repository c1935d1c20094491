"use strict";
// The data of the report, numbers as text, and elements. Text of files is only ever set as text, never as HTML.

const LETTERS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-_";
const NUMBERS = new Uint8Array(128);
[...LETTERS].forEach((letter, number) => { NUMBERS[letter.charCodeAt(0)] = number; });
const MAX_LETTER = 63;
const MAX_SCORE = 64 * 64 - 1;
const MAX_LOGIT = 13.8;
const SVG = "http://www.w3.org/2000/svg";
const NO_TAG = "No tag is above its threshold.";

const isFew = document.querySelector("main").className === "few";
const data = JSON.parse(document.getElementById("data").textContent);
const tags = data.tags.map(([name, isTheme, hue, isDeep, threshold, usual]) => (
  { name, isTheme: Boolean(isTheme), hue, isDeep: Boolean(isDeep), threshold, usual }
));
const tracks = data.tracks.map(([name, folder, x, y, values], number) => {
  const [seconds, strongest, decided, scores, curves, moods, themes, levels] = values;
  return { number, name, folder: data.folders[folder], x, y, seconds, strongest, decided: strongest.slice(0, decided),
    scores, curves, moods, themes, levels };
});

function scoreOf(track, tag) {
  const number = 64 * NUMBERS[track.scores.charCodeAt(2 * tag)] + NUMBERS[track.scores.charCodeAt(2 * tag + 1)];
  return sigmoid(MAX_LOGIT * (2 * number / MAX_SCORE - 1));
}

function sharesOf(letters) {
  return Array.from(letters, (letter) => NUMBERS[letter.charCodeAt(0)] / MAX_LETTER);
}

// Runs of a ribbon: tag, first and last time step, and whether the tag is above its threshold.
function runsOf(numbers) {
  const runs = [];
  for (let index = 0, first = 0; index < numbers.length; index += 2) {
    const length = numbers[index + 1] >> 1;
    runs.push({ tag: numbers[index], first, end: first + length, isAbove: Boolean(numbers[index + 1] & 1) });
    first += length;
  }
  return runs;
}

function sigmoid(logit) {
  return 1 / (1 + Math.exp(-logit));
}

function logit(score) {
  return Math.log(score / (1 - score));
}

function clock(seconds) {
  const whole = Math.round(seconds);
  const [hours, minutes, second] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  const end = String(second).padStart(2, "0");
  return hours ? `${hours}:${String(minutes).padStart(2, "0")}:${end}` : `${minutes}:${end}`;
}

function percent(share) {
  return `${Math.round(100 * share)}%`;
}

function short(score) {
  return score.toFixed(score >= 0.1 ? 2 : 3);
}

// How much more likely than usual a tag is, with two digits; its score if it is unknown what is usual.
function amount(score, { usual }) {
  if (usual === null) return short(score);
  const factor = score / usual;
  if (factor < 0.01) return "<0.01 ×";
  if (factor > 999) return ">999 ×";
  return `${factor.toFixed(factor < 0.995 ? 2 : factor < 9.95 ? 1 : 0)} ×`;
}

function element(name, attributes = {}, ...children) {
  const isSvg = ["svg", "g", "path", "rect", "use", "clipPath"].includes(name);
  const node = isSvg ? document.createElementNS(SVG, name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) if (value !== undefined) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

function drawing(className, width, height, ...shapes) {
  const box = { viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", "aria-hidden": "true" };
  return element("svg", { class: className, ...box }, ...shapes);
}

function tagClass(tag) {
  return tag.isTheme ? "tag theme" : "tag";
}

// Runs as stripes in the colours of their tags, tall and saturated where the tag is above its threshold.
function ribbon(numbers) {
  const runs = runsOf(numbers);
  const stripes = runs.map(({ tag, first, end, isAbove }) => element("rect", {
    x: first, width: end - first, ...(isAbove ? { height: 8 } : { y: 3, height: 5 }),
    class: `${isAbove ? "high" : "low"}${tags[tag].isDeep ? " deep" : ""}`, style: `--h:${tags[tag].hue}`,
  }));
  return drawing("ribbon", runs.length ? runs.at(-1).end : 1, 8, ...stripes);
}
