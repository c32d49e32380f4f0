"""HF datasets: read the rows, and `map` a fast AutoTokenizer over them, batched.

python -m benchmarks.speed.contenders.hf_build BUNDLE TOKENIZER OUT MAX_TOKENS PROCESSES
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import datasets
from transformers import AutoTokenizer

Rows = dict[str, list[Any]]


class Encode:
    """What is mapped, with a tokenizer; by the columns of the bundle."""

    def __init__(self, tokenizer: Any, max_tokens: int) -> None:
        self.tokenizer, self.max_tokens = tokenizer, max_tokens

    def __call__(self, rows: Rows) -> Rows:
        """Token ids and targets of a batch of rows."""
        options = {"truncation": True, "max_length": self.max_tokens}
        if "words" in rows:
            encoded = self.tokenizer(rows["words"], is_split_into_words=True, **options)
            tags = [
                [-100 if word is None else tags[word] for word in encoded.word_ids(i)]
                for i, tags in enumerate(rows["tags"])
            ]
            return {"input_ids": encoded["input_ids"], "labels": tags}
        if "options" in rows:
            pairs = [pair for row in rows["options"] for pair in row]
            firsts, lasts = [first for first, _ in pairs], [last for _, last in pairs]
            ids = iter(self.tokenizer(firsts, lasts, **options)["input_ids"])
            return {
                "input_ids": [[next(ids) for _ in row] for row in rows["options"]],
                "labels": rows["label"],
            }
        seconds = None if rows["second"][0] is None else rows["second"]
        encoded = self.tokenizer(rows["first"], seconds, **options)
        return {"input_ids": encoded["input_ids"], "labels": rows["label"]}


def main(bundle: Path, tokenizer: str, out: Path, max_tokens: int, processes: int) -> None:
    """Encode all files of the bundle, into the library's cache."""
    start = time.perf_counter()
    encode = Encode(AutoTokenizer.from_pretrained(tokenizer), max_tokens)
    files = json.loads((bundle / "files.json").read_text("utf-8"))
    for entry in files:
        rows = datasets.Dataset.from_json(str(bundle / entry["file"]), cache_dir=str(out))
        rows.map(
            encode,
            batched=True,
            num_proc=None if processes == 1 else processes,
            remove_columns=rows.column_names,
        )
    seconds = time.perf_counter() - start
    print(json.dumps({"seconds": seconds, "rows": sum(entry["rows"] for entry in files)}))


if __name__ == "__main__":
    datasets.disable_progress_bars()
    main(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5]))
