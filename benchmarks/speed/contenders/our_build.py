"""muppet-zoo's build: read, check, render, encode, hash, write, and describe in manifests.

python -m benchmarks.speed.contenders.our_build MIRROR TOKENIZER_JSON OUT MAX_TOKENS LIMIT
"""

import json
import resource
import sys
import time
from importlib import import_module
from pathlib import Path

from benchmarks.speed.inputs import TASKS
from muppet_zoo.build import BuildOptions, build
from muppet_zoo.encode import open_tokenizer
from muppet_zoo.zoo import load_zoo

# Imports are not timed, here as with the limit.
_LOADED_WHEN_NEEDED = ("filelock", "tokenizers", "muppet_zoo.overlap.guard", "muppet_zoo.shards")


def main(mirror: Path, tokenizer: str, out: Path, max_tokens: int, limit: int | None) -> None:
    for name in _LOADED_WHEN_NEEDED:
        import_module(name)
    start = time.perf_counter()
    zoo = load_zoo()
    report = build(
        [zoo.task(name) for name in TASKS],
        tokenizer=open_tokenizer(tokenizer),
        out=out,
        options=BuildOptions(mirror=mirror, max_tokens=max_tokens, limit=limit),
    )
    if report.errors:
        raise SystemExit("\n".join(map(str, report.errors)))
    manifests = [each.manifest for each in report.outcomes if each.manifest is not None]
    print(
        json.dumps(
            {
                "seconds": time.perf_counter() - start,
                "rows": sum(manifest.num_source_rows for manifest in manifests),
                "tokens": sum(manifest.num_tokens for manifest in manifests),
                "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3,
            }
        )
    )


if __name__ == "__main__":
    limit = int(sys.argv[5]) or None
    main(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]), limit)
