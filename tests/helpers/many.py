"""Runs of train.py one after the other in each process of one torchrun, which starts in seconds.

The argument is a JSON file with a list of command lines. Every process leaves its exit codes, one a
line, in a file of its own beside that one: codes.0, codes.1 ...
"""

import json
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))


def main(jobs: Path) -> int:
    import train
    from core.machine import processes

    code = 0
    codes_file = jobs.with_name(f"codes.{os.environ['RANK']}")
    with processes.group(), codes_file.open("a") as codes:
        for argv in json.loads(jobs.read_text()):
            code = train.main(argv)
            codes.write(f"{code}\n")
            codes.flush()
    return code  # of the last


if __name__ == "__main__":
    from core.machine.processes import leave

    leave(main(Path(sys.argv[1])))
