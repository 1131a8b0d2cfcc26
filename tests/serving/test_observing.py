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

"""What is told of telemetry that the service collects itself."""

import time

import pytest

from oumi_deploy.serving.sources import Found


class Lacking:
    """Collects, and has something to say of what it collected."""

    columns = ("error_rate",)

    def __init__(self, n_notes: int):
        self._notes = [f"metric_{i}: no series" for i in range(n_notes)]

    async def observations(self, *_) -> Found:
        row = {"timestamp": time.time(), "error_rate": 0.1}
        return Found([row], {}, True, self._notes)

    async def close(self) -> None:
        pass


@pytest.mark.parametrize("n_notes", [0, 1, 2, 3, 20, 21, 50])
def test_of_many_notes_the_message_tells_two_and_how_many_are_left(serve, monkeypatch, n_notes):
    monkeypatch.setattr("oumi_deploy.serving.app._source", lambda _: Lacking(n_notes))
    said = serve().post("/v1/decide", json={"service": "shop", "version": "2"}).json()
    assert said["message"].count("no series") == min(n_notes, 2)
    left = f"and {n_notes - 2} more like these"
    assert (left in said["message"]) == ("more" in said["message"]) == (n_notes > 2)
