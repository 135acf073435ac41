// The start: what the controls offer, what they do, and runs that are still running.
const drawAll = () => { [drawTable, drawCurves, drawRowCharts, drawLook].forEach(draw => draw()); if (!at("compare").hidden) drawCompare(); };

function fillControls() {
  const columns = distinct(Object.values(data.curves).flatMap(Object.keys)).filter(name => !["epoch", "step", "seconds"].includes(name)).map(name => name.replace(prefix, ""));
  fill(at("metric"), distinct([main, ...columns]).filter(name => columns.includes(name)).map(name => [name, name.replaceAll("_", " ")]), main);
  const others = ["best epoch", "epochs", "time", "weights"].filter(name => numeric[name]), keys = distinct([...data.deciding, STARTED, ...data.params, ...others, ...metrics]);
  fill(at("scatter-x"), keys.map(name => [name]), data.deciding.find(name => data.log.includes(name)) || keys[0]);
  fill(at("scatter-y"), [...metrics, ...others].map(name => [name]), main);
  fill(at("scatter-colour"), [["", "as the curves"], ...keys.filter(name => name !== STARTED).map(name => [name])], "");
  const looked = distinct([data.best?.run, ...Object.keys(data.looks)].filter(Boolean)), runs = data.rows.filter(row => row.is_run);
  fill(at("look-run"), looked.map(run => [run]));
  at("look").hidden = !looked.length;
  const pair = distinct([...runs.filter(row => row.runs.some(run => data.looks[run])), ...runs]);
  ["run-a", "run-b"].forEach((id, k) => fill(at(id), runs.map(row => [row.number, row.name]), pair[k]?.number));
  at("compare").hidden = at("scatter").closest("section").hidden = runs.length < 2;
  at("left").hidden = !data.left_out.length;
  at("left").querySelector("ul").replaceChildren(...data.left_out.map(text => make("li", {}, text)));
  [at("footnote").textContent, at("about").textContent] = [data.footnote, `${data.title}, split "${data.split}"`];
  at("labels").value = memory.labels || "keys";
}

// Runs that were running: the page reads their files again, where the browser lets it.
async function refresh() {
  const running = data.rows.filter(row => row.status === "running").flatMap(row => row.runs), told = [];
  at("live").hidden = !running.length;
  if (!running.length) return;
  try {
    for (const run of running) {
      const read = async name => (await fetch(`${run.split("/").map(encodeURIComponent).join("/")}/${name}`, {cache: "no-store"})).text();
      const lines = (await read("metrics.jsonl")).trim().split("\n").filter(Boolean).map(line => JSON.parse(line)), {state} = JSON.parse(await read("status.json"));
      data.curves[run] = {...data.curves[run], ...Object.fromEntries(Object.keys(lines[0] || {}).map(name => [name, lines.map(line => line[name] ?? null)]))};
      told.push(`${run}: ${state}, epoch ${lines.at(-1)?.epoch ?? 0}`);
    }
    at("live").textContent = `${told.join("; ")}. Curves are read again every 10 seconds; synthesize_results.py makes the table anew.`;
    [drawTable, drawCurves].forEach(draw => draw());
    setTimeout(refresh, 10000);
  } catch {
    const button = make("button", {type: "button", onclick: () => location.reload()}, "Reload");
    at("live").replaceChildren(`These were running: ${running.join(", ")}. Run synthesize_results.py again, then: `, button);
  }
}

const on = (ids, event, what) => ids.split(" ").forEach(id => at(id).addEventListener(event, what));
const anew = draw => () => { [cell, listed] = [null, 12]; draw(); };
on("theme", "click", () => { document.documentElement.style.colorScheme = isDark() ? "light" : "dark"; drawAll(); });
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
on("labels", "change", () => { remember({labels: at("labels").value}); drawAll(); });
on("filter", "input", arrange);
on("more", "click", () => { shown += MORE; drawTable(); });
on("tick", "click", () => choose(visible.filter(hasCurve)));
on("untick", "click", () => choose([]));
on("metric", "change", drawAll);
on("across seeds-as training log-y clip smooth", "input", drawCurves);
on("curves", "keydown", event => { if (/^(Arrow(Left|Right)|Home|End)$/.test(event.key)) { event.preventDefault(); readCurves(event.key); } });
on("scatter-x scatter-y scatter-colour", "change", () => drawScatter(visible.filter(row => row.is_run)));
on("look-run look-class", "change", anew(drawLook));
on("more-worst", "click", () => { listed += 24; drawWorst(); });
on("output", "change", drawLook);
on("run-a run-b", "change", drawCompare);
[fillControls, drawHead, drawTable].forEach(draw => draw());
addEventListener("DOMContentLoaded", () => { drawAll(); refresh(); });  // plotly stands behind this script
