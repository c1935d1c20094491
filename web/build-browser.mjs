// Builds what `moodfield web` copies: the page, and as scripts that contain compressed bytes its worker and ONNX Runtime.

import { copyFileSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { gzipSync } from "node:zlib";

import { build } from "vite";

const FOLDER = process.argv[2] ?? "../src/moodfield/browser/static";
const ONNX_RUNTIME = "node_modules/onnxruntime-web/dist/ort-wasm-simd-threaded";

const BUNDLED = [
  "preact",
  "@preact/signals",
  "@preact/signals-core",
  "onnxruntime-web",
  "onnxruntime-common",
  "mpg123-decoder",
  "ogg-opus-decoder",
  "opus-decoder",
  "@wasm-audio-decoders/flac",
  "@wasm-audio-decoders/ogg-vorbis",
  "@wasm-audio-decoders/common",
  "codec-parser",
  "simple-yenc",
];
const LICENCES = `What the scripts of this folder contain besides moodfield (Apache-2.0), each under its own licence.

mpg123-decoder contains libmpg123 (LGPL-2.1); codec-parser is under the LGPL, version 3 or later. The sources of moodfield have all
that is needed to build the scripts again with other versions of them: web/build-browser.mjs. The decoders contain libFLAC, libogg, libvorbis and
libopus (BSD).
`;

/** Bundles a module to one classic script, which a page may load from a disk; returns its files by the end of their names. */
async function bundle(entry) {
  const [{ output }] = await build({
    configFile: false,
    logLevel: "warn",
    define: { "import.meta": "{}" }, // a classic script has none; ONNX Runtime is told where its files are
    resolve: { conditions: ["onnxruntime-web-use-extern-wasm", "import", "module", "browser", "default"] },
    build: { write: false, target: "es2022", lib: { entry, formats: ["iife"], name: "moodfield" } },
  });
  return Object.fromEntries(output.map((file) => [file.fileName.split(".").at(-1), file.code ?? file.source]));
}

function write(name, content) {
  writeFileSync(`${FOLDER}/${name}`, content);
}

function pack(name, bytes) {
  write(`${name}.js`, `moodfieldFile("${name}", "${gzipSync(bytes, { level: 9 }).toString("base64")}");\n`);
}

/** Names, versions and licences of what the scripts contain, with the texts that the packages have. */
function licences() {
  const parts = BUNDLED.map((name) => {
    const folder = `node_modules/${name}`;
    const { version, license } = JSON.parse(readFileSync(`${folder}/package.json`, "utf8"));
    const file = `${folder}/LICENSE`;
    return `${name} ${version}: ${license}\n${existsSync(file) ? `\n${readFileSync(file, "utf8").trim()}\n` : ""}`;
  });
  return [LICENCES, ...parts].join(`\n${"-".repeat(79)}\n\n`);
}

rmSync(FOLDER, { recursive: true, force: true });
mkdirSync(FOLDER, { recursive: true });
const page = await bundle("src/browser/main.tsx");
write("page.js", page.js);
write("page.css", page.css);
pack("worker", (await bundle("src/browser/worker.ts")).js);
pack("wasm", readFileSync(`${ONNX_RUNTIME}.wasm`));
pack("glue", readFileSync(`${ONNX_RUNTIME}.mjs`));
write("licences.txt", licences());
copyFileSync("src/browser/index.html", `${FOLDER}/index.html`);
