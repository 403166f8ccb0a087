// Runs the ONNX model that `check_onnx.py` built from a directory of ours in transformers.js, and compares it with what
// Limbeck says of the model.
//
//     node check_transformers_js.mjs MODULES DIRECTORY EXPECTED.json
//
// MODULES is a directory in which `npm install --ignore-scripts @huggingface/transformers@4.3.2` ran, DIRECTORY holds
// `model/`. EXPECTED.json is that of `check_transformers.py`; of it prompts, greedy, end_ids, texts, text_ids and chats
// count here. Exit 0: all agree. Exit 1: something differs, and a line says what. Exit 2: bad usage.

import { readFileSync } from "node:fs";
import { resolve } from "node:path";

import { load } from "./packages.mjs";

const [modules, directory, expectedPath] = process.argv.slice(2);
if (expectedPath === undefined) {
  console.error("usage: node check_transformers_js.mjs MODULES DIRECTORY EXPECTED.json");
  process.exit(2);
}

const { AutoModelForCausalLM, AutoTokenizer, Tensor, env } = await load(modules, "@huggingface/transformers");
env.allowRemoteModels = false;
env.localModelPath = `${resolve(directory)}/`;

const expected = JSON.parse(readFileSync(expectedPath, "utf-8"));
let failed = false;
const same = (what, ours, theirs) => {
  if (JSON.stringify(ours) !== JSON.stringify(theirs)) {
    failed = true;
    console.error(`transformers.js disagrees: ${what}: ${JSON.stringify(theirs)}, ours is ${JSON.stringify(ours)}`);
  }
};

const tokenizer = await AutoTokenizer.from_pretrained("model");
let different = 0;
for (const [index, text] of expected.texts.entries()) {
  const theirs = tokenizer.encode(text, { add_special_tokens: false });
  if (JSON.stringify(theirs) !== JSON.stringify(expected.text_ids[index])) {
    different += 1;
    if (different <= 3) same(`tokens of ${JSON.stringify(text)}`, expected.text_ids[index], theirs);
  }
}
console.log(`tokens: ${expected.texts.length} texts, ${different} otherwise`);

for (const { messages, text } of expected.chats) {
  same("chat", text, tokenizer.apply_chat_template(messages, { tokenize: false, add_generation_prompt: true }));
}
console.log(`chats: ${expected.chats.length}`);

const model = await AutoModelForCausalLM.from_pretrained("model", { dtype: "fp32", device: "cpu" });
let tokens = 0;
for (const [index, prompt] of expected.prompts.entries()) {
  const end = expected.greedy[index].findIndex((id) => expected.end_ids.includes(id));
  // With the end token, which it gives too.
  const ours = end < 0 ? expected.greedy[index] : expected.greedy[index].slice(0, end + 1);
  const ids = new BigInt64Array(prompt.map(BigInt));
  const input_ids = new Tensor("int64", ids, [1, prompt.length]);
  const attention_mask = new Tensor("int64", new BigInt64Array(prompt.length).fill(1n), [1, prompt.length]);
  const output = await model.generate({ input_ids, attention_mask, max_new_tokens: ours.length, do_sample: false });
  same(`greedy continuation ${index}`, ours, output.tolist()[0].slice(prompt.length).map(Number));
  tokens += ours.length;
}
console.log(`greedy: ${tokens} tokens`);
process.exit(failed ? 1 : 0);
