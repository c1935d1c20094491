// Builds what `moodfield web` copies: the page, and as scripts that contain compressed bytes its worker and ONNX Runtime.

import { copyFileSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { gzipSync } from "node:zlib";

import { build } from "vite";

const FOLDER = process.argv[2] ?? "../src/moodfield/browser/static";
const ONNX_RUNTIME = "node_modules/onnxruntime-web/dist/ort-wasm-simd-threaded";

const MIT = `Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated
documentation files (the "Software"), to deal in the Software without restriction, including without limitation the
rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and to permit
persons to whom the Software is furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial portions of the
Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE
WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR
COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR
OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.`;
const LICENCES = `What the scripts of this folder contain besides moodfield (Apache-2.0), each under its own licence; model.md has that of the
model. mpg123-decoder contains libmpg123 (LGPL-2.1); codec-parser is under the LGPL, version 3 or later, which refers to
the GPL, version 3. The sources of moodfield have all that is needed to build the scripts again with other versions of
them: web/build-browser.mjs.
`;
/** What the packages contain in compiled form, and texts to which licences refer: a name, and a file of licences/. */
const COMPILED = [
  ["libmpg123, in mpg123-decoder: LGPL-2.1", "lgpl-2.1"],
  ["libFLAC, in @wasm-audio-decoders/flac: BSD-3-Clause", "libflac"],
  ["libogg, in @wasm-audio-decoders/flac and ogg-vorbis: BSD-3-Clause", "libogg"],
  ["libvorbis, in @wasm-audio-decoders/ogg-vorbis: BSD-3-Clause", "libvorbis"],
  ["libopus, in opus-decoder: BSD-3-Clause", "libopus"],
  ["GPL-3.0, to which the LGPL-3.0 of codec-parser refers", "gpl-3"],
  ["Parts of ONNX Runtime by others", "onnxruntime-third-parties"],
];
/** Packages whose text is in licences/. */
const TEXTS = { "onnxruntime-web": "onnxruntime", "onnxruntime-common": "onnxruntime" };
/** Packages in the scripts. */
const bundled = new Set(["onnxruntime-web"]);

/** Bundles a module to one classic script, which a page may load from a disk; returns its files by the end of their names. */
async function bundle(entry) {
  const [{ output }] = await build({
    configFile: false,
    logLevel: "warn",
    define: { "import.meta": "{}" }, // a classic script has none; ONNX Runtime is told where its files are
    resolve: { conditions: ["onnxruntime-web-use-extern-wasm", "import", "module", "browser", "default"] },
    build: { write: false, target: "es2022", lib: { entry, formats: ["iife"], name: "moodfield" } },
  });
  for (const path of output.flatMap(({ modules }) => Object.keys(modules ?? {}))) {
    const [, name] = /.*node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(path) ?? [];
    if (name) bundled.add(name);
  }
  return Object.fromEntries(output.map((file) => [file.fileName.split(".").at(-1), file.code ?? file.source]));
}

function write(name, content) {
  writeFileSync(`${FOLDER}/${name}`, content);
}

function pack(name, bytes) {
  write(`${name}.js`, `moodfieldFile("${name}", "${gzipSync(bytes, { level: 9 }).toString("base64")}");\n`);
}

/** Names, versions and licences of what the scripts contain, with their texts. */
function licences() {
  const parts = [...bundled].sort().map((name) => {
    const folder = `node_modules/${name}`;
    const { version, license, author } = JSON.parse(readFileSync(`${folder}/package.json`, "utf8"));
    const own = `${folder}/LICENSE`;
    const text =
      name in TEXTS
        ? licenceText(TEXTS[name])
        : existsSync(own)
          ? readFileSync(own, "utf8").trim()
          : license === "MIT" && author
            ? `Copyright (c) ${author.name ?? author}\n\n${MIT}`
            : null;
    if (!text) throw new Error(`${name} has no text of its licence (${license}): add one to web/licences`);
    return `${name} ${version}: ${license}\n\n${text}\n`;
  });
  const [puff] = /Copyright[^]*?(?=\*\/)/.exec(
    readFileSync("node_modules/@wasm-audio-decoders/common/src/puff/puff.h", "utf8"),
  );
  parts.push(`puff, in @wasm-audio-decoders/common: Zlib\n\n${puff.trim()}\n`);
  parts.push(...COMPILED.map(([name, file]) => `${name}\n\n${licenceText(file)}\n`));
  return [LICENCES, ...parts].join(`\n${"-".repeat(79)}\n\n`);
}

function licenceText(name) {
  return readFileSync(`licences/${name}.txt`, "utf8").trim();
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
