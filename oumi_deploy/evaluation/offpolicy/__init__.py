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

"""Off-policy evaluation: what a policy would earn, from logged decisions alone."""

from oumi_deploy.evaluation.offpolicy.behaviour import log_decisions, soft_error_rule
from oumi_deploy.evaluation.offpolicy.estimate import Estimate, estimate_policy
from oumi_deploy.evaluation.offpolicy.features import value_features

__all__ = ["Estimate", "estimate_policy", "log_decisions", "soft_error_rule", "value_features"]
