// Draws what the kernel last sent; of what comes while it draws, only the newest. `Plotly` is sent once for all figures.

const QUIET = 150, WHOLE = 600; // ms: after which nothing more is awaited, and between two whole pictures

async function library() {
  while (!globalThis.Plotly) await new Promise((ready) => setTimeout(ready, 50));
  return globalThis.Plotly;
}

// A model that is not there within two seconds, as on a busy machine, is given up by anywidget: it drops what the kernel
// sends from then on. Here each message is taken as ipywidgets takes it, and what was sent before is asked for again.
async function initialize({ model }) {
  try {
    const whole = await model.widget_manager.get_model(model.get("me"));
    const plain = Object.getPrototypeOf(Object.getPrototypeOf(whole))._handle_comm_msg;
    whole.comm.on_msg(plain.bind(whole));
    model.send({ event: "again" });
  } catch (error) {
    console.debug(error); // a front end with other insides
  }
}

function render({ model, el }) {
  const place = document.createElement("div");
  let wanted = null, drawing = false, drawn = false, gone = false, another = null, since = 0; // since: from when on only points move
  el.style.cssText = "width: 100%; overflow-x: auto";
  place.style.minWidth = `${model.get("least")}px`;
  el.append(place);

  function tell(event, points) {
    const places = (points ?? []).map((one) => [one.curveNumber, [one.pointNumber].flat()]);
    model.send({ event, points: places });
  }

  function listen() {
    for (const name of model.get("listens"))
      place.on(`plotly_${name}`, (event) => event && tell(name, event.points));
    place.on("plotly_deselect", () => tell("selected", []));
  }

  // Points and lines alone that move: a quarter of the time of a whole picture, which follows when all is quiet.
  function onlyMoves(data) {
    const before = place.data ?? [];
    const listed = (one) => one.type === "scatter" && Array.isArray(one.x) && Array.isArray(one.y);
    const alike = (one, other) => one.name === other.name && (!one.text || one.x.length === other.x.length);
    return before.length === data.length && data.every((one, k) => listed(one) && alike(one, before[k]));
  }

  async function move(Plotly, data) {
    const frame = { data: data.map(({ x, y }) => ({ x, y })), traces: data.map((_, k) => k) };
    const at_once = { mode: "immediate", transition: { duration: 0 }, frame: { duration: 0, redraw: false } };
    await Plotly.animate(place, frame, at_once);
  }

  async function draw() {
    wanted = model.get("drawn");
    another?.();
    if (drawing) return;
    drawing = true;
    const Plotly = await library();
    while (wanted !== null && !gone) {
      try {
        await drawOne(Plotly);
      } catch (error) {
        console.error(error); // the next picture is drawn all the same
      }
      await new Promise((ready) => setTimeout(ready, 0)); // the page answers the mouse between two pictures
    }
    drawing = false;
  }

  async function drawOne(Plotly) {
    const { data, layout } = JSON.parse(wanted);
    wanted = null;
    const now = performance.now();
    if (drawn && onlyMoves(data) && !(since && now - since > WHOLE)) {
      since ||= now;
      await move(Plotly, data);
      await new Promise((ready) => { // until all is quiet, or another one comes
        another = ready;
        setTimeout(ready, QUIET);
      });
      if (wanted !== null || gone) return;
    }
    await Plotly.react(place, data, layout, model.get("config"));
    if (!drawn && model.get("listens").length) listen();
    drawn = true;
    since = 0;
  }

  // Axes that are tied to each other would keep the ranges that a narrow place gave them: the picture is drawn anew.
  let later = 0;
  const resized = new ResizeObserver(() => {
    clearTimeout(later);
    later = setTimeout(() => {
      if (gone || !drawn || !place.clientWidth) return;
      globalThis.Plotly.Plots.resize(place);
      draw();
    }, 100);
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

export default { initialize, render };
