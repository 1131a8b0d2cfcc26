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

"""What outsiders call their services and versions stays text in a query."""

import ast
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oumi_deploy.errors import DeployError
from oumi_deploy.serving.telemetry.template import expand_fresh, fill

# Any character at all, and those that mean something to PromQL often.
words = st.text(st.characters() | st.sampled_from("\"'`\\{}()[]=~!,#.*+|^$\n"), min_size=1)
whole_words = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)


@given(word=words, quote=st.sampled_from("\"'"))
def test_a_name_is_the_content_of_its_string_whatever_it_holds(word, quote):
    template = f"up{{a={quote}{{version}}{quote},b={quote}x{quote}}} > 1"
    filled = fill(template, {"version": word}, {}, "example")
    before, after = "up{a=", f",b={quote}x{quote}}} > 1"
    assert filled.startswith(before)
    assert filled.endswith(after)
    # PromQL's escapes are among Python's.
    assert ast.literal_eval(filled[len(before) : -len(after)]) == word


@given(word=whole_words, other=whole_words)
def test_a_name_in_a_pattern_matches_itself_alone(word, other):
    filled = fill('up{a=~"x-{version}"}', {"version": word}, {}, "example")
    pattern = ast.literal_eval(filled[len("up{a=~") : -1])
    assert re.fullmatch(pattern, "x-" + word, re.DOTALL)
    assert (word == other) == bool(re.fullmatch(pattern, "x-" + other, re.DOTALL))


def test_a_backslash_of_the_template_does_not_take_a_names_escape():
    filled = fill(r'up{a="\{version}"}', {"version": '"} or vector(1) #'}, {}, "example")
    assert "vector" not in filled
    assert fill(r'up{a="\\{version}"}', {"version": '"'}, {}, "example") == r'up{a="\\\""}'


def test_code_goes_in_as_it_is_and_only_outside_quotes():
    code = {"pods": 'pod=~"a\\\\.b"', "window": "60s"}
    filled = fill('rate(x{{pods},c="{service}"}[{window}])', {"service": "{pods}"}, code, "example")
    assert filled == 'rate(x{pod=~"a\\\\.b",c="{pods}"}[60s])'


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ('up{a="{vresion}"}', "did you mean version"),
        ("up{a={version}}", "between quotes"),
        ("up{{podds}}", "did you mean pods"),
        ('up{a="{pods}"}', "no placeholder here"),
        ("up{a=`{version}`}", "backticks"),
        ('up{a="{version}}', "a quote left open"),
        ("up # don't\n{a='{version}'}", "a comment"),
        ('up{a="{service}"}', "empty"),
    ],
)
def test_a_template_that_might_let_a_name_out_is_refused(template, message):
    with pytest.raises(DeployError, match=f"^example: .*{message}"):
        fill(template, {"version": "v", "service": ""}, {"pods": 'a="b"'}, "example")


def test_fresh_repeats_the_whole_selector():
    written = expand_fresh("""max(fresh(q{{pods},a=~"x{2})}",b='"'}))""", 90, "example")
    selector = """q{{pods},a=~"x{2})}",b='"'}"""
    assert written == f"max(({selector} and timestamp({selector}) > time() - 90))"


@pytest.mark.parametrize("template", ["fresh(sum(up))", "fresh(up[1m])", 'fresh(up{a="b)'])
def test_fresh_takes_nothing_but_a_selector(template):
    with pytest.raises(DeployError, match="fresh"):
        expand_fresh(template, 60, "example")
