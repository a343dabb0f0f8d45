#!/usr/bin/env bash
# One command from a fresh machine to the table and the figure. Interrupt it at any time: the same command goes on.
#
#   ./train.sh              quick: good-code and no-code x 5 rewards, one seed
#   ./train.sh full         all three bases x 5 rewards x 5 seeds, mean and spread
#   ./train.sh test         the tests; more arguments go to pytest
#
# JOBS=n runs n processes at a time (default: one per core; at most 4 on a GPU, which is used if there is one).
set -euo pipefail
cd "$(dirname "$0")"

door=${1:-quick}
case $door in
    quick) bases="good-code no-code"; seeds="1" ;;
    full) bases="good-code no-code bad-code"; seeds="1 2 3 4 5" ;;
    test) ;;
    *) echo "train.sh: error: unknown door '$door': choose from quick, full, test" >&2; exit 2 ;;
esac
rewards="correct majority incorrect format random"
python=.venv/bin/python

# 1. Set up: a virtual environment here, installed anew whenever requirements.txt has changed.
if ! cmp -s requirements.txt .venv/installed; then
    echo "installing into .venv (once)"
    [ -x $python ] || python3 -m venv .venv
    $python -m pip install --quiet --disable-pip-version-check -r requirements.txt
    cp requirements.txt .venv/installed
fi

if [ "$door" = test ]; then
    shift
    exec $python -m pytest "$@"
fi

jobs=${JOBS:-$($python -c 'import os, torch; n = os.cpu_count(); print(min(4, n) if torch.cuda.is_available() else n)')}
began=$SECONDS

# 2. Pretrain the bases, side by side; those that exist are kept.
mkdir -p runs/bases
count=$(echo $bases | wc -w)
threads=$((jobs / count)); [ $threads -ge 1 ] || threads=1
echo "pretraining $bases (about two minutes each; progress in runs/bases/*.log)"
for base in $bases; do echo "$base"; done |
    xargs -P "$jobs" -I{} sh -c "$python rlvr.py pretrain --base {} --threads $threads 2>>runs/bases/{}.log || { tail -n 3 runs/bases/{}.log >&2; exit 255; }"

# 3. RL: every base x reward x seed, one thread each; those that are finished are kept.
train_one() {
    out=runs/$1/$2/seed$3
    [ -f "$out/summary.json" ] && return
    mkdir -p "$out"
    .venv/bin/python rlvr.py train --base "$1" --reward "$2" --seed "$3" --threads 1 --out "$out" 2>>"$out/log.txt" ||
        { tail -n 3 "$out/log.txt" >&2; exit 255; }
}
export -f train_one
echo "RL: $(echo $bases | wc -w) bases x $(echo $rewards | wc -w) rewards x $(echo $seeds | wc -w) seeds, $jobs at a time"
for seed in $seeds; do for reward in $rewards; do for base in $bases; do echo "$base $reward $seed"; done; done; done |
    xargs -P "$jobs" -L 1 bash -c 'train_one "$@"' _

# 4. The table and the figure.
runs=()
for base in $bases; do for reward in $rewards; do for seed in $seeds; do runs+=("runs/$base/$reward/seed$seed"); done; done; done
echo
$python rlvr.py plot "${runs[@]}" --out "runs/$door"
echo "$door: $(((SECONDS - began) / 60)) min $(((SECONDS - began) % 60)) s"
