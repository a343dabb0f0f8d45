#!/usr/bin/env bash
# One command from a fresh machine to the table and the figure. Interrupt it at any time: the same command goes on.
#
#   ./train.sh              quick: good-code and no-code x 5 rewards, one seed
#   ./train.sh full         all three bases x 5 rewards x 5 seeds, mean and spread
#   ./train.sh controls     good-code, random reward x 8 seeds: narrower clips, one-sided ones, none, on-policy, other p, AdamW
#   ./train.sh prior        random reward x 8 seeds on 18 bases: 10% to 90% code, the text on 7 openers or on one
#   ./train.sh probe        the probe's verdict on 32 bases against 8 other seeds of the random reward; begins with what prior does
#   ./train.sh losses       correct reward, 8 losses x 5 seeds (two of them x 15): easy problems, then with hard ones at several step sizes, pass@256
#   ./train.sh test         the tests; more arguments go to pytest
#
# JOBS=n runs n processes at a time (default: one per core; at most 4 on a GPU, which is used if there is one).
set -euo pipefail
cd "$(dirname "$0")"
python=.venv/bin/python
door=${1:-quick}

# Which bases, one line per RL run (the folder it writes, then its flags), and one per table: its folder, then the runs in it as a pattern.
runs() {  # bases, rewards, seeds, a name for the folder instead of the reward's, more flags
    for seed in $3; do for reward in $2; do for base in $1; do
        echo "runs/$base/${4:-$reward}/seed$seed --base $base --reward $reward --seed $seed${5:+ $5}"
    done; done; done
}
rewards="correct majority incorrect format random"
tables="runs/$door ."
case $door in
    quick)
        bases="good-code no-code"
        list=$(runs "$bases" "$rewards" 1) ;;
    full)
        bases="good-code no-code bad-code"
        list=$(runs "$bases" "$rewards" "1 2 3 4 5") ;;
    controls)
        bases="good-code"
        seeds="1 2 3 4 5 6 7 8"
        cell() { runs good-code random "$seeds" "$@"; }  # a name for the folder, flags
        list=$(cell random
               for eps in 0.2 0.1 0.05; do cell "eps-$eps" "--eps $eps"; done
               cell only-high "--eps-low 1e9"
               cell only-low "--eps-high 1e9"
               for lr in 0.015 0.006 0.003; do cell "no-clip-lr$lr" "--eps 1e9 --lr $lr"; done
               for lr in 0.015 0.004; do cell "on-policy-lr$lr" "--prompts 2 --updates 1 --steps 640 --lr $lr"; done
               for p in 0.9 0.1 0.001; do cell "p-$p" "--p $p"; done
               runs good-code random 1 p-0 "--p 0"
               for lr in 1e-4 3e-4; do cell "adamw-lr$lr" "--optimizer adamw --lr $lr"; done) ;;
    prior | probe)
        bases=$(for prior in 0.1 0.2 0.3 0.4 0.5 0.6 0.7 0.8 0.9; do echo "good-code-prior$prior good-code-prior$prior-openers1"; done)
        [ $door = prior ] || bases="$bases good-code no-code bad-code good-code-seed3 no-code-seed3 bad-code-seed3 good-code-seed3-prior0.4
            bad-code-prior0.35 bad-code-prior0.35-openers1 good-code-steps100 good-code-steps200 good-code-steps400 no-code-steps300 bad-code-steps400"
        list=$(runs "$bases" random "1 2 3 4 5 6 7 8")
        tables="" ;;
    losses)
        bases="good-code early-code"
        seeds="1 2 3 4 5"
        easy="good-code good-code-seed7"
        family="grpo dr_grpo rloo reinforce ppo psr nsr w_reinforce"
        mixed="--num-ops 1 2 3 4 5 6 7 --pool 1280 --eval-num-ops 1 2 3 4 5 6 7 --eval-problems 210 --eval-samples 256"
        mix() {  # bases, losses, step size, more flags, a name for the folder instead of the loss's
            for loss in $2; do runs "$1" correct "$seeds" "mixed-lr$3/${5:-$loss}" "--loss $loss --lr $3 $mixed${4:+ $4}"; done
        }
        list=$(for loss in $family; do runs "$easy" correct "$seeds" "easy/$loss" "--loss $loss --eval-samples 64"; done
               for loss in dr_grpo rloo; do runs "$easy" correct "$(seq 6 15)" "easy/$loss" "--loss $loss --eval-samples 64"; done
               mix "$bases" "$family" 0.0015
               mix "$bases" w_reinforce 0.0015 "--psr-weight 1" w_reinforce-1
               mix "$bases" "psr nsr" 0.0005
               mix "$bases" "psr nsr" 0.0002
               mix "$bases" "$family" 0.005
               mix "$bases" w_reinforce 0.005 "--psr-weight 1" w_reinforce-1
               mix good-code "grpo psr nsr" 0.015)
        bases="$bases good-code-seed7"
        tables="runs/losses/easy /easy/.*seed[1-5]$
runs/losses/easy-15-seeds /easy/(dr_grpo|rloo)/
runs/losses/lr0.0015 /mixed-lr0.0015/
runs/losses/lr0.005 /mixed-lr0.005/
runs/losses/lr0.015 /mixed-lr0.015/
runs/losses/psr-nsr /mixed-lr0.00.*/[pn]sr/" ;;
    test) ;;
    *) echo "train.sh: error: unknown door '$door': choose from quick, full, controls, prior, probe, losses, test" >&2; exit 2 ;;
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
probe_one() {
    [ -f "runs/$1/probe/probe.json" ] && return
    mkdir -p "runs/$1/probe"
    logged "runs/$1/probe/log.txt" probe "runs/bases/$1.pt" --seed 101 --threads 1 --out "runs/$1/probe" > "runs/$1/probe/report.txt"
}
export -f logged train_one probe_one

# 2. Pretrain the bases, side by side; those that exist are kept.
count=$(echo $bases | wc -w)
threads=$((jobs / count)); [ $threads -ge 1 ] || threads=1
echo "pretraining" $bases "(one to three minutes each; progress in runs/bases/*.log)"
for base in $bases; do
    # A base's name says its flags: good-code-prior0.3-openers1 is --base good-code --code-prior 0.3 --text-openers 1.
    flags=$(sed -E 's/-prior/ --code-prior /; s/-openers/ --text-openers /; s/-(seed|steps)/ --\1 /g; s/early-code/good-code --steps 600/' <<< "$base")
    echo "runs/bases/$base.log pretrain --out runs/bases/$base.pt --threads $threads --base $flags"
done |
    xargs -P "$jobs" -L 1 bash -c 'logged "$@"' _

# 3. RL, one thread a run; those that are finished are kept.
echo "RL: $(echo "$list" | wc -l) runs, $jobs at a time (a quarter of a minute to a minute each)"
echo "$list" | xargs -P "$jobs" -L 1 bash -c 'train_one "$@"' _

# 4. The tables and the figures.
[ -z "$tables" ] || echo "$tables" | while read -r folder pattern; do
    echo
    $python rlvr.py plot $(echo "$list" | cut -d' ' -f1 | grep -E -- "$pattern") --out "$folder"
done
case $door in
    full)
        echo && $python -m lessons.anatomy $(echo "$list" | cut -d' ' -f1)
        echo && $python -m lessons.elicit runs/full ;;
    losses) echo && $python -m lessons.matched runs ;;
    prior) echo && $python -m lessons.prior runs ;;
    probe)
        echo "probing the same bases with 5 other seeds; reports in runs/BASE/probe/report.txt"
        echo $bases | xargs -P "$jobs" -n 1 bash -c 'probe_one "$@"' _
        echo && $python -m lessons.probe runs ;;
esac
echo "$door: $(((SECONDS - began) / 60)) min $(((SECONDS - began) % 60)) s"
