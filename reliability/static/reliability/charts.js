/* Draws `<canvas data-chart="id of a JSON script">`. The table below each chart holds the same data for users who cannot see it. */
(() => {
  "use strict";
  const COLOURS = {
    light: ["#1d5fd6", "#d97706", "#c0342b", "#7c3aed", "#0f766e", "#be185d", "#4d7c0f", "#64748b", "#0891b2", "#92400e"],
    dark: ["#6ea8ff", "#fbbf5a", "#ff8a80", "#c4a1ff", "#5eead4", "#f9a8d4", "#bef264", "#a3b1c6", "#67e8f9", "#fdba74"],
  };
  const TONES = { good: { light: "#0b8a4a", dark: "#6ee7a0" }, bad: { light: "#c0342b", dark: "#ff8a80" } };
  const scheme = () => (document.documentElement.classList.contains("dark") ? "dark" : "light");

  function draw(canvas) {
    const source = document.getElementById(canvas.dataset.chart);
    if (!source || !window.Chart) return;
    window.Chart.getChart(canvas)?.destroy();
    const { labels, datasets, type, stacked, unit } = JSON.parse(source.textContent);
    const now = scheme();
    const style = getComputedStyle(document.documentElement);
    const grid = style.getPropertyValue(now === "dark" ? "--color-base-800" : "--color-base-200").trim();
    const text = style.getPropertyValue("--bs-quiet").trim();
    const scale = { grid: { color: grid }, ticks: { color: text, maxRotation: 0, autoSkipPadding: 16 } };
    new window.Chart(canvas, {
      type,
      data: {
        labels,
        datasets: datasets.map((one, place) => {
          const colour = TONES[one.tone]?.[now] ?? COLOURS[now][place % COLOURS[now].length];
          return { label: one.label, data: one.data, backgroundColor: colour, borderColor: colour, borderWidth: type === "line" ? 2 : 0, pointRadius: type === "line" && labels.length < 2 ? 3 : 0, pointHitRadius: 8, tension: 0.25, spanGaps: true, maxBarThickness: 28 };
        }),
      },
      options: {
        animation: false,
        responsive: true,
        maintainAspectRatio: false,
        interaction: { mode: "index", intersect: false },
        scales: {
          x: { ...scale, stacked },
          y: { ...scale, stacked, beginAtZero: true, title: { display: Boolean(unit), text: unit, color: text }, ticks: { color: text, precision: 0 } },
        },
        plugins: { legend: { position: "bottom", labels: { color: text, boxWidth: 12 } } },
      },
    });
  }

  const drawAll = (within = document) => within.querySelectorAll("canvas[data-chart]").forEach(draw);
  document.addEventListener("DOMContentLoaded", () => {
    drawAll();
    let before = scheme();
    new MutationObserver(() => {
      if (scheme() !== before) drawAll();
      before = scheme();
    }).observe(document.documentElement, { attributes: true, attributeFilter: ["class"] });
  });
  document.addEventListener("backstop:swapped", (event) => drawAll(event.target));
})();
