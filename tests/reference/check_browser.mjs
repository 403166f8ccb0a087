// Runs a GGUF file of ours in a browser, by wllama (llama.cpp in WebAssembly), and compares what it writes with what
// Limbeck says that it writes.
//
//     node check_browser.mjs MODULES MODEL.gguf EXPECTED.json [BROWSER]
//
// MODULES is a directory in which `npm install --ignore-scripts @wllama/wllama@3.13.0` ran; BROWSER is a Chromium,
// default `chromium`. The page comes from this process, at an address of this machine; the browser needs nothing else.
//
// EXPECTED.json is that of `check_transformers.py`; of it prompt_texts, greedy, end_ids, greedy_texts, log_probs_last and
// kl_tolerance count here. Without a kl_tolerance, the texts must be the same. With one, llama.cpp rounds activations, and
// texts part where two tokens are nearly as likely: what counts then is the Kullback-Leibler divergence of the token that
// follows a prompt, in nats, from our probabilities. Exit 0: all agree. Exit 1: something differs, and a line says what.
// Exit 2: bad usage, or the browser gave no answers to compare.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { dirname, extname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

const TYPES = { ".html": "text/html", ".js": "text/javascript", ".wasm": "application/wasm", ".json": "application/json" };
const LONGEST_MS = 180_000;

// Tokens whose probabilities are compared, the others as one: with 100 the client fails on some models.
const LISTED = 20;

const [modules, model, expectedPath, browser = "chromium"] = process.argv.slice(2);
if (expectedPath === undefined) {
  console.error("usage: node check_browser.mjs MODULES MODEL.gguf EXPECTED.json [BROWSER]");
  process.exit(2);
}
const expected = JSON.parse(readFileSync(expectedPath, "utf-8"));

// Not those that the model continues with half a character: the client ends where it should say such a token.
const compared = expected.prompt_texts.map((_, index) => index).filter((index) => !expected.greedy_texts[index].includes("\ufffd"));
if (2 * compared.length < expected.prompt_texts.length) {
  console.error("most of the prompts are continued with half a character");
  process.exit(2);
}

// Up to the end token, or as many as ours has.
const prompts = compared.map((index) => {
  const prompt = expected.prompt_texts[index];
  const end = expected.greedy[index].findIndex((id) => expected.end_ids.includes(id));
  const max_tokens = end < 0 ? expected.greedy[index].length : end + 1;
  return { prompt, max_tokens, logprobs: LISTED };
});

const wllama = resolve(modules, "node_modules/@wllama/wllama/esm");
const fileAt = (path) => {
  if (path === "/") return join(dirname(fileURLToPath(import.meta.url)), "check_browser.html");
  if (path === "/model.gguf") return resolve(model);
  const inside = resolve(wllama, `.${path.replace(/^\/wllama/, "")}`);
  return path.startsWith("/wllama/") && inside.startsWith(wllama) ? inside : undefined;
};

let settle;
const result = new Promise((resolve) => (settle = resolve));

const serve = async (request, response) => {
  const path = new URL(request.url, "http://127.0.0.1").pathname;
  if (path === "/result") {
    const chunks = [];
    for await (const chunk of request) chunks.push(chunk);
    response.end();
    return settle(JSON.parse(Buffer.concat(chunks)));
  }
  const file = fileAt(path);
  try {
    const body = path === "/prompts.json" ? JSON.stringify(prompts) : readFileSync(file);
    response.writeHead(200, { "Content-Type": TYPES[extname(file ?? path)] ?? "application/octet-stream" });
    response.end(body);
  } catch {
    response.writeHead(404);
    response.end();
  }
};

const server = createServer(serve).listen(0, "127.0.0.1");
await once(server, "listening");
const profile = mkdtempSync(join(tmpdir(), "check-browser-"));
const address = `http://127.0.0.1:${server.address().port}/`;
// Without a sandbox of its own: it would not start as root.
const options = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", `--user-data-dir=${profile}`];
// A group of its own, for a browser is many processes.
const process_ = spawn(browser, [...options, address], { stdio: "ignore", detached: true });
process_.on("error", (error) => settle({ error: `${browser}: ${error.message}` }));
process_.on("exit", () => settle({ error: `${browser} ended` }));
const timer = setTimeout(() => settle({ error: `no answer in ${LONGEST_MS / 1000} s` }), LONGEST_MS);
const { error, agent, answers } = await result;
clearTimeout(timer);
server.close();
server.closeAllConnections();
if (process_.exitCode === null && process_.pid !== undefined) {
  const ended = once(process_, "exit");
  process.kill(-process_.pid, "SIGKILL");
  await ended;
}
rmSync(profile, { recursive: true, force: true, maxRetries: 20 });

if (error) {
  console.error(`the browser failed: ${error}`);
  process.exit(2);
}
if (answers.length !== prompts.length || answers.some(({ log_probs }) => log_probs.length !== LISTED)) {
  console.error(`the browser must answer ${prompts.length} prompts with ${LISTED} probabilities each`);
  process.exit(2);
}
console.log(agent);
console.log(`${compared.length} of ${expected.prompt_texts.length} prompts`);
let [shared, written] = [0, 0];
const divergences = [];
for (const [answer, { text, log_probs }] of answers.entries()) {
  const index = compared[answer];
  const ours = expected.greedy_texts[index];
  console.log(`${JSON.stringify(expected.prompt_texts[index])} -> ${JSON.stringify(text)}`);
  let parted = 0;
  while (parted < Math.min(ours.length, text.length) && ours[parted] === text[parted]) parted += 1;
  shared += parted;
  written += Math.max(ours.length, text.length);
  if (text !== ours) console.log(`  ours from character ${parted} on: ${JSON.stringify(ours.slice(parted))}`);
  // Ids that are not listed count as one.
  let [divergence, rest, theirRest] = [0, 1, 1];
  for (const [id, theirs] of log_probs) {
    const own = expected.log_probs_last[index][id];
    divergence += Math.exp(own) * (own - theirs);
    rest -= Math.exp(own);
    theirRest -= Math.exp(theirs);
  }
  divergences.push(divergence + rest * Math.log(rest / theirRest));
}
const largest = Math.max(...divergences);
console.log(`${shared} of ${written} characters before the first difference, largest KL ${largest.toPrecision(3)}`);
const agrees = expected.kl_tolerance === undefined ? shared === written : largest <= expected.kl_tolerance;
if (!agrees) console.error("the browser disagrees");
process.exit(agrees ? 0 : 1);
