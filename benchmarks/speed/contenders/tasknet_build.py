"""tasknet: read the rows, and let its Trainer's `preprocess_tasks` encode them, batched.

    python -m benchmarks.speed.contenders.tasknet_build BUNDLE TOKENIZER OUT MAX_TOKENS PROCESSES

Its classes load metrics from the hub when they are defined; `evaluate.load` is replaced by nothing,
since encoding needs none.
"""

import json
import sys
import time
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import evaluate
from transformers import AutoTokenizer

evaluate.load = lambda *arguments, **options: None
import tasknet  # noqa: E402


def main(bundle: Path, tokenizer: str, out: Path, max_tokens: int, processes: int) -> None:
    """Encode all files of the bundle, into the library's cache."""
    start = time.perf_counter()
    files = json.loads((bundle / "files.json").read_text("utf-8"))
    splits: dict[str, datasets.DatasetDict] = defaultdict(datasets.DatasetDict)
    for entry in files:
        rows = datasets.Dataset.from_json(str(bundle / entry["file"]), cache_dir=str(out))
        splits[entry["task"]][entry["role"]] = rows
    # Its limit of length, and no padding of what is stored, as for the others.
    options = {"truncation": True, "max_length": max_tokens}
    tasks = [_task(name, of_task, options) for name, of_task in splits.items()]
    trainer: Any = SimpleNamespace(batched=True, num_proc=None if processes == 1 else processes)
    tasknet.Trainer.preprocess_tasks(trainer, tasks, AutoTokenizer.from_pretrained(tokenizer))
    seconds = time.perf_counter() - start
    print(json.dumps({"seconds": seconds, "rows": sum(entry["rows"] for entry in files)}))


def _task(name: str, splits: datasets.DatasetDict, options: dict[str, Any]) -> Any:
    """A task of its kind; its classes want a column for each option, and a number of labels."""
    columns = splits["train"].column_names
    common = {"name": name, "tokenizer_kwargs": options}
    if "words" in columns:
        tags = datasets.Sequence(datasets.ClassLabel(num_classes=3))
        splits = splits.cast_column("tags", tags)
        return tasknet.TokenClassification(splits, tokens="words", y="tags", **common)
    if "options" in columns:
        width = len(splits["train"][0]["options"])
        splits = splits.map(
            lambda rows: {
                "inputs": [row[0][0] for row in rows["options"]],
                **{f"choice{i}": [row[i][1] for row in rows["options"]] for i in range(width)},
            },
            batched=True,
            remove_columns=["options"],
        )
        return tasknet.MultipleChoice(splits, y="label", **common)
    paired = splits["train"][0]["second"] is not None
    if not paired:
        splits = splits.remove_columns("second")
    return tasknet.Classification(splits, s1="first", s2="second", y="label", **common)


if __name__ == "__main__":
    datasets.disable_progress_bars()
    main(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5]))
