"use strict";
// What all parts of the page share: elements, numbers, memory, labels.
const data = JSON.parse(document.getElementById("data").textContent), {metrics, main} = data;
const at = id => document.getElementById(id), isNumber = v => typeof v === "number";
const number = x => isNumber(x) ? String(Number(x.toPrecision(4))) : x ?? "nan";
const mean = values => values.reduce((a, b) => a + b, 0) / values.length;
const distinct = values => [...new Set(values)], range = n => Array.from({length: n}, (_, i) => i);

function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node[name] = value; else if (value !== null) node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}
function fill(select, options, chosen = select.value) {  // options: [value, text]
  select.replaceChildren(...options.map(([value, text = value]) => make("option", {value}, text)));
  if (options.some(([value]) => String(value) === String(chosen))) select.value = chosen;
}

// What the reader arranged stays, where the browser lets a file keep something.
const memoryName = `results of ${location.pathname}`;
let memory = {};
try { memory = JSON.parse(localStorage.getItem(memoryName)) || {}; } catch { /* not allowed */ }
function remember(values) {
  Object.assign(memory, values);
  try { localStorage.setItem(memoryName, JSON.stringify(memory)); } catch { /* not allowed */ }
}

// Labels name only the keys in which the rows differ, and are never the same for two rows.
const param = (row, name) => row.params[data.params.indexOf(name)] ?? null;
function labels(rows) {
  const keys = data.deciding.filter(key => distinct(rows.map(row => JSON.stringify(param(row, key)))).length > 1);
  if (at("labels").value === "names" || !keys.length || rows.length > 1000) return rows.map(row => row.name);
  const texts = rows.map(row => keys.map(key => `${key}=${number(param(row, key) ?? "none")}`).join(", "));
  return texts.map((text, i) => texts.indexOf(text) === texts.lastIndexOf(text) ? text : `${text} (${rows[i].name})`);
}
function wrapped(text, most) {  // lines of at most so many letters, for charts
  const lines = [""];
  for (const part of String(text).split(/(?<=[\s,/_.=-])/).flatMap(each => each.match(RegExp(`.{1,${most}}`, "g")) || [])) {
    if (lines.at(-1) && lines.at(-1).length + part.length > most) lines.push("");
    lines[lines.length - 1] += part;
  }
  return lines.map(line => line.replace(/&/g, "&amp;").replace(/</g, "&lt;")).join("<br>");
}
function breakable(text) {  // a text that may break behind its signs, not within words
  return String(text).split(/(?<=[,/=]\s?)/).flatMap(part => [part, make("wbr")]);
}
