#!/usr/bin/env bash
# On a machine with a GPU, after ./train.sh list has installed: what only a GPU can say, in eight
# minutes at most. Prints how each part ended, and writes it into a file.
#
#   bench/gpu.sh [FILE]        default: runs/lessons/bench/gpu.txt
set -uo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-.venv/bin/python}
out=${1:-runs/lessons/bench/gpu.txt}
limit=460
failed=0

"$python" -c "import sys, torch; sys.exit(not torch.cuda.is_available())" \
    || { echo "gpu.sh: torch sees no GPU here" >&2; exit 2; }
mkdir -p "$(dirname "$out")" || exit 2
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
: > "$out"

# part NAME SECONDS COMMAND...: at most so long, and no longer than all parts may take together.
part() {
    local name=$1 seconds=$2 begun=$SECONDS left=$((limit - SECONDS)) code
    shift 2
    if [ "$left" -lt 5 ]; then
        echo "== $name: no time left" | tee -a "$out"
        failed=$((failed + 1))
        return
    fi
    timeout --kill-after=5 $((seconds < left ? seconds : left)) "$@" > "$folder/said" 2>&1
    code=$?
    [ "$code" -eq 0 ] || failed=$((failed + 1))
    { echo "== $name: exit $code, $((SECONDS - begun)) s: $*"
      tail -n 30 "$folder/said"; } | tee -a "$out"
}

part machine 20 nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv
part torch 30 "$python" -c "import torch; print(torch.__version__, torch.version.cuda)"
part pretrain 60 "$python" rlvr.py pretrain --base good-code
part devices 60 "$python" -m pytest -q -n 0 -k device tests/test_model.py tests/test_cli.py
part bench 90 "$python" -m bench --quick --json "${out%.txt}.json"
part large 60 "$python" -m bench --quick --preset large
part door 150 "$python" -m lessons spurious --quick
part tests 400 "$python" -m pytest -q -n auto --maxprocesses 8 --dist worksteal
echo "== $failed parts failed, $SECONDS s in all" | tee -a "$out"
exit $((failed > 0))
