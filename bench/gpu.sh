#!/bin/bash
# Check and time training on the NVIDIA GPUs of this machine, and write docs/gpu.md; under 8 minutes.
#   bash bench/gpu.sh [--output FILE]
# PYTHON names the interpreter: .venv/bin/python if it is there, else python3. No network is needed.
set -eu
cd "$(dirname "$0")/.."
python=${PYTHON:-.venv/bin/python}
command -v "$python" >/dev/null || python=python3
exec "$python" bench/gpu.py "$@"
