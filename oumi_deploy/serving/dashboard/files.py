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
"""The dashboard's own files: one page with its style and scripts, nothing from elsewhere."""

from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import Response

PAGE = "/"
UNDER = "/dashboard/"
FILES = Path(__file__).with_name("page")

_KINDS = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}

HEADERS = {
    # Whatever a name or a note may hold, the browser runs and loads nothing but these files, and
    # shows them in no other site's frame.
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    # A page of before an upgrade would ask for what is there no more.
    "cache-control": "no-cache",
}


def router() -> APIRouter:
    """Returns the paths of the page and of what it is made of."""
    paths = APIRouter(include_in_schema=False)
    for file in sorted(FILES.iterdir()):
        path = PAGE if file.name == "index.html" else UNDER + file.name
        paths.add_api_route(path, _answering(file.read_bytes(), _KINDS[file.suffix]))
    return paths


def _answering(content: bytes, kind: str):
    async def answer() -> Response:
        return Response(content, media_type=kind, headers=HEADERS)

    return answer
