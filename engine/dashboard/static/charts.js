// The three charts: memory on a plane, training losses, held-out measures over retrains. Texts of the log go into text nodes only, never into markup.
"use strict";
window.instarCharts = (() => {
  const byId = (id) => document.getElementById(id);
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
  const still = matchMedia("(prefers-reduced-motion: reduce)");
  const kept = new Map(); // by element id: the chart, and how to draw it again

  function chart(id) {
    let one = kept.get(id);
    if (!one) {
      one = { view: echarts.init(byId(id), null, { renderer: "canvas" }), draw: () => {} };
      kept.set(id, one);
      new ResizeObserver(() => { one.view.resize(); one.draw(); }).observe(byId(id));
    }
    return one;
  }

  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    for (const one of kept.values()) one.draw();
  });

  async function ask(path) {
    const answer = await fetch(path, { headers: { Accept: "application/json" } });
    if (!answer.ok) throw new Error(`${path}: ${answer.status}`);
    return answer.json();
  }

  // Equal facts get equal colours in both schemes and after every change.
  const FIXED = {
    code_diff: 1, text_diff: 5, binary_diff: 7, output_diff: 3, failure: 2, feedback: 4, retrain: 6,
    pass: 4, fail: 2, skip: 7, "no outcome": 1, "no task": 7,
  };
  const hashed = (name) => [...name].reduce((sum, char) => (sum * 31 + char.codePointAt(0)) >>> 0, 7);
  const named = (name) => colour(`c${FIXED[name] ?? (hashed(name) % 7) + 1}`);

  function node(tag, text, name) {
    const made = document.createElement(tag);
    made.textContent = text;
    if (name) made.className = name;
    return made;
  }

  const shared = () => ({
    animation: !still.matches,
    animationDuration: 300,
    textStyle: { fontFamily: getComputedStyle(document.body).fontFamily, color: colour("soft") },
    aria: { enabled: false },
  });
  const legend = (names) => ({
    type: "scroll", bottom: 0, left: 4, right: 4, itemWidth: 10, itemHeight: 10, icon: "circle", data: names,
    textStyle: { color: colour("soft"), fontSize: 12 }, pageTextStyle: { color: colour("soft") },
    pageIconColor: colour("soft"), pageIconInactiveColor: colour("line"),
  });
  const box = () => ({
    backgroundColor: colour("panel"), borderColor: colour("line"), textStyle: { color: colour("text"), fontSize: 12 },
    confine: true, className: "tip", transitionDuration: 0,
  });

  // ---- memory -----------------------------------------------------------------------------------------------------

  let held = null;

  // One unit is as long on both axes: the map shows distances.
  function limits(points, width, height) {
    const xs = points.map((one) => one.x), ys = points.map((one) => one.y);
    const middle = (values) => (Math.min(...values) + Math.max(...values)) / 2;
    const reach = (values) => Math.max(Math.max(...values) - Math.min(...values), 1e-6);
    const unit = Math.max(reach(xs) / width, reach(ys) / height) * 1.08;
    const [x, y] = [middle(xs), middle(ys)];
    return { x: [x - unit * width / 2, x + unit * width / 2], y: [y - unit * height / 2, y + unit * height / 2] };
  }

  function drawMemory() {
    const { view } = chart("memory-map");
    if (!held?.points.length) return view.clear();
    const by = byId("colour").value;
    const names = { kind: "no kind", outcome: "no outcome", task_type: "no task" };
    const groups = new Map();
    held.points.forEach((point, place) => {
      const name = point[by] ?? names[by];
      if (!groups.has(name)) groups.set(name, []);
      groups.get(name).push([point.x, point.y, place]);
    });
    const sorted = [...groups.keys()].sort();
    const ends = limits(held.points, Math.max(view.getWidth() - 24, 50), Math.max(view.getHeight() - 46, 50));
    const axis = ([min, max]) => ({
      type: "value", min, max, axisLabel: { show: false }, axisTick: { show: false }, axisLine: { show: false },
      splitLine: { show: false },
    });
    view.setOption({
      ...shared(),
      grid: { left: 12, right: 12, top: 10, bottom: 36 },
      xAxis: axis(ends.x), yAxis: axis(ends.y),
      legend: legend(sorted),
      tooltip: { ...box(), trigger: "item", formatter: (item) => memoryTip(held.points[item.data[2]]) },
      series: sorted.map((name) => ({
        name, type: "scatter", data: groups.get(name), symbolSize: held.points.length > 1500 ? 5 : 8,
        itemStyle: { color: named(name), opacity: 0.78, borderColor: colour("panel"), borderWidth: 0.6 },
        emphasis: { itemStyle: { opacity: 1, borderColor: colour("text"), borderWidth: 1.5 } },
      })),
    }, true);
  }

  function memoryTip(point) {
    const tip = node("div", "", "tip-body");
    const facts = [point.kind, point.task_type, point.outcome].filter(Boolean).join(" · ");
    tip.append(node("b", facts), node("code", point.unit), node("p", point.text));
    tip.append(node("small", `event ${point.seq}; click to open`));
    return tip;
  }

  function note() {
    const share = Math.round(100 * (held.explained[0] + held.explained[1]));
    const shown = held.points.length < held.live ? `${held.points.length} of ${held.live} rows` : `${held.live} rows`;
    const unplaced = held.unplaced ? ` · ${held.unplaced} without a vector here` : "";
    const space = held.space ? ` · space ${held.space.slice(0, 8)}` : "";
    byId("memory-note").textContent = held.points.length
      ? `${shown} of ${held.dim} numbers · ${share} % of the variance${space}${unplaced}` : `no rows${unplaced}`;
  }

  async function memory() {
    try {
      held = await ask("/api/memory");
    } catch (error) {
      byId("memory-note").textContent = "could not be read";
      return;
    }
    const empty = !held.points.length;
    byId("memory-map").hidden = empty;
    byId("memory-empty").hidden = !empty;
    note();
    if (empty) return;
    const one = chart("memory-map");
    one.draw = drawMemory;
    one.view.off("click");
    one.view.on("click", (click) => instarOpen(held.points[click.data[2]].seq));
    one.view.resize();
    drawMemory();
  }

  document.addEventListener("DOMContentLoaded", () => byId("colour").addEventListener("change", drawMemory));

  // ---- losses -----------------------------------------------------------------------------------------------------

  const SHOWN = 6;
  let losses = null;

  function drawLoss() {
    const { view } = chart("loss");
    const runs = losses.runs.filter((run) => run.loss.length).slice(0, SHOWN).reverse();
    const line = { lineStyle: { color: colour("line") } };
    const label = { color: colour("soft"), fontSize: 11, hideOverlap: true };
    view.setOption({
      ...shared(),
      grid: { left: 44, right: 14, top: 12, bottom: 50 },
      legend: legend(runs.map((run) => `event ${run.seq}`)),
      tooltip: { ...box(), trigger: "axis", formatter: lossTip },
      xAxis: { type: "value", min: 0, max: "dataMax", axisLabel: label, axisLine: line, axisTick: line, splitLine: { show: false } },
      yAxis: { type: "value", scale: true, axisLabel: label, splitLine: { lineStyle: { color: colour("line"), opacity: 0.6 } } },
      series: runs.map((run, place) => ({
        name: `event ${run.seq}`, type: "line", showSymbol: run.loss.length === 1, smooth: 0.2,
        data: run.loss.map((value, index) => [Math.round(index * Math.max(run.steps - 1, 0) / Math.max(run.loss.length - 1, 1)), value]),
        color: colour(`c${(place % 7) + 1}`),
        lineStyle: { width: place === runs.length - 1 ? 2.4 : 1.4, opacity: place === runs.length - 1 ? 1 : 0.6 },
      })),
    }, true);
  }

  function lossTip(items) {
    const tip = node("div", "", "tip-body");
    tip.append(node("b", `step ${items[0].data[0]}`));
    for (const item of items) tip.append(node("span", `${item.seriesName}: ${item.data[1].toFixed(4)}`));
    return tip;
  }

  // ---- held-out measures ------------------------------------------------------------------------------------------

  const MEASURES = [["MRR", "mrr", 1], ["recall@1", "recall_at_1", 4]];
  const measured = () => losses.runs.filter((run) => run.after.pairs > 0).reverse();

  function drawHeldOut() {
    const { view } = chart("heldout");
    const runs = measured();
    const line = { lineStyle: { color: colour("line") } };
    const label = { color: colour("soft"), fontSize: 11, hideOverlap: true };
    const curve = (name, which, key, hue) => ({
      name: `${name} ${which}`, type: "line", color: colour(`c${hue}`), symbol: which === "after" ? "circle" : "emptyCircle", symbolSize: 7,
      lineStyle: { width: which === "after" ? 2.4 : 1.2, type: which === "after" ? "solid" : "dashed" },
      data: runs.map((run) => run[which][key]),
    });
    const series = MEASURES.flatMap(([name, key, hue]) => [curve(name, "before", key, hue), curve(name, "after", key, hue)]);
    view.setOption({
      ...shared(),
      grid: { left: 44, right: 14, top: 12, bottom: 50 },
      legend: legend(series.map((one) => one.name)),
      tooltip: { ...box(), trigger: "axis", formatter: heldOutTip },
      xAxis: { type: "category", data: runs.map((run) => `event ${run.seq}`), axisLabel: label, axisLine: line, axisTick: line },
      yAxis: { type: "value", scale: true, axisLabel: label, splitLine: { lineStyle: { color: colour("line"), opacity: 0.6 } } },
      series,
    }, true);
  }

  function heldOutTip(items) {
    const run = measured()[items[0].dataIndex];
    const tip = node("div", "", "tip-body");
    tip.append(node("b", `event ${run.seq}, ${run.after.pairs} held-out pairs`));
    for (const item of items) tip.append(node("span", `${item.seriesName}: ${item.value.toFixed(3)}`));
    return tip;
  }

  function show(id, draw, wanted) {
    byId(id).hidden = !wanted;
    if (!wanted) return;
    const one = chart(id);
    one.draw = draw;
    one.view.resize();
    draw();
  }

  async function training() {
    try {
      losses = await ask("/api/training");
    } catch (error) {
      return;
    }
    show("loss", drawLoss, losses.runs.some((run) => run.loss.length));
    show("heldout", drawHeldOut, measured().length > 0);
  }

  return { memory, training };
})();
