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

"""How often a decision was held back, and whether the caller asks again at its last look."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Adds the columns; before them pauses were not logged by number, and no caller said so."""
    no, none = sa.false(), "0"
    op.add_column(
        "decisions", sa.Column("asks_again", sa.Boolean, nullable=False, server_default=no)
    )
    for name in ("pauses", "pause_limit"):
        op.add_column("decisions", sa.Column(name, sa.Integer, nullable=False, server_default=none))
