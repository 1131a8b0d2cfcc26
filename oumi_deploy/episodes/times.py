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


"""Times as text, read alike in files and in the observations a caller sends."""

from datetime import UTC, datetime


def iso_seconds(word: str) -> float:
    """Reads an ISO 8601 time (UTC unless it names a zone) as Unix seconds.

    Raises:
        ValueError: If `word` is none.

    >>> iso_seconds("2023-09-22T15:39:00Z")
    1695397140.0
    """
    moment = datetime.fromisoformat(word)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def unix_seconds(word: str) -> float:
    """Reads Unix seconds or an ISO 8601 time.

    Raises:
        ValueError: If `word` is neither.
    """
    try:
        return float(word)
    except ValueError:
        return iso_seconds(word)
