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

"""The transaction that wrote a row, so that one in doubt can be withdrawn; decisions by time."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Adds the columns; what was written before them was never in doubt."""
    op.add_column("decisions", sa.Column("batch", sa.String(32)))
    op.add_column("outcomes", sa.Column("batch", sa.String(32)))
    op.create_index("decisions_by_time", "decisions", ["at"])
