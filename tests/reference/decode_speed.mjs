// Decodes as many tokens as PREDICTED says after a prompt of PROMPT with llama.cpp, and prints the tokens a second.
//
//     node decode_speed.mjs MODULES MODEL.gguf THREADS PROMPT PREDICTED
//
// MODULES is a directory in which `npm install --ignore-scripts node-llama-cpp@3.22.1` ran. `decode_speed.py` and
// `generation_speed.py` call this.

import { load } from "./packages.mjs";

const [modules, modelPath, ...numbers] = process.argv.slice(2);
const [threads, promptLength, predicted] = numbers.map(Number);
if (predicted === undefined) {
  console.error("usage: node decode_speed.mjs MODULES MODEL.gguf THREADS PROMPT PREDICTED");
  process.exit(2);
}
const { getLlama } = await load(modules, "node-llama-cpp");

const llama = await getLlama({ gpu: false, build: "never", logLevel: "error", maxThreads: threads });
const model = await llama.loadModel({ modelPath });
const context = await model.createContext({ contextSize: promptLength + predicted + 1, threads });
const prompt = Array.from({ length: promptLength }, (_, id) => id + 2);
let decoded = 0;
let started;
// The first token is the prompt's, the others are decoded.
for await (const _ of context.getSequence().evaluate(prompt, { temperature: 0, yieldEogToken: true })) {
  started ??= performance.now();
  if (decoded === predicted) break;
  decoded += 1;
}
console.log((1000 * predicted) / (performance.now() - started));
process.exit(0);
