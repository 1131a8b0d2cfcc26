# Copyright 2026 - The oumi_deploy authors
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.
"""A short version of tests/benchmarks/learning_loop.py: one night of drift, with `oumi train`."""

import shutil
import sys
from pathlib import Path

import pytest


@pytest.mark.real
def test_the_loop_keeps_up_with_a_drift_and_believes_no_stranger(benchmark, tmp_path):
    if not Path(sys.executable).with_name("oumi").is_file() and shutil.which("oumi") is None:
        pytest.skip("Oumi is not installed")
    loop = benchmark.begin(tmp_path, n_releases=1500, n_steps=2000)
    first = loop.night(0, 1.0)
    assert first["outcome"] == "promoted"
    assert (loop.path / "versions" / "2" / "training.log").is_file()
    after = loop.night(1, 1.0)
    assert after["gain"]["low"] > 0
    assert loop.poisoned(2)["outcome"] == "skipped"
