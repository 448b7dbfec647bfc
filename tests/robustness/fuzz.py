"""Reads many damaged files and parses many odd options: `make fuzz N=10000`.

The inputs follow from the seed. What ends in anything but a success or one line is kept in `tests/robustness/cases`,
as a test of the suite, and the exit code is 1.
"""

import argparse
import collections
import hashlib
import sys
import tempfile
import time
from pathlib import Path
from random import Random

from tests.robustness import options
from tests.robustness.damage import CASES, damaged, problem_of, whole
from tests.robustness.readers import KINDS

OPTIONS = "options"


def main() -> int:
    """Try the inputs, print how many of which kind, and return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--count", type=int, default=10_000, help="number of inputs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kind", choices=[*KINDS, OPTIONS], help="one kind alone")
    chosen = parser.parse_args()
    random, started = Random(chosen.seed), time.monotonic()
    kinds = [chosen.kind] if chosen.kind else [*KINDS, OPTIONS]
    shares = [KINDS[kind].share if kind in KINDS else 3 for kind in kinds]
    with tempfile.TemporaryDirectory() as folder:
        contents = {kind: whole(kind, _made(Path(folder) / kind)) for kind in kinds if kind in KINDS}
    tried: collections.Counter[str] = collections.Counter()
    found: collections.Counter[str] = collections.Counter()
    for number in range(chosen.count):
        (kind,) = random.choices(kinds, shares)
        tried[kind] += 1
        if kind == OPTIONS:
            module, given = options.arguments(random)
            if problem := options.problem_of(module, given):
                found[kind] += 1
                print(f"{module} {given}: {problem}", flush=True)
            continue
        data = damaged(contents[kind], random)
        if problem := problem_of(kind, data):
            found[kind] += 1
            case = CASES / f"{kind}-{hashlib.sha256(data).hexdigest()[:12]}.bin"
            case.write_bytes(data)
            print(f"{case}: {problem}", flush=True)
        if (number + 1) % 1000 == 0:
            print(f"{number + 1} inputs, {found.total()} found, {time.monotonic() - started:.0f} s", flush=True)
    for kind in kinds:
        print(f"{kind:10} {tried[kind]:6} inputs, {found[kind]} found")
    print(
        f"{tried.total()} inputs with seed {chosen.seed} in {time.monotonic() - started:.0f} s, {found.total()} found"
    )
    return 1 if found else 0


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


if __name__ == "__main__":
    sys.exit(main())
