"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const narrow = () => window.innerWidth < 640;
  document.documentElement.classList.add("js");

  // --- words and elements -------------------------------------------------------------------------------------------
  const PREFIXES = [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"], [1, ""], [1e-3, "m"], [1e-6, "µ"], [1e-9, "n"], [1e-12, "p"]];
  function digits(value) { // three digits, as Python's .3g
    const text = Number(value.toPrecision(3));
    return String(text);
  }
  function si(value, unit) {
    if (value === 0) return `0 ${unit}`.trim();
    for (const [factor, prefix] of PREFIXES) {
      if (Math.abs(value) >= factor * 0.9995) return `${digits(value / factor)} ${prefix}${unit}`.trim();
    }
    return `${value.toPrecision(3)} ${unit}`.trim();
  }
  function percent(share) {
    if (share === null) return "-";
    if (share > 0 && share < 0.001) return "<0.1%";
    return share >= 0.1 || share === 0 ? `${Math.round(share * 100)}%` : `${(share * 100).toFixed(1)}%`;
  }
  function probability(share) { // what is not certain is never shown as certain
    if (share >= 0.995 && share < 1) return "&gt;0.99";
    return share > 0 && share < 0.005 ? "&lt;0.01" : share.toFixed(2);
  }
  // Everything from the data becomes text through here, never HTML.
  function element(tag, attributes, ...children) {
    const made = document.createElement(tag);
    for (const [key, value] of Object.entries(attributes || {})) made.setAttribute(key, value);
    made.append(...children);
    return made;
  }
  function bar(share) {
    const made = element("span", { class: "bar" });
    made.style.setProperty("--s", Math.min(1, Math.max(0, share)));
    return made;
  }
  function small(caption, heads, rows) {
    const head = element("tr", {}, ...heads.map((h, i) => element("th", { scope: "col", class: i ? "n" : "" }, h)));
    const body = rows.map((row) => element("tr", {}, ...row.map((cell, i) => {
      const made = element(i ? "td" : "th", i ? { class: "n" } : { scope: "row" });
      made.append(...(Array.isArray(cell) ? cell : [cell]));
      return made;
    })));
    for (const row of body) if (row.cells[0].textContent === "total") row.className = "sum";
    return element("div", { class: "part" }, element("table", { class: "short" }, element("caption", {}, caption),
      element("thead", {}, head), element("tbody", {}, ...body)));
  }

  // --- a layer's drill-down -----------------------------------------------------------------------------------------
  function drill(group, index) {
    const run = data.runs[group], layer = run.layers[index];
    const named = (pairs) => pairs.map(([name, value]) => [run.names[name], value]);
    const parts = [];
    const energy = named(layer.energy), total = energy.reduce((sum, [, pj]) => sum + pj, 0);
    const bills = energy.slice().sort((a, b) => b[1] - a[1]).map(([name, pj]) =>
      [name, element("span", { "data-pj": pj }, si(pj * 1e-12, "J")), total ? [percent(pj / total), bar(pj / total)] : "-"]);
    if (energy.length) parts.push(small("Energy by component", ["component", "energy", "share"], [...bills, ["total", si(total * 1e-12, "J"), ""]]));
    if (layer.used !== null) {
      const lost = named(layer.lost).sort((a, b) => b[1] - a[1]).map(([name, share]) => [`lost to ${name}`, [percent(share), bar(share)]]);
      parts.push(small("Utilization, and why it is lost", ["", "share"], [["used", [percent(layer.used), bar(layer.used)]], ...lost]));
    }
    const reads = new Map(named(layer.reads)), writes = new Map(named(layer.writes));
    const places = [...new Set([...reads.keys(), ...writes.keys()])];
    const moved = (map, place) => (map.has(place) ? si(map.get(place), "") : "-");
    const traffic = places.map((place) => [place, moved(reads, place), moved(writes, place)]);
    traffic.push(["DRAM, in bytes", si(layer.dram[0], "B"), si(layer.dram[1], "B")]);
    if (layer.priced) parts.push(small("Elements read and written", ["place", "reads", "writes"], traffic));
    parts.push(small("Figures", ["", ""], [
      ["m x n x k", layer.size], ["cycles computing", layer.cycles[0].toLocaleString("en")], ["cycles stalled", layer.cycles[1].toLocaleString("en")],
      ["mapping efficiency", percent(layer.mapped)], ["basis", layer.basis],
    ]));
    const title = element("h3", {}, layer.name);
    if (!layer.priced) title.append(" (not priced)");
    return element("div", { class: "drill" }, title, element("div", { class: "side" }, ...parts));
  }
  function toggle(button) {
    const row = button.closest("tr"), table = row.closest("table");
    const open = button.getAttribute("aria-expanded") === "true";
    button.setAttribute("aria-expanded", String(!open));
    if (open) { row.nextElementSibling.remove(); return; }
    const cell = element("td", { colspan: String(row.cells.length) }, drill(table.dataset.group, Number(button.dataset.open)));
    row.after(element("tr", { class: "more" }, cell));
  }

  // --- tables -------------------------------------------------------------------------------------------------------
  function sort(button) {
    const head = button.closest("th"), table = head.closest("table"), body = table.tBodies[0];
    const numbers = button.dataset.sort === "number", before = head.getAttribute("aria-sort");
    // Largest first for figures, A to Z for words; a second click turns round.
    const direction = before === "none" ? (numbers ? -1 : 1) : before === "ascending" ? -1 : 1;
    for (const other of head.parentNode.cells) other.setAttribute("aria-sort", "none");
    head.setAttribute("aria-sort", direction > 0 ? "ascending" : "descending");
    const column = head.cellIndex, groups = [];
    for (const row of [...body.rows]) {
      if (row.classList.contains("more")) groups[groups.length - 1].rows.push(row);
      else {
        const cell = row.cells[column];
        const key = numbers ? (cell.dataset.v === undefined ? null : Number(cell.dataset.v)) : cell.textContent;
        groups.push({ key, rows: [row] });
      }
    }
    const words = new Intl.Collator("en", { numeric: true });
    groups.sort((a, b) => {
      if (a.key === null || b.key === null) return (a.key === null) - (b.key === null);
      return direction * (numbers ? a.key - b.key : words.compare(a.key, b.key));
    });
    body.append(...groups.flatMap((group) => group.rows));
  }
  function filter(name) {
    const table = document.getElementById(`table-${name}`);
    const kind = document.querySelector(`[data-kinds="${name}"]`).value;
    const word = document.querySelector(`[data-filter="${name}"]`).value.trim().toLowerCase();
    let left = 0;
    for (const row of table.tBodies[0].rows) {
      row.hidden = (kind !== "" && row.dataset.kind !== kind) || (word !== "" && !row.textContent.toLowerCase().includes(word));
      left += row.hidden ? 0 : 1;
    }
    document.querySelector(`[data-left="${name}"]`).textContent = `${left} shown`;
  }
  document.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    if (button.dataset.sort) sort(button);
    else if (button.dataset.open !== undefined) {
      const opens = button.closest("table").dataset.opens;
      if (opens === "layer") toggle(button);
      else if (opens === "point") show(button.dataset.open, true);
    }
  });
  for (const control of document.querySelectorAll("[data-kinds], [data-filter]")) {
    const name = control.dataset.kinds || control.dataset.filter;
    control.closest(".controls").hidden = false;
    control.addEventListener("input", () => filter(name));
  }

  // --- drawings -----------------------------------------------------------------------------------------------------
  const drawn = new Set();
  const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  function themed(layout) {
    const ink = color("--ink"), grid = color("--grid"), paper = color("--paper");
    const axis = (given) => ({ automargin: true, gridcolor: grid, zerolinecolor: grid, linecolor: ink, tickcolor: ink, ...given, title: { standoff: 14, ...given.title } });
    return {
      ...layout, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { family: "system-ui, sans-serif", size: narrow() ? 11 : 13, color: ink },
      hoverlabel: { bgcolor: paper, bordercolor: ink, font: { color: ink }, namelength: -1 }, margin: { l: 10, r: narrow() ? 10 : 44, t: 10, b: 10 },
      legend: { orientation: "h", yanchor: "bottom", y: 1.01, x: 0, itemsizing: "constant" }, modebar: { orientation: "v", bgcolor: "rgba(0,0,0,0)", color: color("--soft"), activecolor: ink },
      xaxis: axis(layout.xaxis), yaxis: axis(layout.yaxis), dragmode: narrow() ? false : "zoom",
    };
  }
  const CONFIG = { displaylogo: false, showSendToCloud: false, responsive: true, modeBarButtons: [["toImage", "zoom2d", "pan2d", "zoomIn2d", "zoomOut2d", "resetScale2d"]], displayModeBar: narrow() ? false : "hover" };
  function bars(figure, room) {
    const layers = figure.labels.length;
    const xaxis = { ...figure.layout.xaxis, tickangle: layers * 150 < room ? 0 : -60, tickmode: "linear", tick0: 0, dtick: Math.max(1, Math.ceil((layers * 15) / (room - 70))) };
    const ink = color("--ink"), paper = color("--paper");
    const traces = figure.data.map((trace) => ({
      ...trace, x: figure.labels, marker: { ...trace.marker, line: { width: layers > 100 ? 0 : 0.5, color: paper }, pattern: { ...trace.marker.pattern, fgcolor: paper, fillmode: "overlay", fgopacity: 0.9 } },
    }));
    return [traces, { ...figure.layout, xaxis, height: narrow() ? 440 : layers > 60 ? 540 : 460, font: { color: ink } }];
  }
  function draw(place) {
    const figure = data.figures[place.dataset.figure];
    const room = place.clientWidth;
    const [traces, layout] = figure.kind === "front" ? front(figure, place) : figure.kind === "history" ? history(figure) : bars(figure, room);
    const first = !drawn.has(place);
    place.style.height = `${layout.height}px`;
    drawn.add(place);
    Plotly.react(place, traces, themed(layout), CONFIG);
    if (figure.kind !== "front") return;
    if (first) {
      place.on("plotly_click", (event) => show(String(event.points[0].customdata), true));
      place.on("plotly_relayout", () => retick(figure, place));
    }
    retick(figure, place);
  }
  function drawAll(root) { for (const place of root.querySelectorAll(".plot")) draw(place); }
  function redraw() { for (const place of [...drawn]) if (place.isConnected) draw(place); else drawn.delete(place); }
  dark.addEventListener("change", redraw);
  const print = (on) => () => { // before the style for print holds, so the drawings take theirs from a class
    document.documentElement.classList.toggle("printing", on);
    redraw();
  };
  window.addEventListener("beforeprint", print(true));
  window.addEventListener("afterprint", print(false));
  let width = window.innerWidth;
  window.addEventListener("resize", () => {
    if (window.innerWidth !== width) { width = window.innerWidth; redraw(); }
  });

  // --- a study: the front, its growth, and what lies behind a point ---------------------------------------------------
  const KINDS = {
    dominated: ["dominated", "circle-open", 7, "--soft"], violating: ["violates a constraint", "x-open", 8, "--warn-mark"],
    proxy: ["proxy, not fully measured", "triangle-up-open", 8, "--soft"], front: ["front", "diamond", 11, "--link"],
  };
  const showIn = (metric, value) => {
    if (value === null) return "-";
    if (metric.unit === "%") return `${(value * 100).toFixed(2)}%`;
    return metric.prefixed ? si(value, metric.unit) : `${Number(value.toPrecision(4))} ${metric.unit}`.trim();
  };
  function hover(figure, point) {
    const lines = [`<b>trial ${point.n}</b>, ${KINDS[point.kind][0]}${point.knee ? ", knee" : ""}`];
    figure.metrics.forEach((metric, i) => {
      const range = point.r && point.r[i] ? ` (${showIn(metric, point.r[i][0])} to ${showIn(metric, point.r[i][1])})` : "";
      lines.push(`${metric.label}: ${showIn(metric, point.v[i])}${range}`);
    });
    if (point.prob !== undefined) lines.push(`P(non-dominated): ${probability(point.prob)}`);
    figure.parameters.forEach((name, i) => lines.push(`${name}: ${point.p[i]}`));
    return lines.join("<br>");
  }
  function choice(label, options, value, change) {
    const select = element("select", {}, ...options.map(([key, text]) => element("option", { value: String(key) }, text)));
    select.value = String(value);
    select.addEventListener("change", () => change(select.value));
    return element("label", {}, `${label} `, select);
  }
  function tick(label, value, change) {
    const box = element("input", { type: "checkbox" });
    box.checked = value;
    box.addEventListener("change", () => change(box.checked));
    return element("label", {}, box, ` ${label}`);
  }
  function axisValue(figure, index, point) { return index === null ? point.n : point.v[index]; }
  function spread(figure, index) { // whether a logarithm shows more
    const values = figure.points.map((point) => axisValue(figure, index, point)).filter((v) => v !== null);
    return index !== null && values.length > 0 && Math.min(...values) > 0 && Math.max(...values) > 30 * Math.min(...values);
  }
  function prepare(figure, place) {
    if (figure.chosen) return;
    const [x, y, size] = figure.axes;
    figure.chosen = { x, y, size, logX: spread(figure, x), logY: spread(figure, y) };
    const names = figure.metrics.map((metric, i) => [i, metric.label]);
    const number = (text) => (text === "" ? null : Number(text));
    const set = (key) => (value) => {
      figure.chosen[key] = value;
      if (key === "x") figure.chosen.logX = spread(figure, value);
      if (key === "y") figure.chosen.logY = spread(figure, value);
      controls();
      draw(place);
    };
    const holder = document.getElementById(`controls-${place.dataset.figure}`);
    function controls() {
      const { chosen } = figure;
      const text = (index) => (index === null ? "" : index);
      holder.replaceChildren(
        choice("across", [["", "trial number"], ...names], text(chosen.x), (v) => set("x")(number(v))), tick("log", chosen.logX, set("logX")),
        choice("up", names, text(chosen.y), (v) => set("y")(number(v))), tick("log", chosen.logY, set("logY")),
        choice("mark size", [["", "all the same"], ...names], text(chosen.size), (v) => set("size")(number(v))),
      );
    }
    controls();
  }
  function sizes(figure, index, points, base) {
    if (index === null) return base;
    const all = figure.points.map((point) => point.v[index]).filter((v) => v !== null);
    const low = Math.min(...all), high = Math.max(...all);
    return points.map((point) => (point.v[index] === null || high === low ? base : 6 + ((figure.points.length > 500 ? 8 : 16) * (point.v[index] - low)) / (high - low)));
  }
  function errors(figure, index, points) {
    if (index === null || !points.some((point) => point.r && point.r[index])) return undefined;
    const side = (which, sign) => points.map((point) => (point.r && point.r[index] ? Math.max(0, sign * (point.r[index][which] - point.v[index])) : 0));
    return { type: "data", symmetric: false, array: side(1, 1), arrayminus: side(0, -1), thickness: 2, width: 0, color: color("--range") };
  }
  function drawnOf(all, drawn) {
    const written = (n) => n.toLocaleString("en");
    return all === drawn ? written(all) : `${written(all)}; ${written(drawn)} drawn`;
  }
  // Ticks of a logarithmic axis over [low, high] in powers of ten: 1, 2, 5 of each power or fewer, each with its unit.
  // Beyond the ends there are some more, for panning. Within half a power they are as on a plain axis.
  function logTicks(metric, low, high, most) {
    const shown = (tickvals) => ({ tickmode: "array", tickvals, ticktext: tickvals.map((value) => showIn(metric, value)) });
    if (high - low < 0.5) {
      const from = 10 ** low, to = 10 ** high, rough = (to - from) / Math.min(4, most), unit = 10 ** Math.floor(Math.log10(rough));
      const step = unit * [1, 2, 5, 10].find((times) => times * unit >= rough), first = Math.ceil(from / step);
      return shown(Array.from({ length: Math.max(0, Math.floor(to / step) - first + 1) }, (_, i) => Number(((first + i) * step).toPrecision(12))));
    }
    const steps = (high - low) * 3 <= most ? [1, 2, 5] : [1], every = Math.max(1, Math.ceil((high - low) / most)), tickvals = [];
    for (let power = Math.floor(low) - 1; power <= high + 1; power += 1) {
      if (power % every === 0) tickvals.push(...steps.map((step) => Number(`${step}e${power}`)));
    }
    return shown(tickvals);
  }
  function retick(figure, place) { // after each zoom
    const change = {}, { x, y, logX, logY } = figure.chosen;
    for (const [name, index, log] of [["xaxis", x, logX], ["yaxis", y, logY]]) {
      const now = place.layout[name];
      if (!log || index === null || now.type !== "log") continue;
      const ticks = logTicks(figure.metrics[index], Math.min(...now.range), Math.max(...now.range), narrow() && name === "xaxis" ? 5 : 10);
      if (String(ticks.ticktext ?? "") === String(now.ticktext ?? "")) continue; // else each change would bring the next
      for (const [key, value] of Object.entries(ticks)) change[`${name}.${key}`] = value;
    }
    if (Object.keys(change).length) Plotly.relayout(place, change);
  }
  function front(figure, place) {
    prepare(figure, place);
    const { x, y, size, logX, logY } = figure.chosen, traces = [];
    for (const [kind, [label, symbol, base, paint]] of Object.entries(KINDS)) {
      const points = figure.points.filter((point) => point.kind === kind);
      if (!points.length) continue;
      points.sort((a, b) => axisValue(figure, x, a) - axisValue(figure, x, b));
      const stepped = kind === "front" && figure.objectives === 2 && x !== null && x !== y && figure.metrics[x].sense && figure.metrics[y].sense;
      traces.push({
        type: "scatter", mode: stepped ? "lines+markers" : "markers", name: `${label} (${drawnOf(figure.counts[kind], points.length)})`, x: points.map((p) => axisValue(figure, x, p)),
        y: points.map((p) => p.v[y]), text: points.map((p) => hover(figure, p)), hovertemplate: "%{text}<extra></extra>", customdata: points.map((p) => p.n),
        marker: { symbol, size: sizes(figure, size, points, base), color: color(paint), opacity: kind === "front" ? 1 : points.length > 500 ? 0.4 : 0.75, line: { width: kind === "front" && points.length < 200 ? 1 : kind === "front" ? 0.4 : 1.5, color: kind === "front" ? color("--ink") : color(paint) } },
        line: { dash: "dot", width: 1.5, color: color("--link"), shape: stepped && figure.metrics[x].sense === "max" ? "vh" : "hv" },
        error_x: kind === "front" ? errors(figure, x, points) : undefined, error_y: kind === "front" ? errors(figure, y, points) : undefined,
      });
    }
    const knee = figure.points.filter((point) => point.knee);
    if (knee.length) {
      traces.push({
        type: "scatter", mode: "markers", name: "knee", x: knee.map((p) => axisValue(figure, x, p)), y: knee.map((p) => p.v[y]), hoverinfo: "skip", marker: { symbol: "star", size: 18, color: color("--knee"), line: { width: 1, color: color("--ink") } },
      });
    }
    const placed = (value, log) => (log ? Math.log10(value) : value); // where plotly wants a note on a logarithmic axis
    const note = (point) => ({
      x: placed(axisValue(figure, x, point), logX), y: placed(point.v[y], logY), text: `knee: trial ${point.n}`, ax: -50, ay: -45, arrowhead: 0, arrowcolor: color("--ink"),
      bgcolor: color("--paper"), bordercolor: color("--ink"), borderpad: 2,
    });
    const axis = (index, log) => {
      if (index === null) return { title: { text: "trial number" } };
      const { label, unit, prefixed, sense } = figure.metrics[index];
      const goal = sense === "min" ? ", lower is better" : sense === "max" ? ", higher is better" : "";
      const format = unit === "%" ? { tickformat: "~%" } : prefixed ? { tickformat: "~s", ticksuffix: unit } : { ticksuffix: unit ? ` ${unit}` : "" };
      return { title: { text: `${label}${goal}` }, type: log ? "log" : "linear", nticks: narrow() && !log ? 5 : undefined, ...format };
    };
    return [traces, { xaxis: axis(x, logX), yaxis: axis(y, logY), annotations: knee.map(note), height: 520, hovermode: "closest" }];
  }
  function history(figure) {
    const trace = {
      type: "scatter", mode: "lines+markers", x: figure.x, y: figure.y, line: { shape: "hv", width: 2, color: color("--link") }, marker: { size: 4, color: color("--link") },
      hovertemplate: "after trial %{x}: %{y:.1%}<extra></extra>", showlegend: false,
    };
    return [[trace], { xaxis: { title: { text: "trial" } }, yaxis: { title: { text: "share of the final hypervolume" }, tickformat: "~%", rangemode: "tozero" }, height: narrow() ? 340 : 520 }];
  }
  const viewer = document.getElementById("points");
  function show(key, move) {
    const stored = document.getElementById(`stored-${key}`);
    if (!viewer || !stored) return;
    const view = viewer.querySelector(".view");
    viewer.querySelector("select").value = key;
    view.replaceChildren(stored.content.cloneNode(true));
    drawAll(view);
    if (move) {
      viewer.querySelector("select").focus({ preventScroll: true });
      viewer.scrollIntoView({ block: "start" });
    }
  }
  if (viewer) {
    const select = viewer.querySelector("select");
    select.addEventListener("change", () => show(select.value, false));
    show(select.value, false);
  }
  drawAll(document);
})();
