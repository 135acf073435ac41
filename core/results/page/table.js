// The table: which rows, in which order, which columns, and what is ticked.
const PAGE = 200, MORE = 1000, COLOURS = 8, FIRST = "run", LINKS = "files";
const place = Object.fromEntries(data.columns.map((column, j) => [column.name, j]));
const numeric = Object.fromEntries(data.columns.map(({name}, j) => [name, name.endsWith(" 95%") || data.rows.some(row => isNumber(row.keys[j]))]));
const names = distinct([FIRST, main, ...Object.keys(place), LINKS]).filter(name => name === FIRST || name === LINKS || name in place);
const kept = (memory.order || []).filter(name => names.includes(name)), hidden = new Set(memory.hidden);
let order = distinct([FIRST, ...kept, ...names]);
let sorted = {name: null, down: false}, shown = PAGE, visible = data.rows;
data.rows.forEach((row, i) => { row.number = i; row.text = [row.name, ...row.cells].join("\n").toLowerCase(); });
const hasCurve = row => row.runs.some(run => data.curves[run]);
let chosen = data.rows.filter(hasCurve).slice(0, 5), lit = chosen;  // rows with curves drawn, and of these the ones in colour

function value(row, name) {
  if (name === FIRST) return row.name;
  return name in place ? row.keys[place[name]] ?? (numeric[name] ? null : row.cells[place[name]]) : name === STARTED ? row.started : param(row, name);
}

// A filter is words, each part of any cell, and conditions such as learning_rate<0.01.
const TESTS = {"<": (a, b) => a < b, "<=": (a, b) => a <= b, ">": (a, b) => a > b, ">=": (a, b) => a >= b,
  "=": (a, b) => a === b, "!=": (a, b) => a !== b, ":": (a, b) => String(a ?? "").toLowerCase().includes(b)};
function conditions(text) {
  const simple = name => name.toLowerCase().replaceAll(" ", "_"), known = [...names, ...data.params], missing = [], tests = [];
  for (const word of text.toLowerCase().match(/(?:"[^"]*"|[^\s"])+/g) || []) {
    const [, left, sign, right] = word.replaceAll('"', "").match(/^([^<>=!:]+)(<=|>=|!=|<|>|=|:)(.*)$/) || [];
    const name = left && known.find(each => simple(each) === simple(left));
    if (left && !name) missing.push(left);
    tests.push(row => {
      if (!name) return row.text.includes(word.replaceAll('"', ""));
      const own = value(row, name);
      if (!right || sign === ":") return TESTS[":"](own, right);
      if (own === null || own === "") return sign === "!=";
      return TESTS[sign](isNumber(own) ? own : String(own).toLowerCase(), isNumber(own) ? Number(right) : right);
    });
  }
  return {tests, missing};
}

function compare(a, b) {
  const x = value(a, sorted.name), y = value(b, sorted.name), [noX, noY] = [x, y].map(v => v === null || v === "");
  if (a.is_run !== b.is_run || noX || noY) return b.is_run - a.is_run || noX - noY;
  const way = typeof x === typeof y ? (x < y ? -1 : x > y ? 1 : 0) : isNumber(x) ? -1 : 1;
  return sorted.down ? -way : way;
}
function arrange() {
  const {tests, missing} = conditions(at("filter").value);
  visible = data.rows.filter(row => tests.every(test => test(row)));
  at("unknown").textContent = missing.length ? `No column is called ${missing.join(", ")}: this looks for the text instead.` : "";
  if (sorted.name) visible.sort(compare);
  drawTable();
  drawRowCharts();
}
function sortBy(name) {  // metrics begin with the best value, other columns with the least
  sorted = {name, down: sorted.name === name ? !sorted.down : metrics.includes(name) && !data.less.includes(name)};
  drawHead();
  arrange();
  at("table").querySelector(`[data-column="${CSS.escape(name)}"] button`).focus();
}

function drawHead() {
  at("table").tHead.replaceChildren(make("tr", {}, ...order.filter(name => !hidden.has(name)).map(name => make("th", {
    scope: "col", class: numeric[name] ? "number" : "", "data-column": name, "aria-sort": sorted.name !== name ? null : sorted.down ? "descending" : "ascending",
  }, name === LINKS ? make("span", {}, name) : make("button", {type: "button", onclick: () => sortBy(name)}, name)))));
  const arranged = (name, kind, change) => {  // then the same control has the focus again
    change();
    remember({order, hidden: [...hidden]});
    drawHead();
    drawTable();
    at("columns").querySelector(`[data-column="${CSS.escape(name)}"] .${kind}`).focus();
  };
  const swap = (i, j) => { if (order[j] && i && j) [order[i], order[j]] = [order[j], order[i]]; };
  at("columns").querySelector("ul").replaceChildren(...order.slice(1).map((name, k) => make("li", {"data-column": name},
    make("label", {}, make("input", {type: "checkbox", class: "box", ...(hidden.has(name) ? {} : {checked: ""}),
      onchange: event => arranged(name, "box", () => event.target.checked ? hidden.delete(name) : hidden.add(name))}), ` ${name}`),
    make("button", {type: "button", class: "left", "aria-label": `${name} to the left`, onclick: () => arranged(name, "left", () => swap(k + 1, k))}, "◂"),
    make("button", {type: "button", class: "right", "aria-label": `${name} to the right`, onclick: () => arranged(name, "right", () => swap(k + 1, k + 2))}, "▸"))));
}

function links(row) {
  const address = (run, file = "") => `${run.split("/").map(encodeURIComponent).join("/")}/${file}`;
  return row.runs.flatMap(run => [make("a", {href: address(run), title: run}, row.runs.length > 1 ? run.split("/").at(-1) : "folder"),
    ...(row.files[run] || []).map(file => make("a", {href: address(run, file)}, file === "train.log" ? "log" : "params"))]);
}
function drawCell(row, name) {
  const text = row.cells[place[name]];
  if (name === LINKS) return make("td", {class: "files"}, ...(row.is_run ? links(row) : []));
  if (name === "status") return make("td", {}, make("span", {class: `status ${text.split(" ")[0]}`}, text));
  return make("td", {class: numeric[name] ? "number" : name === "note" ? "long" : ""}, text);
}
function drawRow(row) {
  const box = make("input", {type: "checkbox", "aria-label": `learning curve of ${row.name}`, onchange: () => {
    choose(box.checked ? [...chosen, row] : chosen.filter(other => other !== row));
    at("table").querySelector(`[data-row="${row.number}"] input`).focus();
  }});
  box.checked = chosen.includes(row);
  box.disabled = !hasCurve(row);
  const best = row.runs.includes(data.best?.run) ? [make("span", {class: "badge"}, "best")] : [];
  const label = make("label", {}, box, ...(colourOf(row) ? [chip(row)] : []), make("span", {}, ...breakable(row.name), " ", ...best));
  const cells = order.slice(1).filter(name => !hidden.has(name)).map(name => drawCell(row, name));
  return make("tr", {"data-row": row.number}, make("td", {class: "name", title: row.runs.join(", ")}, label), ...cells);
}
function drawTable() {
  at("table").tBodies[0].replaceChildren(...visible.slice(0, shown).map(drawRow));
  at("count").textContent = `${visible.length} of ${data.rows.length} rows`;
  at("more").hidden = visible.length <= shown;
  at("more").textContent = `Show ${Math.min(MORE, visible.length - shown)} more (${shown} of ${visible.length} rows are shown)`;
}
function choose(rows) {
  chosen = rows;
  lit = distinct([...lit.filter(row => rows.includes(row)), ...rows]).slice(0, COLOURS);
  [drawTable, drawCurves, drawRowCharts].forEach(draw => draw());
}
