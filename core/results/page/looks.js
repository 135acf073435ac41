// What runs predicted: confusion matrices, scores, and the examples behind them.
const look = run => data.looks[run] && {...data.looks[run], set: data.examples[data.looks[run].examples]};
const hasTexts = set => set.kind === "tags" || Object.values(set.contents).some(content => content.text);
let cell = null, listed = 12;  // the cell of the matrix whose examples are listed, and how many are
function drawMatrix(node, run, onPick) {
  const {matrix, set} = look(run) || {}, names = set?.names || [], types = names.map(name => name.replace(/^[BI]-/, ""));
  if (!matrix) return node.replaceChildren();
  const places = range(names.length).sort((a, b) => types.indexOf(types[a]) - types.indexOf(types[b]) || a - b);  // B-x beside I-x
  const body = places.map(i => make("tr", {}, make("th", {scope: "row"}, names[i]), ...places.map(j => {
    const count = matrix[i][j], share = count / (matrix[i].reduce((a, b) => a + b, 0) || 1), told = `${(100 * share).toFixed(share < .0995 ? 1 : 0)}%`;
    const isPicked = onPick && cell && cell[0] === i && cell[1] === j, pick = () => onPick && count && onPick(isPicked ? null : [i, j]);
    return make("td", {title: `label ${names[i]}, predicted ${names[j]}: ${count}, ${told} of the row`, class: isPicked ? "picked" : "",
      style: `background: color-mix(in srgb, var(--${i === j ? "accent" : "warn"}) ${Math.round(70 * share)}%, var(--hover))`,
      tabindex: onPick && count ? "0" : null, onclick: pick, onkeydown: event => { if (event.key === "Enter") pick(); },
    }, ...(count ? [String(count), make("small", {}, told)] : []));
  })));
  const head = places.map(i => make("th", {scope: "col"}, make("span", {}, names[i])));
  node.replaceChildren(make("table", {}, make("thead", {}, make("tr", {}, make("th", {}, "label \\ predicted"), ...head)), make("tbody", {}, ...body)));
}
function drawPlainTable(node, head, rows) {
  const line = (tag, texts) => make("tr", {}, ...texts.map((text, j) => make(j ? tag : "th", {class: j ? "number" : ""}, ...breakable(text))));
  node.replaceChildren(make("table", {class: "plain"}, make("thead", {}, line("th", head)), make("tbody", {}, ...rows.map(row => line("td", row)))));
}

function drawExample(set, i, looks, caption) {  // an example, with what one or two runs took it for
  const {image, text = ""} = set.contents[i] || {}, told = `${caption} (${set.ids[i]})`, words = text.split(" "), fits = words.length === set.labels[i]?.length;
  const parts = image ? [make("button", {type: "button", "aria-label": `enlarge ${set.ids[i]}`, onclick: () => zoom(image, told)}, make("img", {src: image, alt: told}))] : [text];
  if (set.kind === "tags") parts.splice(0, 1, ...set.labels[i].map((tag, k) => {
    const [label, first, second] = [tag, ...looks.map(one => one.outputs[i][k])].map(each => set.names[each]), isMarked = first !== (second ?? label);
    const notes = !isMarked ? [label] : second ? [label, `A: ${first}`, `B: ${second}`] : [`${label} → ${first}`];
    return make("span", {class: isMarked ? "word wrong" : "word"}, fits ? words[k] : "·", ...notes.map(note => make("small", {}, note === "O" && !isMarked ? "\u00a0" : note)));
  }));
  return make("figure", {}, ...parts, make("figcaption", {class: "faint"}, told));
}
function zoom(image, text) {
  at("zoom").firstElementChild.replaceChildren(make("img", {src: image, alt: ""}), make("p", {}, text));
  at("zoom").showModal();
}
const written = (set, answer) => set.kind === "classes" ? set.names[answer] : set.kind === "numbers" ? answer.map(number).join(", ") : "";
const isWrong = (set, one, i) => JSON.stringify(set.labels[i]) !== JSON.stringify(one.outputs[i]);
function drawExamples(node, set, places, looks, caption) {
  node.classList.toggle("texts", hasTexts(set));
  node.replaceChildren(...places.map(i => drawExample(set, i, looks, caption(i))));
}
function drawWorst() {
  const run = at("look-run").value, one = look(run), {set} = one, {labels: truth, names} = set, type = at("look-class").value;
  const flat = values => [values].flat(), has = (i, label, output) => flat(truth[i]).some((each, k) => each === label && (output ?? flat(one.outputs[i])[k]) === flat(one.outputs[i])[k]);
  const found = range(set.ids.length).filter(i => cell ? has(i, ...cell) : type === "" || has(i, Number(type)));
  found.sort((a, b) => (one.loss[b] ?? Infinity) - (one.loss[a] ?? Infinity));
  const left = set.ids.length < set.total ? `, of the ${set.ids.length} in this page` : "", picked = cell ? ` of ${names[cell[0]]} taken for ${names[cell[1]]}` : "";
  at("picked").textContent = `${found.length} examples${picked}${left}, largest loss first`;
  const answer = i => !["classes", "numbers"].includes(set.kind) ? "" : isWrong(set, one, i) ? `${written(set, truth[i])} taken for ${written(set, one.outputs[i])}, ` : `${written(set, truth[i])}, right, `;
  drawExamples(at("worst"), set, found.slice(0, listed), [one], i => `${answer(i)}loss ${number(one.loss[i])}`);
  drawMatrix(at("matrix"), run, ["classes", "tags"].includes(set.kind) && (place => { cell = place; at("look-class").value = ""; drawWorst(); }));
  at("more-worst").hidden = found.length <= listed;
}
function drawLook() {
  const run = at("look-run").value, one = look(run), {best, split} = data, missing = [data.why[run], ...(one?.set.why || [])].filter(Boolean);
  const advice = split === "val" ? " The best of many runs looks better than it is: report it on data that did not choose it." : "";
  at("which").replaceChildren(...breakable(run === best?.run ? `${run}, chosen ${best.chosen}; shown on the split "${split}".${advice}` : `${run}, on the split "${split}".`));
  at("why").textContent = missing.length ? `Not shown: ${missing.join("; ")}` : "";
  const {set = {}, entities = {}, scores = [], matrix} = one || {}, types = Object.entries(entities), classed = ["classes", "tags"].includes(set.kind);
  const scored = values => values.map((x, k) => k === 3 ? String(x) : isNumber(x) ? x.toFixed(3) : "nan");
  const shown = {confusion: matrix, entities: types.length, classes: scores.length, numbers: set.kind === "numbers", examples: one, "of-class": classed};
  for (const [id, isShown] of Object.entries(shown)) at(id).hidden = !isShown;
  drawPlainTable(at("entities").lastElementChild, ["type", "precision", "recall", "F1", "entities"], types.map(([type, values]) => [type, ...scored(values)]));
  drawPlainTable(at("classes").lastElementChild, ["class", "precision", "recall", "F1", "labels"], scores.map((values, k) => [set.names[k], ...scored(values)]));
  if (classed) fill(at("look-class"), [["", "all"], ...set.names.map((name, k) => [k, name])]);
  if (set.kind === "numbers") drawNumbers(set, one);
  if (one) drawWorst();
}
function drawNumbers(set, one) {
  fill(at("output"), set.labels[0].map((_, k) => [k, k + 1]));
  at("output").parentNode.hidden = set.labels[0].length < 2;
  const k = Number(at("output").value), truth = set.labels.map(each => each[k]), found = one.outputs.map(each => each[k]), ends = [Math.min(...truth), Math.max(...truth)];
  const ideal = {x: ends, mode: "lines", hoverinfo: "skip", line: {color: inked("faint"), width: 1, dash: "dot"}};
  const points = {mode: "markers", marker: {color: palette()[0], size: 7, opacity: .6}, text: set.ids, hovertemplate: "%{text}: %{x:.4~g}, %{y:.4~g}<extra></extra>"};
  draw("fit", [{...ideal, y: ends}, {...points, x: truth, y: found}], 360, {x: {title: "true"}, y: {title: "predicted"}});
  draw("residuals", [{...ideal, y: [0, 0]}, {...points, x: truth, y: found.map((v, i) => v - truth[i])}], 360, {x: {title: "true"}, y: {title: "predicted less true"}});
}

// Two rows of the table against each other.
function drawCompare() {
  const rows = ["run-a", "run-b"].map(id => data.rows[Number(at(id).value)]), [a, b] = rows, metric = at("metric").value, texts = name => rows.map(row => row.cells[place[name]]);
  const measured = data.columns.filter(({name, kind}) => kind === "metrics" || name.endsWith(" 95%") || ["status", "best epoch", "time", "weights"].includes(name));
  drawPlainTable(at("differs"), ["", "A", "B"], [["run", a.name, b.name], ...data.params.filter(name => param(a, name) !== param(b, name))
    .map(name => [name, ...rows.map(row => number(param(row, name) ?? "none"))]), ...measured.map(({name}) => [name, ...texts(name)]).filter(([, x, y]) => x || y)]);
  draw("both-curves", curveTraces(rows, ["A", "B"], palette().slice(0, 2), metric, {averages: true}), 340, {hovermode: "x unified", x: epochAxis(rows), y: {title: metric}});
  const runs = rows.map(row => row.runs.find(run => data.looks[run])), looks = runs.map(look), [one, two] = looks, set = one?.set;
  at("both-matrices").hidden = !(one?.matrix && two?.matrix);
  runs.forEach((run, k) => drawMatrix(at(["matrix-a", "matrix-b"][k]), run));
  const comparable = a !== b && one && two && one.examples === two.examples && set.kind !== "other", gap = i => Math.abs((one.loss[i] ?? 0) - (two.loss[i] ?? 0));
  const differ = comparable ? range(set.ids.length).filter(i => JSON.stringify(one.outputs[i]) !== JSON.stringify(two.outputs[i])) : [];
  const [onlyB, onlyA] = comparable ? [[one, two], [two, one]].map(([x, y]) => differ.filter(i => isWrong(set, x, i) && !isWrong(set, y, i)).length) : [];
  at("disagree").textContent = !comparable ? "The page does not have the predictions of both for the same examples." : set.kind === "numbers" ? "The examples whose losses differ most." :
    `${runs[0]} (A) and ${runs[1]} (B) answer differently on ${differ.length} of ${set.ids.length} examples: only A has ${onlyA} right, only B ${onlyB}.`;
  differ.sort((x, y) => (y in set.contents) - (x in set.contents) || gap(y) - gap(x));
  const answers = i => set.kind === "tags" ? "words with different answers are marked" : `${written(set, set.labels[i])}: A says ${written(set, one.outputs[i])}, B ${written(set, two.outputs[i])}`;
  drawExamples(at("disagreed"), set || {contents: {}}, differ.slice(0, 24), looks, answers);
}
