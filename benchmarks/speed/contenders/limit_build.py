"""The least that a build must do: read, encode on the tokenizer's threads, write plain Arrow.

python limit_build.py BUNDLE TOKENIZER_JSON OUT MAX_TOKENS
"""

import gzip
import json
import resource
import sys
import time
from array import array
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from tokenizers import Tokenizer

CHUNK = 10_000


def main(bundle: Path, tokenizer_file: str, out: Path, max_tokens: int) -> None:
    pa.array([])  # imports pandas where it is installed; imports are not timed, here as there
    start = time.perf_counter()
    out.mkdir(parents=True)
    tokenizer = Tokenizer.from_file(tokenizer_file)
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_tokens)
    files = json.loads((bundle / "files.json").read_text("utf-8"))
    num_tokens = 0
    for entry in files:
        num_tokens += _build(bundle / entry["file"], tokenizer, out / f"{entry['file']}.arrow")
    print(
        json.dumps(
            {
                "seconds": time.perf_counter() - start,
                "rows": sum(entry["rows"] for entry in files),
                "tokens": num_tokens,
                "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3,
            }
        )
    )


def _build(path: Path, tokenizer: Tokenizer, out: Path) -> int:
    num_tokens, writer = 0, None
    with gzip.open(path, "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    words = "words" in rows[0]
    for at in range(0, len(rows), CHUNK):
        texts = [text for row in rows[at : at + CHUNK] for text in _texts(row)]
        encodings = tokenizer.encode_batch_fast(texts, is_pretokenized=words)
        flat, lengths = array("H"), []
        for encoding in encodings:
            ids = encoding.ids
            flat.fromlist(ids)
            lengths.append(len(ids))
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
        column = pa.ListArray.from_arrays(pa.array(offsets), pa.array(np.frombuffer(flat, "H")))
        batch = pa.RecordBatch.from_pydict({"input_ids": column})
        writer = writer or pa.ipc.new_stream(str(out), batch.schema)
        writer.write_batch(batch)
        num_tokens += len(flat)
    if writer is not None:
        writer.close()
    return num_tokens


def _texts(row: dict[str, Any]) -> list[Any]:
    if "words" in row:
        return [row["words"]]
    if "options" in row:
        return [tuple(pair) for pair in row["options"]]
    return [row["first"] if row["second"] is None else (row["first"], row["second"])]


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]))
