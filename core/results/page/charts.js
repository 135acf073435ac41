// The charts, drawn by plotly: what is drawn, in which colours, on which axes.
const STARTED = "order of start", COSTS = ["time", "weights"], MANY = 400;
const isDark = () => (document.documentElement.style.colorScheme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
const palette = () => data.colours[isDark() ? "dark" : "light"];
const colourOf = row => lit.includes(row) ? palette()[lit.indexOf(row)] : null;
const chip = row => make("i", {class: "chip", style: `background:${colourOf(row)}`});
function inked(name) {  // a colour of page.css, as the theme has it now
  const probe = document.body.appendChild(make("i", {style: `color:var(--${name})`})), {color} = getComputedStyle(probe);
  probe.remove();
  return color;
}
function draw(id, traces, height, {x = {}, y = {}, ...layout} = {}) {
  const node = at(id), library = typeof Plotly === "undefined" ? null : Plotly;
  node.style.height = library && traces.length ? `${height}px` : "";
  if (library) library.purge(node);
  node.textContent = library ? "" : "Charts need plotly: pip install plotly, then make this page again.";
  if (library && !traces.length) node.textContent = "There is nothing to draw here yet.";
  if (!library || !traces.length) return;
  const [card, ink, faint, line] = ["card", "ink", "faint", "line"].map(inked);
  const axis = (own, {title, ...more}) => ({gridcolor: line, zeroline: false, automargin: true, exponentformat: "power", minexponent: 5, ...own, title: {text: title}, ...more});
  library.newPlot(node, traces, {paper_bgcolor: card, plot_bgcolor: card, font: {color: ink, size: 12, family: "system-ui, sans-serif"}, showlegend: false,
    margin: {l: 50, r: 12, t: 28, b: 44}, hovermode: "closest", hoversort: "value descending", xaxis: axis({}, x), yaxis: axis({}, y),
    hoverlabel: {bgcolor: card, bordercolor: faint, font: {color: ink}, namelength: -1, align: "left"},
    modebar: {bgcolor: "transparent", color: faint, activecolor: inked("accent")}, ...layout},
  {displaylogo: false, responsive: true, toImageButtonOptions: {format: "svg", filename: id}, modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"]});
}

// Learning curves, of the rows that are ticked and of two that are compared.
const prefix = /^(val|train)_/, isPlain = metric => Object.values(data.curves).some(curve => curve[metric]);
const epochs = rows => Math.max(0, ...rows.flatMap(row => row.runs.map(run => data.curves[run]?.epoch?.at(-1) || 0)));
const epochAxis = rows => ({title: "epoch", tickformat: "d", ...(epochs(rows) <= 10 ? {dtick: 1} : {})});

function smoothed(values, weight) {  // an exponential mean, corrected for its start (Kingma & Ba 2015, section 3)
  let sum = 0, count = 0;
  const next = v => { sum = weight * sum + (1 - weight) * v; return sum / (1 - weight ** ++count); };
  return weight ? values.map(v => v === null ? null : next(v)) : values;
}
function averaged(curves) {  // one curve of several runs, epoch by epoch: mean and sample deviation
  const epochs = distinct(curves.flatMap(curve => curve.epochs)).sort((a, b) => a - b);
  const found = epochs.map(epoch => {
    const points = curves.map(({x, y, epochs}) => [x[epochs.indexOf(epoch)], y[epochs.indexOf(epoch)]]).filter(([x, y]) => isNumber(x) && isNumber(y));
    if (!points.length) return [null, null, 0];
    const [x, y] = [0, 1].map(k => mean(points.map(point => point[k]))), squares = points.reduce((sum, point) => sum + (point[1] - y) ** 2, 0);
    return [x, y, points.length > 1 ? Math.sqrt(squares / (points.length - 1)) : 0];
  });
  return [0, 1, 2].map(k => found.map(each => each[k]));
}
function curveTraces(rows, texts, colours, metric, {across = "epoch", smooth = 0, training = false, averages = false} = {}) {
  const traces = [], most = innerWidth < 600 ? 30 : 60, xName = across === "minutes" ? "seconds" : across, unit = across === "minutes" ? 60 : 1;
  rows.forEach((row, i) => (training && !isPlain(metric) ? ["train", "val"] : ["val"]).forEach(split => {
    const curves = row.runs.map(run => [run, data.curves[run]]).flatMap(([run, curve]) => {
      const x = curve?.[xName], y = curve?.[metric] || curve?.[`${split}_${metric}`];
      return x && y ? [{run, epochs: curve.epoch || x, x: x.map(v => v === null ? null : v / unit), y}] : [];
    });
    const isLit = colours[i] !== null, color = colours[i] ?? inked("faint"), line = {color, width: isLit ? 2 : 1, dash: split === "train" ? "dash" : "solid"};
    const add = (x, y, more) => traces.push({x, y, row, mode: y.length > 1 ? "lines" : "markers", line, hoverinfo: "skip", isLit, ...more});
    const addNamed = (x, raw, end) => {
      const y = smoothed(raw, smooth), name = wrapped(`${texts[i]}${end}${split === "train" ? " (training)" : ""}`, most);
      if (smooth && isLit) add(x, raw, {line: {...line, width: 1}, opacity: .3});
      add(x, y, {name, opacity: isLit ? 1 : .4, hoverinfo: undefined, hovertemplate: `%{y:.4~g}  ${name}<extra></extra>`});
    };
    if (averages && curves.length > 1) {
      const [x, y, deviation] = averaged(curves), middle = smoothed(y, smooth);
      for (const side of [-1, 1]) add(x, middle.map((v, k) => v === null ? null : v + side * deviation[k]), {mode: "lines", line: {width: 0}, ...(side > 0 ? {fill: "tonexty", fillcolor: `${colours[i] ?? "#888888"}30`} : {})});
      addNamed(x, y, ", mean");
    } else curves.forEach(({run, x, y}) => addNamed(x, y, curves.length > 1 ? `, ${run.split("/").at(-1)}` : ""));
  }));
  return traces.sort((a, b) => a.isLit - b.isLit);  // grey ones lie below
}
function withoutOutliers(values, isLog) {  // a range that values far beyond the 5th and 95th percentile do not stretch
  const scaled = (isLog ? values.filter(v => v > 0).map(Math.log10) : [...values]).sort((a, b) => a - b);
  const [low, high] = [.05, .95].map(q => scaled[Math.round(q * (scaled.length - 1))]), reach = 1.5 * (high - low);
  const inside = scaled.filter(v => v >= low - reach && v <= high + reach), room = .05 * (inside.at(-1) - inside[0]);
  return inside.length < scaled.length && room ? {range: [inside[0] - room, inside.at(-1) + room], count: scaled.length - inside.length} : null;
}
function drawCurves() {
  const [metric, across] = [at("metric").value, at("across").value], [isLog, training, clip] = ["log-y", "training", "clip"].map(id => at(id).checked);
  const how = {across, training, smooth: Number(at("smooth").value), averages: at("seeds-as").value === "mean"}, many = chosen.length > COLOURS;
  const traces = curveTraces(chosen, labels(chosen), chosen.map(colourOf), metric, how);
  const all = traces.filter(trace => trace.name).flatMap(trace => trace.y.filter(isNumber)), cut = clip && withoutOutliers(all, isLog);
  draw("curves", traces, 400, {hovermode: many ? "closest" : "x unified", x: across === "epoch" ? epochAxis(chosen) : {title: across},
    y: {title: isPlain(metric) || training ? metric : `val ${metric}`, type: isLog ? "log" : "linear", ...(cut ? {range: cut.range} : {})}});
  const [low, high] = [Math.min(...all), Math.max(...all)].map(number);
  at("clipped").textContent = cut ? `${cut.count} values lie outside of what is drawn; all go from ${low} to ${high}.` : "";
  at("legend").replaceChildren(...labels(lit).map((text, i) => make("li", {}, chip(lit[i]), text)),
    ...(many ? [make("li", {class: "faint"}, `and ${chosen.length - lit.length} in grey: a click on a curve gives it a colour`)] : []));
  if (!at("curves").on) return;
  at("curves").on("plotly_hover", tellPoints);
  at("curves").on("plotly_click", ({points}) => { lit = distinct([points[0].data.row, ...lit]).slice(0, COLOURS); drawTable(); drawCurves(); });
}
let pointed = null;  // place of the epoch that the arrow keys read
function readCurves(key) {
  const traces = (at("curves").data || []).filter(trace => trace.name), xs = distinct(traces.flatMap(trace => trace.x)).sort((a, b) => a - b), last = xs.length - 1;
  pointed = {Home: 0, End: last, ArrowLeft: Math.max(0, (pointed ?? last + 1) - 1), ArrowRight: Math.min(last, (pointed ?? -1) + 1)}[key];
  if (last < 0) return;
  Plotly.Fx.hover(at("curves"), {xval: xs[pointed]}, "xy");
  tellPoints({points: traces.map(trace => ({data: trace, x: xs[pointed], y: trace.y[trace.x.indexOf(xs[pointed])]}))});
}
function tellPoints({points}) {  // for a screen reader
  const found = points.filter(point => point.data.name && isNumber(point.y)).sort((a, b) => b.y - a.y);
  const told = found.map(({data: {name}, y}) => `${name.replaceAll("<br>", "")} ${number(y)}`).join("; ");
  at("hover").textContent = found.length ? `${at("across").value} ${number(found[0].x)}: ${told}` : "";
}

// Values of rows: over seeds, over a key, over all keys at once.
function axisOf(rows, name) {  // where rows lie on an axis: {scaled} for own scales, {places} and {axis} for plotly's
  const values = rows.map(row => value(row, name)), isLog = data.log.includes(name), started = name === STARTED && [...values].sort((a, b) => a - b);
  if (started) return {places: values.map((v, i) => started.indexOf(v) + 1), axis: {title: name, tickformat: "d", ...(rows.length <= 10 ? {dtick: 1} : {})}};
  if (values.some(isNumber)) {
    const places = values.map(v => isNumber(v) ? v : null), back = v => Number((isLog ? 10 ** v : v).toPrecision(3));
    const scaled = isLog ? places.map(v => v && Math.log10(v)) : places, known = scaled.filter(isNumber), [low, high] = [Math.min(...known), Math.max(...known)];
    const ends = distinct([low, (low + high) / 2, high]);
    return {places, scaled, low, span: high - low || 1, ticks: ends.map(v => [v, String(back(v))]), axis: {title: name, ...(isLog ? {type: "log"} : {}), ...(isLog && high - low > 1.5 ? {dtick: 1} : {})}};
  }
  const texts = values.map(v => String(v ?? "none")), kinds = distinct(texts).sort(), scaled = texts.map(text => kinds.indexOf(text)), ticks = kinds.map((text, i) => [i, text]);
  return {places: scaled.map((v, i) => v + ((i * 0.618) % 1 - .5) * .4), scaled, low: 0, span: kinds.length - 1 || 1, ticks: ticks.slice(0, 12),  // apart, so that points do not hide each other
    axis: {title: name, tickvals: ticks.map(([v]) => v), ticktext: kinds.map(kind => wrapped(kind, 20)), range: [-.6, kinds.length - .4]}};
}
function drawRowCharts() {
  const rows = visible.filter(row => row.is_run);
  [drawSeeds, drawScatter, drawParallel].forEach(draw => draw(rows));
}
function drawSeeds(rows) {
  const metric = metrics.includes(at("metric").value) ? at("metric").value : main;
  rows = rows.filter(row => (row.points[metric] || []).some(isNumber)).slice(0, 15);
  const most = Math.max(20, Math.floor(at("seeds").clientWidth / 7)), texts = labels(rows).map(text => wrapped(text, most));
  const lines = Math.max(1, ...texts.map(text => text.split("<br>").length)), step = 20 + 16 * lines, traces = [];
  rows.forEach((row, i) => {
    const x = row.points[metric].filter(isNumber), color = colourOf(row) ?? inked("faint"), ends = row.intervals[metric];
    const stroke = {mode: "lines", hoverinfo: "skip", line: {color, width: 2}};
    if (ends && isNumber(ends[0])) traces.push({...stroke, x: ends, y: [i, i], opacity: .5});
    if (x.length > 1) traces.push({...stroke, x: [mean(x), mean(x)], y: [i - .2, i + .2]});
    traces.push({x, y: x.map(() => i), mode: "markers", marker: {size: 9, color, opacity: .8}, hovertemplate: `%{x:.4~g}  ${texts[i]}<extra></extra>`});
  });
  const annotations = texts.map((text, y) => ({text, x: 0, xref: "paper", xanchor: "left", y, yanchor: "bottom", yshift: 7, showarrow: false, align: "left"}));
  draw("seeds", traces, 90 + step * (rows.length + .3), {annotations, margin: {l: 12, r: 12, t: 28, b: 44}, x: {title: `${data.split} ${metric}`},
    y: {visible: false, range: [rows.length - .6, -.4 - 16 * lines / step]}});
}
function drawScatter(rows) {
  const [xName, yName, by] = ["scatter-x", "scatter-y", "scatter-colour"].map(id => at(id).value);
  rows = rows.filter(row => isNumber(value(row, yName)) && (xName !== STARTED || row.started));
  const across = axisOf(rows, xName), y = rows.map(row => value(row, yName)), shade = by && axisOf(rows, by), few = rows.length <= MANY;
  const marker = {size: few ? 9 : 5, opacity: few ? .85 : .6, line: {color: inked("card"), width: few ? 1 : 0}, color: shade ? shade.scaled : rows.map(row => colourOf(row) ?? inked("faint"))};
  if (shade) Object.assign(marker, {colorscale: "Viridis", showscale: true, colorbar: {thickness: 10, outlinewidth: 0, title: {text: by, side: "right"},
    tickvals: shade.ticks.map(([v]) => v), ticktext: shade.ticks.map(([, text]) => text)}});
  const traces = rows.length ? [{x: across.places, y, mode: "markers", marker, customdata: rows.map(row => row.number), text: labels(rows).map(text => wrapped(text, 40)),
    hovertemplate: "%{y:.4~g}<br>%{text}<extra></extra>"}] : [];
  if ([STARTED, ...COSTS, ...metrics].includes(xName) && [...COSTS, ...metrics].includes(yName) && xName !== yName && rows.length) {  // the best so far, the Pareto front
    const [side, up] = [xName, yName].map(name => metrics.includes(name) && !data.less.includes(name) ? -1 : 1), best = [];
    const places = range(rows.length).filter(i => isNumber(across.places[i])).sort((a, b) => side * (across.places[a] - across.places[b]) || up * (y[a] - y[b]));
    for (const i of places) if (!best.length || up * y[i] < up * y[best.at(-1)]) best.push(i);
    const x = [...best.map(i => across.places[i]), across.places[places.at(-1)]], height = [...best, best.at(-1)].map(i => y[i]);
    traces.unshift({x, y: height, mode: "lines", line: {shape: "hv", color: palette()[1], width: 2}, hoverinfo: "skip"});
  }
  draw("scatter", traces, 400, {x: across.axis, y: {title: `${metrics.includes(yName) ? `${data.split} ` : ""}${yName}`}});
  if (at("scatter").on) at("scatter").on("plotly_click", ({points}) => {
    const row = data.rows[points[0].customdata];
    if (row && hasCurve(row)) choose(distinct([...chosen, row]));
  });
}
function drawParallel(rows) {  // every row a line over upright axes, each from its lowest to its highest value
  rows = rows.filter(row => isNumber(value(row, main)));
  const keys = [...data.deciding.slice(0, 9), main].filter(name => distinct(rows.map(row => value(row, name))).length > 1), sign = data.less.includes(main) ? 1 : -1;
  const axes = keys.map(name => axisOf(rows, name)), texts = labels(rows), worth = rows.map(row => sign * value(row, main));
  const heights = axes.map(({scaled, low, span}) => scaled.map(v => v === null ? null : (v - low) / span));
  const annotations = axes.flatMap(({ticks, low, span}, x) => ticks.map(([v, text]) => ({x, y: (v - low) / span, text: wrapped(text, 12), xanchor: "left", xshift: 3, showarrow: false, bgcolor: inked("card"), opacity: .85, font: {size: 11}})));
  const ranked = range(rows.length).sort((a, b) => worth[a] - worth[b]), parts = [[.6, 1, .15], [.3, .6, .35], [.1, .3, .7], [0, .1, 1]];  // the best tenth last, on top
  const traces = parts.map(([from, to, opacity]) => {
    const own = ranked.slice(Math.ceil(from * rows.length), Math.ceil(to * rows.length)), color = palette()[from ? 0 : 1];
    return {x: own.flatMap(() => [...keys.keys(), null]), y: own.flatMap(i => [...heights.map(column => column[i]), null]), opacity: rows.length > MANY ? opacity / 2 : opacity,
      line: {color, width: rows.length > MANY ? .5 : 1.5}, mode: "lines", hovertemplate: "%{text}<extra></extra>",
      text: own.flatMap(i => Array(keys.length + 1).fill(`${number(value(rows[i], main))}<br>${wrapped(texts[i], 40)}`))};
  });
  at("parallel").closest("section").hidden = rows.length < 3 || keys.length < 2;
  at("parallel").style.minWidth = `${95 * keys.length}px`;
  draw("parallel", traces, 400, {annotations, margin: {l: 50, r: 50, t: 70, b: 14}, y: {visible: false, range: [-.04, 1.04]},
    x: {side: "top", ticklabeloverflow: "allow", range: [-.05, keys.length - .75], tickvals: [...keys.keys()], ticktext: keys.map(name => wrapped(name, 14)), gridcolor: inked("faint"), fixedrange: true}});
}
