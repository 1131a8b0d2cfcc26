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
// Making elements. Whatever is shown becomes a text node, so that no name can become markup.

const SVG = "http://www.w3.org/2000/svg";
// Signs that turn the direction of what follows: with them one name reads as another.
const TURNING = /[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/g;

export const element = (id) => document.getElementById(id);

/** Makes an element with attributes and children; those that are null or false are left out. */
export function make(tag, attributes, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** Makes an element of a drawing. */
export function draw(tag, attributes, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value != null && value !== false) element.setAttribute(name, value === true ? "" : straight(value));
  }
  element.append(...shown(children));
  return element;
}

/** Returns a text without the signs that turn its direction. */
export const straight = (text) => String(text).replace(TURNING, "\ufffd");
const isShown = (child) => child != null && child !== false;
const shown = (children) => children.flat(Infinity).filter(isShown).map((child) => (child instanceof Node ? child : straight(child)));

/** Puts children in the place of what an element held. */
export function put(element, ...children) {
  element.replaceChildren(...shown(children));
}

/** Sets a text only where it has changed, so that nobody is told the same twice. */
export function say(element, text) {
  if (element.textContent !== straight(text)) element.textContent = straight(text);
}

/** Makes a list of names and what stands for each, where there is something. */
export function pairs(entries) {
  const rows = entries.filter(([, value]) => value != null && value !== "" && value !== false);
  return make("dl", {}, rows.map(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]));
}

/** Calls `render` where what it shows has changed, and again the next time if it fails. */
export function renderChanged(place, content, render) {
  const told = JSON.stringify(content);
  if (place.told === told) return;
  place.told = null;
  render();
  place.told = told;
}

/**
 * Brings a list up to date: elements of items that are still there stay, with the focus in them.
 * `render` is called for new and changed items only.
 */
export function reconcile(list, items, render) {
  const before = new Map([...list.children].map((child) => [child.dataset.key, child]));
  items.forEach((item, place) => {
    const child = before.get(item.id) ?? make("li", { "data-key": item.id });
    before.delete(item.id);
    renderChanged(child, item, () => render(child, item));
    if (list.children[place] !== child) list.insertBefore(child, list.children[place] ?? null);
  });
  for (const gone of before.values()) gone.remove();
}
