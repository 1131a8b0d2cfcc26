#!/usr/bin/env bash
# From a fresh clone to passed checks: sets up .venv, then lint, format, types and tests.
#
# Usage: tests/run.sh [arguments of pytest]
set -euo pipefail
cd "$(dirname "$0")/.."
recipes/install.sh
# One thread each: two OpenMP pools on two cores wait for each other.
export PATH="$PWD/.venv/bin:$PATH" DO_NOT_TRACK=1 OMP_NUM_THREADS=1

ruff check .
ruff format --check .
pyright
# Two at a time, a file as a whole: fixtures of a module are dear, as importing Oumi is.
pytest -n 2 --dist loadfile "$@"
