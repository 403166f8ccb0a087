"""Which texts a client of a model directory can be compared on."""

import json
import unicodedata
from pathlib import Path


def comparable(directory, texts, text_ids):
    """Pairs of a text and its tokens.

    transformers 5 opens every tokenizer of model type `qwen2` as `Qwen2Tokenizer`, whatever class `tokenizer_config.json`
    names, and that composes characters first (NFC), which neither `tokenizer.json` of ours nor llama.cpp does. Texts that
    are composed already are tokenised alike; the others are left out there.
    """
    pairs = list(zip(texts, text_ids, strict=True))
    config = json.loads((Path(directory) / "config.json").read_text(encoding="utf-8"))
    if config["model_type"] != "qwen2":
        return pairs
    return [(text, ids) for text, ids in pairs if unicodedata.is_normalized("NFC", text)]
