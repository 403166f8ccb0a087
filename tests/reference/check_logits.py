"""Opens a cache of logits of ours with pyarrow and checks what every row says. See README.md.

    check_logits.py DIRECTORY
"""

import glob
import json
import os
import sys

import numpy as np
import pyarrow.parquet as pq


def targets(row, vocab_size):
    """Positions of a row with the range of its places that each has, and the ids."""
    places = np.cumsum(np.asarray(row["place_gaps"], dtype=np.uint64), dtype=np.uint64)
    assert (np.diff(places.astype(np.int64)) > 0).all(), "places ascend"
    positions, starts = np.unique(places // vocab_size, return_index=True)
    assert positions[-1] < row["length"], "positions are in the segment"
    return starts, (places % vocab_size).astype(np.int64)


def check(row, codec, vocab_size):
    starts, ids = targets(row, vocab_size)
    if codec["kind"] == "random_sampling":
        assert (np.add.reduceat(row["counts"], starts) == codec["draws"]).all(), "counts sum to the draws"
    elif codec["kind"] == "top_k":
        kept = np.add.reduceat(np.exp(np.asarray(row["log_probabilities"], dtype=np.float64)), starts)
        ghost = np.exp(np.asarray(row["ghost_log_probabilities"], dtype=np.float64))
        # Logarithms of 16 bits and more.
        assert np.abs(kept + ghost - 1).max() < 1e-3, "probabilities sum to 1"
        assert (np.diff(np.append(starts, len(ids))) == min(codec["k"], vocab_size)).all()
    else:
        assert (ids == 0).all() and len(row["logits"]) == len(ids) * vocab_size
    return len(starts), len(ids)


def main(directory):
    with open(os.path.join(directory, "cache.json"), encoding="utf-8") as file:
        header = json.load(file)
    vocab_size, codec = header["identity"]["vocab_size"], header["codec"]
    # One read of the directory, as any data frame library has it.
    table = pq.read_table(os.path.join(directory, "parts"))
    counted = [check(row, codec, vocab_size) for batch in table.to_batches(256) for row in batch.to_pylist()]
    sets = codec.get("sets", 1)
    assert len(counted) == header["extent"]["segments"] * sets
    keys = set(zip(*(table[name].to_pylist() for name in ("entry", "document", "segment", "set"))))
    assert len(keys) == len(counted), "a row has a name of its own"
    tokens, ids = (sum(column) for column in zip(*counted))
    size = sum(os.path.getsize(path) for path in glob.glob(os.path.join(directory, "parts", "*.parquet")))
    print(f"{len(keys)} rows, {tokens} targets, {ids / tokens:.2f} ids and {size / tokens:.2f} bytes a target")


if __name__ == "__main__":
    main(sys.argv[1])
