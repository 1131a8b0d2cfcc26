#!/usr/bin/env bash
# From a fresh clone to passed checks: sets up .venv, then lint, format, types and tests.
#
# Usage: tests/run.sh [arguments of pytest]
set -euo pipefail
cd "$(dirname "$0")/.."
recipes/install.sh
export PATH="$PWD/.venv/bin:$PATH" DO_NOT_TRACK=1

ruff check .
ruff format --check .
pyright
pytest "$@"
