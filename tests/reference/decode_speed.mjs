// Decodes 48 tokens after a prompt of 16 with llama.cpp, and prints the tokens a second.
//
//     node decode_speed.mjs MODULES MODEL.gguf THREADS
//
// MODULES is a directory in which `npm install --ignore-scripts node-llama-cpp@3.22.1` ran. `decode_speed.py` calls this.

import { load } from "./packages.mjs";

const PROMPT = 16;
const PREDICTED = 48;

const [modules, modelPath, threads] = process.argv.slice(2);
if (threads === undefined) {
  console.error("usage: node decode_speed.mjs MODULES MODEL.gguf THREADS");
  process.exit(2);
}
const { getLlama } = await load(modules, "node-llama-cpp");

const llama = await getLlama({ gpu: false, build: "never", logLevel: "error", maxThreads: Number(threads) });
const model = await llama.loadModel({ modelPath });
const context = await model.createContext({ contextSize: 512, threads: Number(threads) });
const prompt = Array.from({ length: PROMPT }, (_, id) => id + 2);
let decoded = 0;
let started;
// The first token is the prompt's, the others are decoded.
for await (const _ of context.getSequence().evaluate(prompt, { temperature: 0, yieldEogToken: true })) {
  started ??= performance.now();
  if (decoded === PREDICTED) break;
  decoded += 1;
}
console.log((1000 * PREDICTED) / (performance.now() - started));
process.exit(0);
