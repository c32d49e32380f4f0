"""tasknet: its Model and Trainer take steps on examples that are encoded already.

    python -m benchmarks.speed.contenders.tasknet_step EXAMPLES ENCODER ROWS

Reads a number of steps a line, takes them, and prints a line of JSON; so it can be asked in turn
with others. Its classes load metrics from the hub when they are defined; `evaluate.load` is
replaced by nothing, since training needs none.
"""

import json
import sys
import time
from collections import defaultdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import datasets
import evaluate
from transformers import AutoTokenizer, TrainerCallback

evaluate.load = lambda *arguments, **options: None
import tasknet  # noqa: E402

MAX_TOKENS = 128
SKIPPED = 2  # steps that only warm up: Trainer prepares itself in every call


class Encoded(tasknet.Classification):
    """A task whose rows are token ids; like its own preprocessing, filled up to the most."""

    def preprocess_function(self, row: dict[str, Any]) -> dict[str, Any]:
        """What its tokenizer would return."""
        ids = row["ids"]
        padding = [0] * (MAX_TOKENS - len(ids))
        return {
            "input_ids": ids + padding,
            "attention_mask": [1] * len(ids) + padding,
            "task": self.index,
        }


class Clock(TrainerCallback):
    """When the steps that count began and ended."""

    started = ended = 0.0

    def on_step_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        """Reads the clock."""
        if state.global_step == SKIPPED:
            self.started = time.perf_counter()
        self.ended = time.perf_counter()


class CountingTrainer(tasknet.Trainer):
    """Counts tokens, and cells after its own cut to the longest row of a batch."""

    def compute_loss(self, model: Any, inputs: Any, *others: Any, **named: Any) -> Any:
        """As the library's."""
        lengths = inputs["attention_mask"].sum(-1)
        self.counted.append((int(lengths.sum()), int(lengths.max()) * len(lengths)))
        return super().compute_loss(model, inputs, *others, **named)


def main(examples: Path, encoder: str, rows: int, out: Path) -> None:
    """Answer until there are no more questions."""
    tasks = read_tasks(examples)
    settings = {
        "model_name": encoder, "learning_rate": 2e-5, "per_device_train_batch_size": rows,
        "output_dir": str(out), "save_strategy": "no", "eval_strategy": "no",
        "logging_strategy": "no", "report_to": [], "disable_tqdm": True, "use_cpu": True,
    }  # fmt: skip
    model, tokenizer = tasknet.Model(tasks, settings), AutoTokenizer.from_pretrained(encoder)
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        clock = Clock()
        steps = {"max_steps": int(line) + SKIPPED}
        trainer = CountingTrainer(model, tasks, {**settings, **steps}, tokenizer, callbacks=[clock])
        trainer.counted = []
        trainer.train()
        tokens, cells = (sum(part) for part in zip(*trainer.counted[SKIPPED:], strict=True))
        rate = tokens / (clock.ended - clock.started)
        print(json.dumps({"tokens_per_s": rate, "padding": 1 - tokens / cells}), flush=True)


def read_tasks(examples: Path) -> list[Encoded]:
    """A task for each number in the file, whose lines are {"task", "ids", "label"}."""
    columns: dict[int, dict[str, list[Any]]] = defaultdict(lambda: {"ids": [], "labels": []})
    for line in examples.read_text("utf-8").splitlines():
        row = json.loads(line)
        columns[row["task"]]["ids"].append(row["ids"])
        columns[row["task"]]["labels"].append(row["label"])
    tasks = []
    for number, of_task in sorted(columns.items()):
        split = datasets.Dataset.from_dict(of_task)
        splits = datasets.DatasetDict(
            train=split, validation=split.select([0]), test=split.select([0])
        )
        tasks.append(Encoded(splits, y="labels", name=f"task{number}"))
    return tasks


if __name__ == "__main__":
    datasets.disable_progress_bars()
    with TemporaryDirectory() as folder:
        main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), Path(folder))
