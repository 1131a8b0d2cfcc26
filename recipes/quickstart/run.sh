#!/usr/bin/env bash
# From a fresh clone to a trained, judged and drawn policy over whole rollouts: sets up .venv, trains
# with `oumi train` on generated releases, judges on others, draws the figures, tries common sense on
# the policy, and asks it once.
#
# Usage: recipes/quickstart/run.sh
set -euo pipefail
cd "$(dirname "$0")/../.."
recipes/install.sh
export PATH="$PWD/.venv/bin:$PATH" DO_NOT_TRACK=${DO_NOT_TRACK:-1}
OUMI_EXTRA_DEPS_FILE=$(oumi-deploy plugin-file)
export OUMI_EXTRA_DEPS_FILE
run=output/quickstart

oumi train -c configs/neural/train.yaml --training.output_dir $run --training.max_steps 6000 \
  --training.logging_steps 300 --training.eval_steps 600 --training.save_steps 6000
oumi-deploy generate --count 2000 --seed 3 --out $run/releases.parquet --overwrite
oumi-deploy evaluate --policy $run/deployment_policy_model.json --episodes $run/releases.parquet
oumi-deploy figures --run $run --episodes $run/releases.parquet \
  --features error_rate memory_usage --overwrite
echo '[{"phase": "baseline", "error_rate": 0.004, "memory_usage": 0.51, "cpu_usage": 0.33},
  {"error_rate": 0.15, "memory_usage": 0.55, "cpu_usage": 0.35},
  {"error_rate": 0.18, "memory_usage": 0.56, "cpu_usage": 0.36}]' |
  oumi-deploy decide --policy $run/deployment_policy_model.json --explain
oumi-deploy vet --policy $run/deployment_policy_model.json
