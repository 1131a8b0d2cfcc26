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
"""Whatever the OpenAPI description allows, and what it does not, is answered as it says."""

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
SETTINGS = settings(
    max_examples=30,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow],
)


@pytest.fixture(scope="module")
def described(tmp_path_factory, policy):
    from oumi_deploy.serving.app import create_app
    from oumi_deploy.serving.settings import ServiceSettings

    folder = tmp_path_factory.mktemp("service")
    policy.save(folder / "policy.json")
    log = f"sqlite:///{folder / 'log.db'}"
    return schemathesis.openapi.from_asgi(
        "/openapi.json", create_app(ServiceSettings(policy=folder / "policy.json", log=log))
    )


def test_every_path_keeps_to_its_description(described):
    operations = [result.ok() for result in described.get_all_operations()]
    assert {"/v1/decide", "/v1/outcomes", "/v1/decisions"} <= {op.path for op in operations}
    for operation in operations:

        @given(case=operation.as_strategy(generation_mode=GenerationMode.POSITIVE))
        @SETTINGS
        def allowed(case):
            case.call_and_validate(checks=CHECKS)

        @given(case=operation.as_strategy(generation_mode=GenerationMode.NEGATIVE))
        @SETTINGS
        def not_allowed(case):
            case.call_and_validate(checks=CHECKS)

        allowed()  # pyright: ignore[reportCallIssue]
        if operation.body or operation.query:
            not_allowed()  # pyright: ignore[reportCallIssue]
