#!/usr/bin/env bash
# One command from a fresh machine to the table and the figure. Interrupt it at any time: the same command goes on.
#
#   ./train.sh              quick: good-code and no-code x 5 rewards, one seed
#   ./train.sh full         all three bases x 5 rewards x 5 seeds, mean and spread
#   ./train.sh controls     good-code, random reward x 5 seeds: narrower clips, no clip, on-policy, p = 0
#   ./train.sh test         the tests; more arguments go to pytest
#
# JOBS=n runs n processes at a time (default: one per core; at most 4 on a GPU, which is used if there is one).
set -euo pipefail
cd "$(dirname "$0")"
python=.venv/bin/python
door=${1:-quick}

# Which bases, and one line per RL run: the folder it writes, then its flags.
runs() {  # bases, rewards, seeds, a name for the folder instead of the reward's, more flags
    for seed in $3; do for reward in $2; do for base in $1; do
        echo "runs/$base/${4:-$reward}/seed$seed --base $base --reward $reward --seed $seed${5:+ $5}"
    done; done; done
}
rewards="correct majority incorrect format random"
case $door in
    quick)
        bases="good-code no-code"
        list=$(runs "$bases" "$rewards" 1) ;;
    full)
        bases="good-code no-code bad-code"
        list=$(runs "$bases" "$rewards" "1 2 3 4 5") ;;
    controls)
        bases="good-code"
        seeds="1 2 3 4 5"
        list=$(runs $bases random "$seeds"
               runs $bases random "$seeds" eps-0.3 "--eps 0.3"
               runs $bases random "$seeds" eps-0.2 "--eps 0.2"
               runs $bases random "$seeds" no-clip "--eps 1e9"
               runs $bases random "$seeds" on-policy "--prompts 2 --updates 1 --steps 640"
               runs $bases random 1 p-0 "--p 0") ;;
    test) ;;
    *) echo "train.sh: error: unknown door '$door': choose from quick, full, controls, test" >&2; exit 2 ;;
esac

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

# Run one command; its progress goes to a log, its last lines to the terminal if it fails, and then nothing more is started.
logged() {
    log=$1; shift
    mkdir -p "$(dirname "$log")"
    .venv/bin/python rlvr.py "$@" 2>>"$log" || { tail -n 3 "$log" >&2; exit 255; }
}
train_one() {
    [ -f "$1/summary.json" ] || logged "$1/log.txt" train --out "$@" --threads 1
}
export -f logged train_one

# 2. Pretrain the bases, side by side; those that exist are kept.
count=$(echo $bases | wc -w)
threads=$((jobs / count)); [ $threads -ge 1 ] || threads=1
echo "pretraining $bases (one to three minutes each; progress in runs/bases/*.log)"
for base in $bases; do echo "runs/bases/$base.log pretrain --base $base --threads $threads"; done |
    xargs -P "$jobs" -L 1 bash -c 'logged "$@"' _

# 3. RL, one thread a run; those that are finished are kept.
echo "RL: $(echo "$list" | wc -l) runs, $jobs at a time (half a minute to a minute each)"
echo "$list" | xargs -P "$jobs" -L 1 bash -c 'train_one "$@"' _

# 4. The table and the figure.
echo
$python rlvr.py plot $(echo "$list" | cut -d' ' -f1) --out "runs/$door"
echo "$door: $(((SECONDS - began) / 60)) min $(((SECONDS - began) % 60)) s"
