#!/usr/bin/env bash
# Sets up .venv in the checkout with the pinned versions of constraints.txt. Needs Python 3.11 and
# nothing else; does nothing where it is set up already.
#
# Usage: recipes/install.sh
set -euo pipefail
cd "$(dirname "$0")/.."

python=${PYTHON:-python3.11}
stamp=$(cat pyproject.toml constraints.txt | sha256sum | cut -d' ' -f1)
if [ "$(cat .venv/installed 2>/dev/null || true)" = "$stamp" ]; then
  exit 0
fi
echo "Setting up .venv (about 8 GB, most of it torch; a few minutes on a slow line)" >&2
"$python" -m venv --clear .venv
.venv/bin/python -m pip install --quiet --disable-pip-version-check uv==0.13.9
.venv/bin/uv pip install --quiet --python .venv/bin/python \
  --constraint constraints.txt --editable '.[serve,train]' --group dev
echo "$stamp" > .venv/installed
