#!/bin/bash
# Make .bench-venv, in which bench/peers.py runs Lightning and Accelerate.
#   bash bench/peers.sh
# It has the packages of .venv and, beside them, those two with what they need; .venv stays as it is.
set -eu
cd "$(dirname "$0")/.."
python=${PYTHON:-.venv/bin/python}
"$python" -m venv --clear .bench-venv
packages=$("$python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')
own=$(.bench-venv/bin/python -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')
echo "$packages" > "$own/project.pth"
# What .venv has counts as installed, so torch is not fetched again.
.bench-venv/bin/pip install --quiet lightning accelerate
.bench-venv/bin/pip list 2>/dev/null | grep -E "^(torch|lightning|accelerate) "
