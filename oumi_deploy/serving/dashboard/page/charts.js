// Copyright 2026 - The oumi_deploy authors
//
// Licensed under the Apache License, Version 2.0 (the "License");
// you may not use this file except in compliance with the License.
// You may obtain a copy of the License at
//
//     http://www.apache.org/licenses/LICENSE-2.0
//
// Unless required by applicable law or agreed to in writing, software
// distributed under the License is distributed on an "AS IS" BASIS,
// WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
// See the License for the specific language governing permissions and
// limitations under the License.
// Metrics over time, with the moment of each decision.

import { draw, make } from "./elements.js";
import { amount, clock, known, percent, spoken } from "./words.js";

const [WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM] = [360, 150, 52, 8, 8, 30];
const MOST = 24;
const FIRST = ["error_rate", "latency", "memory_usage", "cpu_usage", "health_score"];
const LAST = ["requests", "n_pods", "canary_share"];
const NO_METRIC = new Set(["timestamp", "step", "planned_steps"]);
const SIZE = 4;
const isNumber = (value) => typeof value === "number" && Number.isFinite(value);

/** Draws the risk, and every metric that was observed. */
export function charts(observations, decisions) {
  const axis = timeAxis(observations);
  const moments = decisions.map((decision) => ({ ...decision, at: Math.min(decision.n_inputs, observations.length) - 1 })).filter(({ at }) => at >= 0);
  const names = metricNames(observations);
  const drawn = names.slice(0, MOST).map((name) => metricChart(name, observations, moments, axis));
  const left = names.length > MOST && make("p", { class: "empty" }, `${names.length - MOST} more metrics are not drawn.`);
  return [make("div", { class: "charts" }, riskChart(moments, axis), drawn), left];
}

function metricNames(observations) {
  const found = new Set();
  for (const observation of observations) {
    for (const [name, value] of Object.entries(observation)) {
      if (isNumber(value) && !name.startsWith("control_") && !NO_METRIC.has(name)) found.add(name);
    }
  }
  const others = [...found].filter((name) => !FIRST.includes(name) && !LAST.includes(name)).sort();
  return [...FIRST.filter((name) => found.has(name)), ...others, ...LAST.filter((name) => found.has(name))];
}

/** Returns where observation number n lies, and how the ends are called. */
function timeAxis(observations) {
  const times = observations.map(({ timestamp }) => timestamp);
  const hasTimes = times.length > 0 && times.every(isNumber);
  const places = hasTimes ? times : times.map((_, n) => n);
  const [low, high] = [places[0] ?? 0, places.at(-1) ?? 0];
  const reach = high - low || 1;
  const x = (n) => LEFT + SIZE + ((places[n] - low) / reach) * (WIDTH - LEFT - RIGHT - 2 * SIZE);
  const ends = hasTimes ? [clock(low), clock(high)] : ["observation 1", `observation ${times.length}`];
  const nBaseline = observations.filter(({ phase }) => phase === "baseline").length;
  return { x, ends, n: times.length, nBaseline };
}

function metricChart(name, observations, moments, axis) {
  const own = observations.map((observation) => observation[name]);
  const control = observations.map((observation) => observation[`control_${name}`]);
  const has = (values) => values.some(isNumber);
  const range = rangeOf([...own, ...control]);
  const newest = `${amount(name, own.at(-1))}${isNumber(control.at(-1)) ? `, old version ${amount(name, control.at(-1))}` : ""}`;
  const y = scale(range);
  const marks = moments.map(({ at, decision }) => mark(decision, axis.x(at), isNumber(own[at]) ? y(own[at]) : HEIGHT - BOTTOM));
  const drawing = [
    frame(axis, range, (value) => amount(name, value)),
    has(control) && line("second", control, axis.x, y), line("first", own, axis.x, y), marks];
  return figure([make("b", {}, spoken(name)), ` ${newest}`], `${spoken(name)}: newest ${newest}`, drawing);
}

function riskChart(moments, axis) {
  const y = scale([0, 1]);
  const joined = moments.map(({ at, risk }) => `${axis.x(at).toFixed(1)},${y(risk).toFixed(1)}`);
  const drawing = [
    frame(axis, [0, 1], (value) => percent(value)),
    draw("polyline", { class: "line risk", points: joined.join(" ") }),
    moments.map(({ at, risk, decision }) => mark(decision, axis.x(at), y(risk)))];
  const newest = moments.length ? percent(moments.at(-1).risk) : "unknown";
  return figure([make("b", {}, "risk"), ` ${newest}`], `Risk that the release is bad: newest ${newest}`, drawing);
}

function figure(caption, spokenAs, drawing) {
  const view = { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": spokenAs };
  return make("figure", {}, make("figcaption", {}, caption), draw("svg", view, drawing.flat()));
}

function rangeOf(values) {
  const numbers = values.filter(isNumber);
  const [least, most] = [numbers.reduce((a, b) => Math.min(a, b), 0), numbers.reduce((a, b) => Math.max(a, b), 0)];
  return most > least ? [least, most] : [least, least + 1];
}

const scale = ([low, high]) => (value) => HEIGHT - BOTTOM - ((value - low) / (high - low)) * (HEIGHT - BOTTOM - TOP);

function frame(axis, [low, high], told) {
  const bottom = HEIGHT - BOTTOM;
  const text = (x, y, word, kind) => draw("text", { x, y, class: kind }, word);
  const grid = (y) => draw("line", { class: "grid", x1: LEFT, x2: WIDTH - RIGHT, y1: y, y2: y });
  const { nBaseline: n } = axis;
  const change = n > 0 && n < axis.n ? (axis.x(n - 1) + axis.x(n)) / 2 : null;
  return [
    change && draw("rect", { class: "shade", x: LEFT, y: TOP, width: change - LEFT, height: bottom - TOP }),
    grid(TOP), grid(bottom),
    text(LEFT - 5, TOP + 8, told(high), "end"), text(LEFT - 5, bottom, told(low), "end"),
    text(LEFT, HEIGHT - 10, axis.ends[0]), axis.n > 1 && text(WIDTH - RIGHT, HEIGHT - 10, axis.ends[1], "end")];
}

/** Draws values as lines that break where one is missing; one between two missing is a dot. */
function line(kind, values, x, y) {
  const runs = [[]];
  values.forEach((value, n) => {
    if (isNumber(value)) runs.at(-1).push([x(n), y(value)]);
    else if (runs.at(-1).length) runs.push([]);
  });
  return runs.filter((run) => run.length).map((run) => {
    if (run.length === 1) return draw("circle", { class: `dot ${kind}`, cx: run[0][0], cy: run[0][1], r: 1.6 });
    return draw("polyline", { class: `line ${kind}`, points: run.map(([a, b]) => `${a.toFixed(1)},${b.toFixed(1)}`).join(" ") });
  });
}

/** Marks a decision: a dot goes on, a ring holds, a diamond rolls back. */
function mark(decision, x, y) {
  const at = [x.toFixed(1), y.toFixed(1)];
  const kind = known({ CONTINUE: 1, PAUSE: 1, ROLLBACK: 1 }, decision);
  const title = draw("title", {}, decision);
  if (kind !== "ROLLBACK") return draw("circle", { class: `moment ${kind}`, cx: at[0], cy: at[1], r: kind === "PAUSE" ? SIZE : SIZE - 1 }, title);
  const size = SIZE + 2;
  const points = `${x},${y - size} ${x + size},${y} ${x},${y + size} ${x - size},${y}`;
  return draw("g", { class: "moment ROLLBACK" }, draw("line", { x1: x, x2: x, y1: TOP, y2: HEIGHT - BOTTOM }), draw("polygon", { points }), title);
}
