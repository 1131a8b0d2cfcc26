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

"""Runs the migrations in the transaction of whoever asked for them."""

from alembic import context

given = context.config.attributes
# SQLite too takes changes of tables back; alembic does not count on it by itself.
context.configure(
    connection=given["connection"], version_table=given["version_table"], transactional_ddl=True
)
with context.begin_transaction():
    context.run_migrations()
