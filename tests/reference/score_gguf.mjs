// Scores every token of texts with llama.cpp.
//
//     node score_gguf.mjs MODULES MODEL.gguf TEXTS.json
//
// MODULES is a directory in which `npm install --ignore-scripts node-llama-cpp@3.22.1` ran; TEXTS.json holds an array of
// strings. Prints one JSON object: nats and tokens. `score_gguf.py` calls this.

import { readFileSync } from "node:fs";

import { load } from "./packages.mjs";

const [modules, modelPath, texts] = process.argv.slice(2);
if (texts === undefined) {
  console.error("usage: node score_gguf.mjs MODULES MODEL.gguf TEXTS.json");
  process.exit(2);
}
const { getLlama } = await load(modules, "node-llama-cpp");

// One thread: of small models two wait for each other longer than they compute.
const llama = await getLlama({ gpu: false, build: "never", logLevel: "error", maxThreads: 1 });
const model = await llama.loadModel({ modelPath });
const length = model.trainContextSize;
const context = await model.createContext({
  contextSize: length + 1,
  batchSize: length + 1,
  flashAttention: false,
  experimentalKvCacheKeyType: "F32",
  experimentalKvCacheValueType: "F32",
});
const sequence = context.getSequence();
const [end, ...others] = model.tokenize("<|endoftext|>", true);
if (end === undefined || others.length > 0) {
  console.error(`${modelPath}: <|endoftext|> is not one token`);
  process.exit(1);
}

let nats = 0;
let tokens = 0;
for (const text of JSON.parse(readFileSync(texts, "utf-8"))) {
  const ids = [end, ...model.tokenize(text, false), end];
  for (let start = 0; start + 1 < ids.length; start += length) {
    const targets = ids.slice(start + 1, start + length + 1);
    const inputs = targets.map((_, i) => [ids[start + i], { generateNext: { logits: true } }]);
    await sequence.clearHistory();
    const outputs = await sequence.controlledEvaluate(inputs);
    targets.forEach((target, i) => {
      const { logits } = outputs[i].next;
      // The largest comes first.
      const largest = logits.values().next().value;
      let sum = 0;
      for (const logit of logits.values()) sum += Math.exp(logit - largest);
      nats += largest + Math.log(sum) - logits.get(target);
    });
    tokens += targets.length;
  }
}
console.log(JSON.stringify({ nats, tokens }));
process.exit(0);
