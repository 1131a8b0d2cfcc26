#!/usr/bin/env bash
# From a fresh clone to a trained, judged and drawn policy: sets up .venv, generates releases, trains
# with `oumi train`, judges with `oumi evaluate`, draws the figures, and asks the policy once.
#
# Usage: recipes/quickstart/run.sh
set -euo pipefail
cd "$(dirname "$0")/../.."
recipes/install.sh
export PATH="$PWD/.venv/bin:$PATH" DO_NOT_TRACK=${DO_NOT_TRACK:-1}
OUMI_EXTRA_DEPS_FILE=$(oumi-deploy plugin-file)
export OUMI_EXTRA_DEPS_FILE
run=output/quickstart

oumi train -c configs/quickstart/train.yaml
oumi evaluate -c configs/quickstart/eval.yaml
oumi-deploy generate --count 2000 --seed 3 --out $run/releases.parquet --overwrite
oumi-deploy evaluate --policy $run/deployment_policy_model.json --episodes $run/releases.parquet \
  --per-observation
oumi-deploy figures --run $run --episodes $run/releases.parquet --per-observation \
  --features error_rate memory_usage --overwrite
echo '[{"error_rate": 0.15, "memory_usage": 0.85, "cpu_usage": 0.75, "health_score": 0.6}]' |
  oumi-deploy decide --policy $run/deployment_policy_model.json
