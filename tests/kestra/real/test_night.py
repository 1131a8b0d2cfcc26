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
"""The night's learning is begun by Kestra's own scheduler and ends as `oumi-deploy learn` ends.

A stand-in for that program lies on the worker's path, and another for the task of Kestra's Python
plugin, see tests/kestra/plugin/Script.java.
"""

import json

import pytest

pytestmark = pytest.mark.real


@pytest.fixture
def learns(on_path, tmp_path):
    """Puts an `oumi-deploy` on the worker's path; returns a reader of what it was told.

    The URL of the log first, which may hold a password and so is no word of the command.
    """
    told = tmp_path / "told"

    def stand_in(code):
        program = on_path / "oumi-deploy"
        program.write_text(
            "#!/usr/bin/env python3\n"
            "import json, os, sys\n"
            "said = [os.environ['OUMI_DEPLOY_LOG'], *sys.argv[1:]]\n"
            f"print(json.dumps(said), file=open({str(told)!r}, 'a'), flush=True)\n"
            f"print('kept: no better')\nsys.exit({code})\n"
        )
        program.chmod(0o755)
        return lambda: [json.loads(line) for line in told.read_text().splitlines()]

    return stand_in


@pytest.fixture
def learn(recipe):
    flow = recipe("learn")
    flow["variables"] = {"loop": "/srv/a loop", "log": LOG}
    return flow


LOG = "postgresql://learn:secret@db/log"
TOLD = [LOG, "learn", "--loop", "/srv/a loop"]


def test_the_scheduler_begins_it(kestra, take, learn, learns):
    told = learns(0)
    (nightly,) = learn["triggers"]
    nightly |= {"cron": "*/2 * * * * *", "withSeconds": True}
    take(learn, "learn-soon")
    (night, *_) = kestra.await_one(lambda: kestra.executions("learn-soon"), bool)
    take({**learn, "triggers": []}, "learn-soon")
    ended = kestra.end_of(night["id"])
    assert ended["state"] == "SUCCESS"
    assert ended["trigger"] == "nightly"
    assert told()[0] == TOLD
    assert any("kept: no better" in message for message in ended["messages"])


def test_it_is_due_at_three(kestra, take, learn):
    flow = take(learn, "learn-at-three")
    due = kestra.await_one(lambda: kestra.next(flow, "nightly"), bool)
    assert due.endswith("T03:00:00Z")


@pytest.mark.parametrize("code", [1, 2])
def test_what_could_not_be_carried_out_has_failed(kestra, take, learn, learns, code):
    told = learns(code)
    ended = kestra.run(take({**learn, "triggers": []}, "learn-now"))
    assert ended["state"] == "FAILED"
    assert told() == [TOLD]
