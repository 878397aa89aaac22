"use strict";
for (const details of document.querySelectorAll("details.contents")) {
  details.open = window.matchMedia("(min-width: 1000px)").matches;
}

// Figures shrink to the column, but not below what their words need: from there on the column scrolls.
// Pictures keep their proportions, curves their height.
const LEAST = 560;
const touched = window.matchMedia("(pointer: coarse)").matches; // a swipe over a figure scrolls, it does not zoom
const size = (figure, layout) => {
  const wanted = layout.width || 760;
  const width = Math.min(wanted, Math.max(figure.clientWidth, LEAST));
  const rigid = (layout.images || []).length > 0;
  return {width, height: Math.round((layout.height || 450) * (rigid ? width / wanted : 1))};
};

const fits = [];
for (const figure of document.querySelectorAll("figure")) {
  const graph = figure.querySelector(".graph");
  if (!graph) continue;
  const {data, layout, config, frames} = JSON.parse(figure.querySelector("script").textContent);
  const original = {width: layout.width, height: layout.height, images: layout.images};
  graph.style.height = "auto";
  const fitted = {...layout, ...size(figure, original), ...(touched ? {dragmode: false} : {})};
  Plotly.newPlot(graph, {data, layout: fitted, config, frames});
  fits.push(() => Plotly.relayout(graph, size(figure, original)));
}

let waiting = 0;
window.addEventListener("resize", () => {
  clearTimeout(waiting);
  waiting = setTimeout(() => fits.forEach((fit) => fit()), 150);
});
