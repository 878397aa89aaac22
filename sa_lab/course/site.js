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
  const text = figure.querySelector("script").textContent;
  graph.style.height = "auto";
  const {data, layout, config, frames} = JSON.parse(text);
  const fitted = {...layout, ...size(figure, layout), ...(touched ? {dragmode: false} : {})};
  Plotly.newPlot(graph, {data, layout: fitted, config, frames});
  fits.push(() => Plotly.relayout(graph, size(figure, layout)));
}

let waiting = 0;
window.addEventListener("resize", () => {
  clearTimeout(waiting);
  waiting = setTimeout(() => fits.forEach((fit) => fit()), 150);
});

// The search: its index is a script beside the page, loaded when somebody searches for the first time.
const finder = (() => {
  const box = document.querySelector(".finder input"), list = document.querySelector(".found");
  let index = null, sections = [];

  const around = (text, words) => {
    const at = Math.max(0, ...words.map((word) => text.toLowerCase().indexOf(word)));
    const from = text.lastIndexOf(" ", Math.max(0, at - 50)) + 1;
    return `${from ? "… " : ""}${text.slice(from, from + 150)}${text.length > from + 150 ? " …" : ""}`;
  };
  const show = () => {
    const words = box.value.toLowerCase().split(/\s+/).filter(Boolean);
    list.replaceChildren();
    if (!index || !words.length) return;
    const fields = {title: {boost: 4}, page: {boost: 1}, text: {boost: 1}};
    const found = index.search(box.value, {fields, bool: "AND", expand: true}).slice(0, 12);
    for (const {ref} of found) {
      const [title, page, address, text] = sections[ref];
      const item = document.createElement("li"), link = document.createElement("a"), said = document.createElement("span");
      link.href = address;
      link.textContent = title;
      said.textContent = `${title === page ? "" : `${page}: `}${around(text, words)}`;
      item.append(link, said);
      list.append(item);
    }
    if (!found.length) list.append(Object.assign(document.createElement("li"), {textContent: "Nothing found."}));
  };
  const hold = (rows) => {
    sections = rows;
    index = elasticlunr(function () {
      for (const field of ["title", "page", "text"]) this.addField(field);
      this.saveDocument(false);
    });
    rows.forEach(([title, page, , text], id) => index.addDoc({id, title, page, text}));
    show();
  };
  const load = () => {
    if (load.asked) return;
    load.asked = true;
    document.head.append(Object.assign(document.createElement("script"), {src: "search.js"}));
  };
  if (box) {
    box.addEventListener("focus", load);
    box.addEventListener("input", () => { load(); show(); });
    box.addEventListener("keydown", (event) => {
      if (event.key === "Enter") list.querySelector("a")?.click();
      if (event.key === "Escape") { box.value = ""; show(); }
    });
  }
  return {hold};
})();
