#!/usr/bin/env python3
"""Decodes as many tokens as PREDICTED says after a prompt of PROMPT with llama.cpp's server, and prints the tokens a second, by its
own clock.

    python3 decode_speed_xllamacpp.py MODEL.gguf THREADS PROMPT PREDICTED

Needs: pip install xllamacpp==2026.10.11549. `generation_speed.py` calls this.
"""

import sys

import xllamacpp


def main():
    threads, prompt, predicted = map(int, sys.argv[2:])
    params = xllamacpp.CommonParams()
    params.model.path = sys.argv[1]
    params.n_ctx = prompt + predicted + 1
    params.n_parallel = 1
    params.warmup = False
    params.fit_params = False
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    answer = xllamacpp.Server(params).handle_completions(
        {"prompt": list(range(2, 2 + prompt)), "n_predict": predicted, "temperature": 0, "ignore_eos": True}
    )
    if answer["timings"]["predicted_n"] != predicted:
        sys.exit(f"{answer['timings']}")
    print(answer["timings"]["predicted_per_second"])


if __name__ == "__main__":
    main()
