#!/bin/bash
# Run the benches of speed one after the other, and write docs/benchmarks.md; takes about an hour.
#   bash bench/all.sh            # --short: at most 8 minutes; --quick: once, into a file of its own
# PYTHON names the interpreter; by default it is that of .venv.
set -eu
cd "$(dirname "$0")/.."
python=${PYTHON:-.venv/bin/python}
page=docs/benchmarks.md
benches=("signs.py --precision float32" overhead.py start.py busy.py peers.py search.py)
others=(ner.py cifar10.py)
note=
case "${1:-}" in
--short) note="Measured with \`--short\`: fewer epochs and turns. Left out: ${others[*]}, and hand signs in search.py." ;;
*) benches+=("${others[@]}") ;;
esac
[ "${1:-}" = --quick ] && page=benchmarks-quick.md
new=$(mktemp)
failed=$new.failed
trap 'rm -f "$new" "$failed" "$new.errors"' EXIT
began=$(date +%s)
{
    echo "# Benchmarks"
    echo
    echo "Written by \`bash bench/all.sh${1:+ $1}\` on $(date +%F), commit $(git rev-parse --short HEAD)."
    echo "$(grep -m1 "model name" /proc/cpuinfo | cut -d: -f2- | xargs), $(getconf _NPROCESSORS_ONLN) cores; $(
        $python -c 'import platform as p, torch; print(f"{p.system()}, Python {p.python_version()}, torch {torch.__version__}")'
    )."
    echo "Ratios are of medians that were measured in turns; none are given where other processes used the cores."
    echo "(\`search.py\` tells the load before it instead.) \`least..most\` is the range of the line above it. $note"
    for bench in "${benches[@]}"; do
        echo
        echo "## bench/$bench"
        echo
        echo '```'
        if $python bench/$bench "$@" 2>"$new.errors" | sed "s|$PWD/||g; s|/tmp/[^ ]*/||g"; [ "${PIPESTATUS[0]}" != 0 ]; then
            echo "not measured: $(tail -n 1 "$new.errors")"
            touch "$failed"
        fi
        echo '```'
    done
    echo
    echo "All of it took $(($(date +%s) - began)) s."
} | tee "$new"
mv "$new" "$page"
echo "Wrote $page"
[ ! -e "$failed" ]
