// The chart of the Flow: points come by the page's stream.
"use strict";

const KEPT = 300;
const HEIGHT = 200;
const clock = (seconds) => new Date(seconds * 1000).toTimeString().slice(0, 8);

/** What the page's colours are in the theme that is shown: a canvas cannot read variables. */
function colours(part) {
  const style = getComputedStyle(part);
  const of = (name) => { part.style.color = `var(${name})`; return style.color; };
  const found = { placed: of("--info"), completed: of("--good"), failed: of("--bad"), grid: of("--line"), text: of("--muted") };
  part.style.color = "";
  return { ...found, font: `12px ${style.fontFamily}` };
}

function chart(part) {
  const data = [[], [], [], []];
  let plot = null;

  function line(label, stroke, width) {
    return { label, stroke, width, points: { show: false }, spanGaps: false, value: (_, value) => (value == null ? "–" : value.toFixed(1)) };
  }

  function make() {
    const colour = colours(part);
    const axis = { stroke: colour.text, grid: { stroke: colour.grid, width: 1 }, ticks: { show: false }, font: colour.font };
    if (plot) plot.destroy();
    plot = new uPlot({
      width: part.clientWidth,
      height: HEIGHT,
      cursor: { y: false, points: { size: 7 } },
      legend: { live: true },
      scales: { x: { time: true, range: (_, low, high) => [high - KEPT, high] }, y: { range: (_, low, high) => [0, Math.max(5, (high || 0) * 1.15)] } },
      axes: [{ ...axis, space: 90, size: 32, values: (_, splits) => splits.map(clock) }, { ...axis, size: 48 }],
      series: [
        { label: "At", value: (_, value) => (value == null ? "–" : clock(value)) },
        line("Placed per second", colour.placed, 2),
        line("Completed", colour.completed, 2),
        line("Failed", colour.failed, 2),
      ],
    }, data, part);
  }

  /** The legend has the newest numbers, unless somebody points at others. */
  function showNewest() {
    if (plot && plot.cursor.idx == null) plot.setLegend({ idx: data[0].length - 1 });
  }

  part.addEventListener("part", (event) => {
    event.preventDefault();
    const newest = data[0].at(-1) ?? 0;
    for (const point of JSON.parse(event.detail)) {
      if (point[0] <= newest) continue;
      point.forEach((value, at) => data[at].push(value));
    }
    for (const column of data) column.splice(0, Math.max(0, column.length - KEPT));
    if (!plot) make();
    plot.setData(data);
    showNewest();
  });
  part.addEventListener("mouseleave", () => requestAnimationFrame(showNewest));
  addEventListener("resize", () => plot && plot.setSize({ width: part.clientWidth, height: HEIGHT }));
  addEventListener("theme", () => plot && make());
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => plot && make());
}

for (const part of document.querySelectorAll("[data-chart]")) chart(part);
