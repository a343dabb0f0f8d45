#!/usr/bin/env bash
# One command from a fresh machine to a table and a figure. Interrupt it: the same command goes on.
#
#   ./train.sh                     the quick door: python -m lessons spurious --quick
#   ./train.sh NAME [...]          a lesson: python -m lessons NAME [...]
#   ./train.sh list                which lessons there are
#   ./train.sh test [...]          style, then the tests, side by side; more arguments go to pytest
set -euo pipefail
CDPATH="" cd -- "$(dirname -- "$0")"
unset PYTHONSAFEPATH  # it hides this folder from `python -m`
python=.venv/bin/python

# A virtual environment here, installed anew whenever requirements.txt has changed.
if ! cmp -s requirements.txt .venv/installed; then
    echo "installing into .venv (once)"
    python3 -m venv .venv
    $python -m pip install --quiet --disable-pip-version-check -r requirements.txt
    cp requirements.txt .venv/installed
fi

case ${1-} in
    "")
        echo "Lesson spurious, quick: a small model is pretrained, then trained on a coin. Loading torch ..."
        exec $python -m lessons spurious --quick ;;
    list) exec $python -m lessons ;;
    test)
        shift
        $python -m ruff check --quiet .
        exec $python -m pytest -n auto --maxprocesses 8 --dist worksteal "$@" ;;
    *) exec $python -m lessons "$@" ;;
esac
