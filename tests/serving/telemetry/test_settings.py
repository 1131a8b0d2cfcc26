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

"""The collector's settings, and what is refused in them."""

import pytest

from oumi_deploy.errors import DeployError
from oumi_deploy.serving.telemetry import settings_file
from oumi_deploy.serving.telemetry.queries import DEFAULT_QUERIES, queries_of_new, queries_of_old
from oumi_deploy.serving.telemetry.settings import TelemetrySettings
from oumi_deploy.serving.telemetry.settings_file import read_telemetry

URL = 'url = "http://prometheus.example:9090"\n'


@pytest.fixture
def read(tmp_path):
    def read(text: str) -> TelemetrySettings:
        path = tmp_path / "telemetry.toml"
        path.write_text(text, encoding="utf-8")
        return read_telemetry(path)

    return read


def test_an_address_is_enough(read):
    assert read(URL) == TelemetrySettings(url="http://prometheus.example:9090")


def test_the_example_of_the_documentation_is_read(read):
    assert settings_file.__doc__
    _, _, example = settings_file.__doc__.partition("\n\n")
    example = example[: example.index("A query is added")]
    settings = read("\n".join(line.strip() for line in example.splitlines()))
    assert "cpu_usage" not in settings.queries
    assert settings.queries["memory_usage"] == DEFAULT_QUERIES["memory_usage"]
    assert "istio" in settings.queries["requests"]
    assert "destination_version!=" in settings.stable.traffic


def test_every_setting_is_read(read, tmp_path):
    settings = read(
        URL + 'token_file = "secret/token"\ntimeout = "10s"\nscrape_interval = "15s"\n'
        'window = "1m30s"\nstep = "2m"\nbaseline = "1h"\nsettle = "0s"\nmin_requests = 20\n'
        'per_request = ["error_rate"]\n'
        "[canary]\ntraffic = 'v=\"{version}\"'\npods = 'p=\"{version}\"'\n"
        "[stable]\ntraffic = 'v!=\"{version}\"'\n[queries]\nqueue = 'sum(q{{pods}})'\n"
    )
    assert settings.token_file == tmp_path / "secret/token"
    assert (settings.timeout, settings.scrape_interval, settings.window) == (10, 15, 90)
    assert (settings.step, settings.baseline, settings.settle) == (120, 3600, 0)
    assert (settings.min_requests, settings.per_request) == (20, ("error_rate",))
    assert (settings.canary.traffic, settings.canary.pods) == ('v="{version}"', 'p="{version}"')
    assert settings.stable.traffic == 'v!="{version}"'
    assert list(settings.queries) == [*DEFAULT_QUERIES, "queue"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('window = "1m"', "url is missing"),
        ("url = prometheus", "cannot be read as TOML"),
        ('url = "prometheus:9090"', "http://host:9090"),
        ('url = "file:///etc/passwd"', "http://host:9090"),
        ('url = "http://user:secret@host"', "token_file"),
        ('url = "http://host/?query=1"', "http://host:9090"),
        (URL + 'windw = "1m"', "did you mean window"),
        (URL + "window = 60", "not a duration"),
        (URL + 'window = "1 minute"', "not a duration"),
        (URL + 'window = ""', "not a duration"),
        (URL + 'window = "59s"', "two scrape intervals"),
        (URL + 'step = "15s"', "shown as several"),
        (URL + 'timeout = "0s"', "at least 1s"),
        (URL + "min_requests = -1", "0 or more"),
        (URL + "min_requests = nan", "0 or more"),
        (URL + "min_requests = 1\n[queries]\nrequests = false", "no effect"),
        (URL + 'per_request = ["latency"]', "no effect"),
        (URL + 'min_requests = 1\nper_request = ["eror_rate"]', "did you mean error_rate"),
        (URL + "canary = 'v=\"{version}\"'", r"expected a table \[canary\]"),
        (URL + "[canary]\npod = 'a'", "did you mean pods"),
        (URL + "[stable]\ntraffic = 'v!={version}'", "between quotes"),
        (URL + "[stable]\ntraffic = ''", "not a text"),
        (URL + "[queries]\nqueue = true", "not a text"),
        (URL + "[queries]\nmemory = false", "did you mean memory_usage"),
        (URL + "[queries]\nlabel = 'up'", "not the name of a metric"),
        (URL + "[queries]\ncontrol_queue = 'up'", "not the name of a metric"),
        (URL + "[queries]\n'queue.max' = 'up'", "not the name of a metric"),
        (URL + "[queries]\nqueue = 'up{{pod}}'", "did you mean pods"),
        (URL + "[queries]\nqueue = 'up{{service}}'", "between quotes"),
        (URL + "[queries]\nqueue = 'fresh(sum(up))'", "takes one selector"),
    ],
)
def test_what_cannot_be_meant_is_refused(read, text, message):
    with pytest.raises(DeployError, match=f"telemetry.toml: .*{message}") as raised:
        read(text)
    assert "secret" not in str(raised.value)


def test_versions_that_cannot_be_told_apart_are_refused(read):
    same = "traffic = 'v=\"{version}\"'"
    with pytest.raises(DeployError, match="tell the versions apart"):
        read(f"{URL}[canary]\n{same}\n[stable]\n{same}\n")


def test_all_queries_off_is_refused(read):
    off = "\n".join(f"{metric} = false" for metric in DEFAULT_QUERIES)
    with pytest.raises(DeployError, match="keep one"):
        read(f"{URL}[queries]\n{off}\n")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DeployError, match=r"absent\.toml: .*No such file"):
        read_telemetry(tmp_path / "absent.toml")


def test_the_old_version_is_asked_for_what_it_can_be_compared_in(release):
    settings = TelemetrySettings(url="http://prometheus.example")
    new, old = (queries(settings, release("shop")) for queries in (queries_of_new, queries_of_old))
    assert set(new) - set(old) == {"canary_share", "n_pods"}
    assert all("pod!~" not in query for name, query in new.items() if name != "canary_share")
    assert all('pod!~"shop-new11-' in query for query in old.values())
