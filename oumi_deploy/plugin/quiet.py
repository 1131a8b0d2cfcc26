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


"""Keeping Oumi's log to itself for a while."""

import contextlib
import logging
from collections.abc import Iterator


@contextlib.contextmanager
def each_warning_once() -> Iterator[None]:
    """Lets through Oumi's log what it has not said yet: many trainings say the same of the data."""
    said: set[str] = set()

    def is_new(record: logging.LogRecord) -> bool:
        message = record.getMessage()
        if message in said:
            return False
        said.add(message)
        return True

    logger = logging.getLogger("oumi")
    logger.addFilter(is_new)
    try:
        yield
    finally:
        logger.removeFilter(is_new)


@contextlib.contextmanager
def quiet_oumi() -> Iterator[None]:
    """Keeps Oumi's log and progress bar out of ours."""
    loggers = [logging.getLogger(name) for name in ("oumi", "oumi.telemetry")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
