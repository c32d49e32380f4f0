"""muppet-zoo's build of generated tasks, to see how time and memory grow.

python -m benchmarks.speed.contenders.generated_build MIRROR NUM_TASKS TOKENIZER_JSON OUT MAX_TOKENS
"""

import json
import shutil
import sys
import time
from pathlib import Path

from benchmarks.speed.contenders.feeding import peak_mb
from benchmarks.speed.generated import generated_tasks
from muppet_zoo.build import BuildOptions, build
from muppet_zoo.encode import open_tokenizer


def main(mirror: Path, num_tasks: int, tokenizer: str, out: Path, max_tokens: int) -> None:
    """Build into an empty folder, and say what it took."""
    shutil.rmtree(out, ignore_errors=True)
    tasks = generated_tasks(num_tasks)
    start = time.perf_counter()
    report = build(
        tasks,
        tokenizer=open_tokenizer(tokenizer),
        out=out,
        options=BuildOptions(mirror=mirror, max_tokens=max_tokens),
    )
    seconds = time.perf_counter() - start
    if report.errors:
        raise SystemExit("\n".join(map(str, report.errors)))
    rows = sum(each.manifest.num_source_rows for each in report.outcomes if each.manifest)
    print(json.dumps({"seconds": seconds, "rows": rows, "peak_mb": peak_mb()}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3], Path(sys.argv[4]), int(sys.argv[5]))
