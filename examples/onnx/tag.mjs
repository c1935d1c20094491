// Tag a track in Node: npm install onnxruntime-web (or onnxruntime-node, which is native and several times as fast)
//
//     moodfield export-onnx -o moodfield.onnx
//     ffmpeg -i song.mp3 -ac 1 -ar 16000 -f f32le song.f32
//     node tag.mjs song.f32
import { readFileSync } from "node:fs";
import * as ort from "onnxruntime-web";

const session = await ort.InferenceSession.create(readFileSync("moodfield.onnx"));
const samples = new Float32Array(new Uint8Array(readFileSync(process.argv[2])).buffer);
const waveform = new ort.Tensor("float32", samples, [samples.length]);
const { tags, scores, decided } = await session.run({ waveform });
tags.data.forEach((tag, i) => decided.data[i] && console.log(tag, scores.data[i].toFixed(3)));
