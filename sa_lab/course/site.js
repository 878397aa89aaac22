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

// Colours that are too dark, or too light, for the dark theme.
const DARK = {
  white: "#14191f", "#2a3f5f": "#e4e9ef", "#EBF0F8": "#2b3540", "#DFE8F3": "#35404c", "#DDDDDD": "#4a5764",
  "#EEEEEE": "#35404c", "#000000": "#ffffff", "#333333": "#c8d0d8", "#0072B2": "#5ab4e5", "#D55E00": "#f08c3a",
  "rgb(17, 119, 51)": "rgb(74, 176, 106)", "rgb(51, 34, 136)": "rgb(150, 136, 232)",
  "rgb(136, 34, 85)": "rgb(214, 96, 146)", "rgb(102, 17, 0)": "rgb(220, 116, 84)",
};
const theme = window.matchMedia("(prefers-color-scheme: dark)");
const themed = (text) => (theme.matches
  ? text.replace(/"(white|#[0-9A-Za-z]{6}|rgb\([^)]*\))"/g, (found, colour) => (colour in DARK ? `"${DARK[colour]}"` : found))
  : text);

const fits = [], draws = [];
for (const figure of document.querySelectorAll("figure")) {
  const graph = figure.querySelector(".graph");
  if (!graph) continue;
  const text = figure.querySelector("script").textContent;
  graph.style.height = "auto";
  const original = JSON.parse(text).layout;
  const draw = () => {
    const {data, layout, config, frames} = JSON.parse(themed(text));
    const fitted = {...layout, ...size(figure, original), ...(touched ? {dragmode: false} : {})};
    Plotly.newPlot(graph, {data, layout: fitted, config, frames});
  };
  draw();
  draws.push(draw);
  fits.push(() => Plotly.relayout(graph, size(figure, original)));
}

let waiting = 0;
window.addEventListener("resize", () => {
  clearTimeout(waiting);
  waiting = setTimeout(() => fits.forEach((fit) => fit()), 150);
});
theme.addEventListener("change", () => draws.forEach((draw) => draw()));
