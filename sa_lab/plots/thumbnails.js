"use strict";
// Images of a figure's points. `sheet` says how thumbnails lie in the picture that the class "tile" has as background.
const MOST = 60;

function thumbnails(name, sheet) {
  const part = document.getElementById(name);
  const [graph, beside, told, list] = [".js-plotly-plot", ".beside", ".told", ".selected"].map((one) =>
    part.querySelector(one));
  const hint = told.textContent;
  let pointer = [0, 0];

  const tile = (row, text, tall) => {
    const scale = tall / sheet.height;
    const made = document.createElement("span");
    made.className = "tile";
    made.setAttribute("role", "img");
    made.setAttribute("aria-label", text);
    made.title = text;
    made.dataset.row = row;
    made.style.width = `${sheet.width * scale}px`;
    made.style.height = `${tall}px`;
    made.style.backgroundSize = `${sheet.columns * sheet.width * scale}px ${sheet.rows * tall}px`;
    const [left, top] = [(row % sheet.columns) * sheet.width * scale, Math.floor(row / sheet.columns) * tall];
    made.style.backgroundPosition = `${-left}px ${-top}px`;
    return made;
  };

  // What the figure itself would say of the point.
  const words = (point) => point.data.hovertemplate
    .replace(/<extra>.*/, "")
    .replace("%{customdata[1]}", point.customdata[1])
    .replace(/%{marker\.color[^}]*}/, Number(Number(point["marker.color"]).toPrecision(3)))
    .replaceAll("<br>", "\n");

  const spectrum = (point) => `identity ${point.customdata[1]}, ${words(point).match(/visible|infrared/) || ""}`;

  const place = () => {
    const {width, height} = beside.getBoundingClientRect();
    const [x, y] = pointer;
    beside.style.left = `${x + 18 + width < window.innerWidth ? x + 18 : Math.max(0, x - 18 - width)}px`;
    beside.style.top = `${Math.max(0, Math.min(y + 12, window.innerHeight - height))}px`;
  };

  graph.addEventListener("mousemove", (event) => {
    pointer = [event.clientX, event.clientY];
    place();
  }, true);

  graph.on("plotly_hover", ({points: [point]}) => {
    part.classList.toggle("pointing", Boolean(point.customdata));
    if (!point.customdata) return;
    beside.replaceChildren(tile(point.customdata[0], words(point), 128), words(point));
    place();
  });

  graph.on("plotly_unhover", () => part.classList.remove("pointing"));

  const show = (points) => {
    points.sort((a, b) => a.customdata[0] - b.customdata[0]);
    const shown = points.slice(0, MOST).map((point) => {
      const item = document.createElement("li");
      item.append(tile(point.customdata[0], words(point).replace("\n", ", "), 64), spectrum(point));
      return item;
    });
    list.replaceChildren(...shown);
    const fewer = points.length > MOST ? `, the first ${MOST} shown` : "";
    told.textContent = points.length ? `${points.length} selected${fewer}` : hint;
  };

  graph.on("plotly_selected", (event) => show(((event || {}).points || []).filter((point) => point.customdata)));
  graph.on("plotly_deselect", () => show([]));
}
