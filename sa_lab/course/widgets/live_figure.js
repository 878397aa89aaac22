// Draws what the kernel last sent; of what comes while it draws, only the newest. `Plotly` is sent once for all figures.

async function library() {
  while (!globalThis.Plotly) await new Promise((ready) => setTimeout(ready, 50));
  return globalThis.Plotly;
}

function render({ model, el }) {
  const place = document.createElement("div");
  let wanted = null, drawing = false, drawn = false, gone = false;
  el.style.width = "100%";
  el.append(place);

  function tell(event, points) {
    const places = (points ?? []).map((one) => [one.curveNumber, one.pointNumber]);
    model.send({ event, points: places });
  }

  function listen() {
    place.on("plotly_hover", (event) => tell("hover", event.points));
    place.on("plotly_selected", (event) => event && tell("selected", event.points));
    place.on("plotly_deselect", () => tell("selected", []));
  }

  async function draw() {
    wanted = model.get("drawn");
    if (drawing) return;
    drawing = true;
    const Plotly = await library();
    while (wanted !== null && !gone) {
      const { data, layout } = JSON.parse(wanted);
      wanted = null;
      await Plotly.react(place, data, layout, model.get("config"));
      if (!drawn && model.get("listens")) listen();
      drawn = true;
      await new Promise((ready) => setTimeout(ready, 0)); // the page answers the mouse between two pictures
    }
    drawing = false;
  }

  const resized = new ResizeObserver(() => {
    if (drawn && place.clientWidth) globalThis.Plotly.Plots.resize(place);
  });
  resized.observe(el);
  model.on("change:drawn", draw);
  draw();
  return () => {
    gone = true;
    resized.disconnect();
    model.off("change:drawn", draw);
    if (drawn) globalThis.Plotly.purge(place);
  };
}

export default { render };
