"""Talks to `generate --serve` with OpenAI's own client.

    python check_server.py GENERATE MODEL

Needs: pip install openai==3.57.0. Starts `GENERATE --from MODEL --serve` on a free port, where MODEL has been fine-tuned on
chats, so that it ends its turns, and has a context of 128 tokens or more.

Prints one line a check. Exit 0: all is as OpenAI's API has it. Exit 1: something is not, and a line says what. Exit 2: bad usage.
"""

import json
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request

import openai

# Seconds that the slowest of eight clients may wait for its first token. Alone it is a few milliseconds; the rest is room for
# a machine that does other work.
FIRST_TOKEN_S = 10.0
QUESTIONS = ["What is 18 plus 72?", "Where does Petra live?", "Who is a tailor?", "What is 5 times 4?"]


class Disagreement(Exception):
    """The server does what OpenAI's does not."""


def expect(claim, what):
    if not claim:
        raise Disagreement(what)


class Server:
    """The process, its client, and what /health says."""

    def __init__(self, generate, model):
        self.process = subprocess.Popen(
            [generate, "--from", model, "--serve", "127.0.0.1:0"], stderr=subprocess.PIPE, text=True
        )
        said = []
        for line in self.process.stderr:
            said.append(line)
            if found := re.match(r"serving `(.*)` at (http://\S+)/v1, .* contexts of (\d+) tokens", line):
                break
        else:
            raise Disagreement(f"it does not serve: {''.join(said)}")
        self.model, self.url, self.context = found[1], found[2], int(found[3])
        # Read to its end, so that it never waits for a reader.
        threading.Thread(target=self.process.stderr.read, daemon=True).start()
        self.client = openai.OpenAI(base_url=f"{self.url}/v1", api_key="none", max_retries=0, timeout=60)

    def chat(self, messages, **options):
        if isinstance(messages, str):
            messages = [{"role": "user", "content": messages}]
        return self.client.chat.completions.create(model=self.model, messages=messages, **options)

    def health(self):
        with urllib.request.urlopen(f"{self.url}/health", timeout=60) as response:
            return json.load(response)

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=60)


def check_models(server):
    listed = [model.id for model in server.client.models.list()]
    expect(listed == [server.model], f"it lists {listed}")
    expect(server.client.models.retrieve(server.model).id == server.model, "it does not know its model")
    return listed[0]


def check_chat(server):
    """A conversation, with what the client gives back of an answer sent again as it is."""
    messages = [{"role": "system", "content": "Answer in a few words."}, {"role": "user", "content": QUESTIONS[0]}]
    answer = server.chat(messages, temperature=0, max_tokens=24)
    choice = answer.choices[0]
    expect(answer.object == "chat.completion" and answer.model == server.model, f"{answer}")
    expect(choice.message.role == "assistant" and choice.finish_reason in ("stop", "length"), f"{choice}")
    messages += [choice.message, {"role": "user", "content": [{"type": "text", "text": QUESTIONS[1]}]}]
    second = server.chat(messages, temperature=0, max_completion_tokens=5)
    expect(second.usage.prompt_tokens > answer.usage.prompt_tokens, "the second prompt has the first in it")
    expect(second.usage.completion_tokens <= 5, f"{second.usage}")
    total = second.usage.prompt_tokens + second.usage.completion_tokens
    expect(second.usage.total_tokens == total, f"{second.usage}")
    return f"{choice.message.content!r}, then {second.choices[0].message.content!r}"


def check_stream(server):
    """Chunks that say the same as the whole answer, drawn from a seed, with the counts at the end."""
    options = {"temperature": 0.8, "seed": 11, "max_tokens": 40}
    whole = server.chat(QUESTIONS[2], **options)
    chunks = list(server.chat(QUESTIONS[2], stream=True, stream_options={"include_usage": True}, **options))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    expect(text == whole.choices[0].message.content, f"{text!r} is not {whole.choices[0].message.content!r}")
    expect(chunks[-1].usage == whole.usage and not chunks[-1].choices, f"{chunks[-1]}")
    expect(chunks[-2].choices[0].finish_reason == whole.choices[0].finish_reason, f"{chunks[-2]}")
    expect(all(chunk.usage is None for chunk in chunks[:-1]), "counts come before the end")
    plain = list(server.chat(QUESTIONS[2], stream=True, **options))
    expect(all(chunk.usage is None for chunk in plain) and plain[-1].choices, "nobody asked for counts")
    return f"{len(chunks)} chunks, {whole.usage.completion_tokens} tokens"


def check_ends(server):
    """The end of a turn, a limit, a stop string."""
    answers = [server.chat(question, temperature=0) for question in QUESTIONS]
    ended = [answer for answer in answers if answer.choices[0].finish_reason == "stop"]
    expect(ended, "no answer ends with the turn")
    for answer in answers:
        expect("<|" not in answer.choices[0].message.content, f"special tokens are text: {answer}")
    length = server.chat(QUESTIONS[0], temperature=0, max_tokens=2)
    expect(length.choices[0].finish_reason == "length" and length.usage.completion_tokens == 2, f"{length}")
    whole = max((answer.choices[0].message.content for answer in answers), key=len)
    question = QUESTIONS[[answer.choices[0].message.content for answer in answers].index(whole)]
    stop = whole[len(whole) // 2 :][:3]
    stopped = server.chat(question, temperature=0, stop=[stop, "never said"])
    expect(stopped.choices[0].message.content == whole[: whole.find(stop)], f"{stopped} goes on after {stop!r}")
    expect(stopped.choices[0].finish_reason == "stop", f"{stopped}")
    return f"{len(ended)} of {len(answers)} answers end with the turn"


def check_errors(server):
    """Each with the class that the client has for it, and what the server says."""
    user = {"role": "user", "content": "hi"}
    cases = [
        (openai.BadRequestError, None, {"messages": []}),
        (openai.BadRequestError, None, {"messages": [{"role": "robot", "content": "hi"}]}),
        (openai.BadRequestError, None, {"messages": [user], "temperature": 9}),
        (openai.BadRequestError, "context_length_exceeded", {"messages": [{**user, "content": "word " * server.context}]}),
        (openai.BadRequestError, "unsupported_parameter", {"messages": [user], "n": 3}),
        (openai.BadRequestError, "unsupported_parameter", {"messages": [user], "response_format": {"type": "json_object"}}),
        (openai.BadRequestError, "unsupported_parameter", {"messages": [user], "extra_body": {"best_of": 2}}),
        (openai.NotFoundError, "model_not_found", {"messages": [user], "model": "gpt-4o"}),
    ]
    for kind, code, options in cases:
        try:
            server.client.chat.completions.create(**{"model": server.model, **options})
        except kind as error:
            expect(error.code == code and error.body["message"], f"{options}: {error}")
            continue
        raise Disagreement(f"{options} is answered")
    try:
        server.client.embeddings.create(model=server.model, input="hi")
    except openai.NotFoundError:
        return f"{len(cases) + 1} requests refused"
    raise Disagreement("there are embeddings")


def check_gone(server):
    """A client that goes away mid-stream ends its answer, and others are answered."""
    said = []
    # On a machine that does other work, an answer may end by itself before anybody notices.
    for seed in range(5):
        before = server.health()["generated_tokens"]
        # Drawn from nearly equal chances, without an end of the turn in sight.
        stream = server.chat(QUESTIONS[1], stream=True, temperature=2, seed=seed)
        for count, _ in enumerate(stream):
            if count == 3:
                break
        stream.close()
        started = time.monotonic()
        while server.health()["running"] > 0:
            expect(time.monotonic() - started < 60, f"it goes on: {server.health()}")
            time.sleep(0.005)
        after = server.health()["generated_tokens"]
        time.sleep(0.05)
        expect(server.health()["generated_tokens"] == after, "it says more to nobody")
        said.append(after - before)
        server.chat(QUESTIONS[1], max_tokens=1)
    whole = server.chat(QUESTIONS[1], temperature=2, seed=0).usage.completion_tokens
    expect(min(said) < server.context // 2, f"answers went on for {said} tokens")
    return f"after {said} tokens, where an answer has {whole}"


def check_eight(server):
    """All at once, none starved, and each the same as alone."""
    options = [{"temperature": 0.9, "seed": client, "max_tokens": 48} for client in range(8)]
    questions = [QUESTIONS[client % len(QUESTIONS)] * (1 + client // 4) for client in range(8)]
    alone = [server.chat(*pair[:1], **pair[1]).choices[0].message.content for pair in zip(questions, options)]
    texts, first, failed = [""] * 8, [None] * 8, []
    ready = threading.Barrier(8)

    def talk(client):
        try:
            ready.wait()
            started = time.monotonic()
            for chunk in server.chat(questions[client], stream=True, **options[client]):
                if content := chunk.choices[0].delta.content:
                    first[client] = first[client] or time.monotonic() - started
                    texts[client] += content
        except Exception as error:
            failed.append(f"client {client}: {error}")

    threads = [threading.Thread(target=talk, args=(client,)) for client in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expect(not failed, "; ".join(failed))
    expect(texts == alone, "in company they hear something else")
    slowest = max(seconds or 0 for seconds in first)
    expect(slowest < FIRST_TOKEN_S, f"one waits {slowest:.1f} s for its first token")
    return f"the slowest has its first token after {1000 * slowest:.0f} ms, may wait {FIRST_TOKEN_S:.0f} s"


CHECKS = [check_models, check_chat, check_stream, check_ends, check_errors, check_gone, check_eight]


def main(arguments):
    if len(arguments) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    server, failed = Server(*arguments), False
    try:
        for check in CHECKS:
            name = check.__name__.removeprefix("check_")
            try:
                print(f"{name}: {check(server)}")
            except Disagreement as disagreement:
                print(f"{name}: {disagreement}", file=sys.stderr)
                failed = True
    finally:
        status = server.stop()
    if status != 128 + signal.SIGTERM:
        print(f"end: its exit status is {status}", file=sys.stderr)
        failed = True
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
