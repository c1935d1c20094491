import { defineConfig } from "vite";

// The page is served from the root of the server or from below a prefix, so all addresses are relative.
export default defineConfig({
  base: "./",
  build: {
    outDir: "../src/moodfield/serving/static",
    emptyOutDir: true,
    target: "es2022",
    modulePreload: { polyfill: false },
    assetsInlineLimit: 0,
  },
});
