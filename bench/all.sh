#!/bin/bash
# Run the benches of speed one after the other, and write docs/benchmarks.md; takes about an hour.
#   bash bench/all.sh            # --quick: once, and short, into a file of its own
set -eu
cd "$(dirname "$0")/.."
python=${PYTHON:-.venv/bin/python}
page=docs/benchmarks.md
[ "${1:-}" = --quick ] && page=benchmarks-quick.md
benches=("signs.py --precision float32" ner.py cifar10.py overhead.py busy.py search.py)
new=$(mktemp)
trap 'rm -f "$new"' EXIT
{
    echo "# Benchmarks"
    echo
    echo "Written by \`bash bench/all.sh\` on $(date +%F), commit $(git rev-parse --short HEAD)."
    echo "$(grep -m1 "model name" /proc/cpuinfo | cut -d: -f2- | xargs), $(nproc) cores. Ratios are of medians"
    echo "that were measured in turns; none are given where other processes used the cores."
    for bench in "${benches[@]}"; do
        echo
        echo "## bench/$bench"
        echo
        echo '```'
        $python bench/$bench "$@" 2>/dev/null | sed "s|$PWD/||"
        echo '```'
    done
} | tee "$new"
mv "$new" "$page"
echo "Wrote $page"
