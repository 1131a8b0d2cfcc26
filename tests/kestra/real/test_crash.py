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
"""Kestra is killed in the midst of it all, and started again: nothing that was begun is lost."""

import json
import threading
import time
from datetime import datetime
from itertools import pairwise

import pytest

pytestmark = pytest.mark.real

RELEASE = {"service": "shop", "version": "v2"}


@pytest.fixture
def undoing(stand_in):
    """A team's way back that takes long the first time: its address, and how often it began."""
    began, over = [], threading.Event()

    def undo(asked):
        began.append(asked)
        if len(began) == 1:
            over.wait()
        return 200, ""

    with stand_in(undo) as url:
        yield url, began
        over.set()


def test_what_was_under_way_is_carried_out(
    kestra, take, set_up, service, script, undoing, checked_as, recipe
):
    take(often(recipe("learn")), "learn-often")
    url, began = undoing
    undo = {"id": "undo", "type": "io.kestra.plugin.core.http.Request", "method": "POST"}
    take({**set_up("roll-back", ""), "tasks": [{**undo, "uri": url}]}, "roll-back")
    take(set_up("report-outcome", service.url), "report-outcome")
    checked_as("good")
    script.answers = [json.dumps({"decision": "PAUSE"})]
    asking = set_up("ask", script.url)
    asking["tasks"][1]["checkFrequency"]["maxIterations"] = 100
    held = kestra.begin(take(asking, "ask-held"), **RELEASE)
    soaking = kestra.begin(
        take(set_up("soak", service.url), "soak"), **RELEASE, rollout="r-crash", soak="PT8S"
    )
    bad = [{"error_rate": 0.01, "requests": 500}, {"error_rate": 0.6, "requests": 500}]
    going_back = kestra.begin(
        take(set_up("ask", service.url), "ask-bad"), **RELEASE, observations=bad
    )
    kestra.await_one(lambda: began and script.asked, bool)
    # Its database may owe the disk what it was told within the last second.
    time.sleep(2)
    kestra.kill()
    kestra.start()
    started = time.time()
    script.answers = [json.dumps({"decision": "CONTINUE"})]

    ended = kestra.end_of(going_back, 120)
    assert ["roll_back", "SUCCESS"] in ended["tasks"], ended["messages"]
    assert ["rolled_back", "FAILED"] in ended["tasks"]
    assert len(began) == 2, "what a killed worker had begun is begun again"
    assert kestra.end_of(held)["state"] == "SUCCESS"
    assert kestra.end_of(soaking)["state"] == "SUCCESS"
    told = service.get("/v1/outcomes", **RELEASE, environment="production", rollout="r-crash")
    assert [(one["label"], one["source"]) for one in told] == [("good", "pipeline")]
    nights = kestra.await_one(lambda: due(kestra, "learn-often"), lambda seen: seen[-1] > started)
    assert max(b - a for a, b in pairwise(nights)) > 5, "of those missed, one is made up for"
    take({**often(recipe("learn")), "triggers": []}, "learn-often")


def often(flow):
    """Returns the flow of the night with a night every other second, in which nothing is done."""
    nightly = {**flow["triggers"][0], "cron": "*/2 * * * * *", "withSeconds": True}
    log = {"id": "log", "type": "io.kestra.plugin.core.log.Log", "message": "learnt"}
    return {**flow, "tasks": [log], "triggers": [nightly]}


def due(kestra, flow):
    """Returns for when the executions of a scheduled flow were due, Unix seconds."""
    return sorted(datetime.fromisoformat(one["due"]).timestamp() for one in kestra.executions(flow))
