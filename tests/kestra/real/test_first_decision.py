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
"""What the recipe's page has a newcomer run leads from an empty Kestra to a first decision.

The commands are the page's and the flows are executed by Kestra's engine; its web server, which is
not published, is stood in for by one that takes what Kestra's API takes: a flow as YAML, and inputs
as parts of a form.
"""

import json
import os
import subprocess
from base64 import b64decode
from email import message_from_bytes
from types import SimpleNamespace
from urllib.parse import urlsplit

import pytest
import yaml

pytestmark = pytest.mark.real

LOGIN = "ann@example.com:Secret123"
PREFIX = "/api/v1/main"


@pytest.fixture
def web(kestra, stand_in):
    """Kestra's API as far as the page uses it; has a `url`, and `loaded`, the flows it has."""
    one = SimpleNamespace(loaded=[])

    def answer(asked):
        login = asked.headers.get("authorization", "").removeprefix("Basic ")
        if b64decode(login) != LOGIN.encode():
            return 401, ""
        if asked.path.startswith(f"{PREFIX}/flows"):
            return take(asked)
        return execute(asked)

    def take(asked):
        source = asked.body.decode()
        name = yaml.safe_load(source)["id"]
        place = {"POST": "", "PUT": f"/company.releases/{name}"}[asked.method]
        is_new = name not in one.loaded
        if asked.path != f"{PREFIX}/flows{place}" or is_new != (asked.method == "POST"):
            return 422, "it is there already, or not yet, or goes by another name"
        if asked.headers["content-type"] != "application/x-yaml":
            return 415, "not YAML"
        one.loaded.append(name)
        told = kestra.load(source)
        return 422 if told["problems"] else 200, json.dumps(told)

    def execute(asked):
        place = urlsplit(asked.path)
        namespace, flow = place.path.removeprefix(f"{PREFIX}/executions/").split("/")
        assert (asked.method, namespace, place.query) == ("POST", "company.releases", "wait=true")
        kind = f"content-type: {asked.headers['content-type']}\r\n\r\n".encode()
        form = message_from_bytes(kind + asked.body)
        assert form.get_content_type() == "multipart/form-data"
        inputs = {
            str(part.get_param("name", header="content-disposition")): part.get_payload()
            for part in form.walk()
            if not part.is_multipart()
        }
        return 200, json.dumps(kestra.run(flow, **inputs))

    with stand_in(answer) as one.url:
        yield one


@pytest.fixture
def page(web, service, commands, copy_of_the_recipe):
    """Runs what the page says under some headings, one after another; returns what is printed."""

    def run(*headings, login=LOGIN):
        lines = [line for heading in headings for line in commands(heading)]
        text = "\n".join(lines)
        text = text.replace("http://localhost:8377", service.url)
        text = text.replace("localhost:8080", web.url).replace("EMAIL:PASSWORD", login)
        folder = copy_of_the_recipe.parents[1]
        ran = subprocess.run(
            ["bash", "-c", text], cwd=folder, env=os.environ, capture_output=True, text=True
        )
        return ran.stdout, ran.stderr

    return run


def test_a_newcomer_gets_a_first_decision(page, web, service):
    said, wrong = page("## 2", "## 3")
    *flows, execution = said.splitlines()
    assert wrong == ""
    assert flows == [f"{name} is in" for name in web.loaded]
    ended = json.loads(execution)
    assert (ended["state"], ended["labels"]["decision"]) == ("SUCCESS", "CONTINUE")
    (logged,) = service.get("/v1/decisions", rollout=ended["id"])["decisions"]
    assert (logged["service"], logged["version"]) == ("checkout", "v42")


def test_what_was_filled_in_is_handed_over_again(page):
    said, wrong = page("## 2", "## 4")
    assert wrong == ""
    assert said.splitlines()[-3:] == [
        f"{name} is in" for name in ("roll-back", "shift-traffic", "check-health")
    ]


def test_without_a_login_nothing_is_handed_over(page):
    said, wrong = page("## 2", login="EMAIL:PASSWORD")
    assert said == ""
    assert "401" in wrong
