.PHONY: quickstart test format benchmark

quickstart:  ## Set up, train, judge and draw
	recipes/quickstart/run.sh

test:  ## Set up and check everything
	tests/run.sh

format:  ## Mend what can be mended without thinking
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

constraints.txt: pyproject.toml  ## Pin anew what pyproject.toml allows
	.venv/bin/uv pip compile --quiet pyproject.toml --extra serve --extra train --group dev \
	  --python-version 3.11 --no-header --no-annotate --no-emit-index-url -o $@

benchmark:  ## Measure what the README says of speed
	.venv/bin/python tests/benchmarks/training_speed.py
	.venv/bin/python tests/benchmarks/million_episodes.py --folder output/benchmarks
	.venv/bin/python tests/benchmarks/start_up.py
	.venv/bin/python tests/benchmarks/decision_speed.py
	.venv/bin/python tests/benchmarks/service_speed.py \
	  --policy output/neural/deployment_policy_model.json
	.venv/bin/python tests/benchmarks/policy_quality.py \
	  --policy output/neural/deployment_policy_model.json
