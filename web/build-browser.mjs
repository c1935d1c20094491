// Builds what `moodfield web` copies: the page, and as scripts that contain compressed bytes its worker and ONNX Runtime.

import { copyFileSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { gzipSync } from "node:zlib";

import { build } from "vite";

const FOLDER = process.argv[2] ?? "../src/moodfield/browser/static";
const ONNX_RUNTIME = "node_modules/onnxruntime-web/dist/ort-wasm-simd-threaded";

/** Bundles a module to one classic script, which a page may load from a disk; returns its files by the end of their names. */
async function bundle(entry) {
  const [{ output }] = await build({
    configFile: false,
    logLevel: "warn",
    define: { "import.meta": "{}" },  // a classic script has none; ONNX Runtime is told where its files are
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

rmSync(FOLDER, { recursive: true, force: true });
mkdirSync(FOLDER, { recursive: true });
const page = await bundle("src/browser/main.tsx");
write("page.js", page.js);
write("page.css", page.css);
pack("worker", (await bundle("src/browser/worker.ts")).js);
pack("wasm", readFileSync(`${ONNX_RUNTIME}.wasm`));
pack("glue", readFileSync(`${ONNX_RUNTIME}.mjs`));
copyFileSync("src/browser/index.html", `${FOLDER}/index.html`);
