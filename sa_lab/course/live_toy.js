"use strict";
// The toy world: the playground, and the steps that explain the idea.

{
  const {range, plain, short, make, dial, choice, player, ink, mark, svg, arrow, chart, resized} = live.kit;
  const ARROW = 2.5; // length of an arrow for a pull of length 1
  const LANES = {identity: 1.1, sa_softmax: 1.19, absolute: 1.28};
  const NAMES = {stranger_ratio: "modality gap", prototype_alignment: "prototype cosine"};

  const fileOf = (at) => `toy-${at.num_identities}-${Number(at.asynchronous)}-${at.warmup_steps}`;

  // Where the cell of some dials lies in its file: where nothing follows L_sa, all masks share one cell.
  const cellOf = (file, toy, at) => {
    const mask = at.sas_weight ? at.mask_value : toy.dials.mask_value[toy.dials.mask_value.length - 1];
    return file.cells.findIndex((cell) => (
      cell[0] === mask && cell[1] === at.sas_weight && cell[2] === at.similarity_weight));
  };

  const sceneOf = (toy, file, cell, frame) => {
    const count = file.samples.shape[1], groups = file.prototypes.shape[1], each = count / groups;
    const place = (turn, length) => [Math.cos(2 * Math.PI * turn) * length, Math.sin(2 * Math.PI * turn) * length];
    const samples = range(count).map((i) => place(file.samples(cell, i, frame), toy.radius));
    const prototypes = range(groups).map((g) => (
      place(file.prototypes(cell, g, frame), Math.exp(file.lengths(cell, g, frame)))));
    const centres = range(groups).map((g) => [0, 1].map((axis) => (
      samples.slice(g * each, (g + 1) * each).reduce((sum, one) => sum + one[axis], 0) / each)));
    const pulls = Object.fromEntries(Object.keys(LANES).map((term, t) => [
      term, range(groups).map((g) => [file.pulls(cell, t, g, 0, frame), file.pulls(cell, t, g, 1, frame)])]));
    return {samples, prototypes, centres, pulls, each, groups};
  };

  const curvesOf = (toy, file, cell) => Object.fromEntries(toy.curves.map((name, k) => [
    name, toy.steps.map((_, frame) => file.curves(cell, k, frame))]));

  const world = (size, toy, scene, label, shown) => {
    const people = scene.groups / 2, rim = size / 2 - 12;
    const lengths = shown.prototypes ? scene.prototypes.map((one) => Math.hypot(...one)) : [0];
    const reach = Math.min(Math.max(1.4 * toy.radius, ...lengths.map((one) => one + 0.3)), 2 * toy.radius);
    const scale = rim / reach;
    const px = ([x, y]) => [size / 2 + x * scale, size / 2 - y * scale];
    const colour = (g) => `style="--c:${toy.colours[g % people]}"`;
    const inside = (point, length) => (length > reach ? point.map((one) => one * reach / length) : point);
    const places = scene.prototypes.map((one, g) => px(inside(one, lengths[g] || 0)));
    const parts = [`<circle class="rule" cx="${size / 2}" cy="${size / 2}" r="${toy.radius * scale}"/>`];
    if (shown.prototypes) {
      parts.push(...range(people).map((i) => (
        `<path class="pair" d="M${places[i]}L${places[i + people]}"/>`)));
    }
    for (const term of shown.pulls) {
      scene.centres.forEach((centre, g) => {
        const pull = scene.pulls[term][g].map((one) => ARROW * one), length = Math.hypot(...pull);
        if (length < 0.05 * toy.radius) return; // no longer than its head
        const by = Math.min(1, toy.radius / 2 / length) * scale;
        parts.push(arrow(px(centre.map((one) => LANES[term] * one)), [pull[0] * by, -pull[1] * by],
          ink(toy.terms[term].colour), term));
      });
    }
    scene.samples.forEach((sample, i) => {
      const g = Math.floor(i / scene.each);
      parts.push(mark(g >= people, px(sample), 4.5, `class="sample" ${colour(g)}`));
    });
    if (shown.prototypes) {
      places.forEach((place, g) => {
        const far = lengths[g] > reach ? " far" : "";
        parts.push(mark(g >= people, place, 10, `class="prototype${far}" ${colour(g)}`));
        parts.push(`<text class="number" x="${place[0]}" y="${place[1] + 4}">${g % people}</text>`);
      });
    }
    return svg(size, size, label, parts.join(""));
  };

  const figure = (toy, shown) => {
    const [left, right] = [make("div", {class: "world"}), make("div", {class: "charts"})];
    const key = make("p", {class: "key"});
    key.innerHTML = [
      `<span>${svg(14, 14, "circle", mark(0, [7, 7], 4.5, 'class="sample"'))} visible image</span>`,
      `<span>${svg(14, 14, "diamond", mark(1, [7, 7], 4.5, 'class="sample"'))} infrared image</span>`,
      `<span>${svg(24, 24, "open mark", mark(0, [12, 12], 10, 'class="prototype"'))} prototype</span>`,
      ...Object.keys(LANES).map((term) => `<span>${svg(26, 12, "arrow", arrow([1, 6], [23, 0], ink(toy.terms[term].colour)))} `
        + `pull of ${plain(toy.terms[term].name)}</span>`),
    ].join("");
    const draw = (file, cell, frame, label, curves) => {
      if (!left.clientWidth) return; // not laid out as yet
      const scene = sceneOf(toy, file, cell, frame), size = Math.floor(Math.min(left.clientWidth, 520));
      left.innerHTML = world(size, toy, scene, label, shown);
      const line = (name) => ({
        name: NAMES[name] || toy.terms[name].name, values: curves[name],
        colour: ink((toy.terms[name] || {}).colour || (name === "stranger_ratio" ? "var(--accent)" : "var(--second)")),
      });
      const wide = Math.floor(right.clientWidth), at = {at: frame, unit: "steps"};
      const losses = shown.curves.filter((name) => toy.terms[name]), rest = shown.curves.filter((name) => !toy.terms[name]);
      const low = Math.min(0, ...rest.flatMap((name) => curves[name]));
      const high = Math.min(4, 1.05 * Math.max(toy.floor, ...losses.flatMap((name) => curves[name])));
      right.innerHTML = (losses.length ? chart(wide, shown.tall, "losses, nats", toy.steps, losses.map(line), {
        ...at, high, reference: losses.includes("sa_softmax") ? [toy.floor, "log 2"] : undefined,
      }) : "") + (rest.length ? chart(wide, shown.tall, "overlap of the spectra", toy.steps, rest.map(line), {...at, low}) : "");
    };
    return {left, right, key, draw};
  };

  // Dials

  live.builders.playground = async (part, options) => {
    const toy = await live.load("toy"), {dials: values} = toy;
    const shown = {prototypes: true, pulls: Object.keys(LANES), curves: toy.curves, tall: 190};
    const {left, right, key, draw} = figure(toy, shown);
    const preset = choice("preset", Object.keys(toy.presets), "complete", "sets the loss; every dial can be changed",
      () => take());
    const of = {
      num_identities: dial("identities", values.num_identities, options.num_identities || 4, "how many people",
        () => update()),
      mask_value: dial("mask value", values.mask_value, 50, "Feature Mask, taken off the own logit", () => update()),
      sas_weight: dial("SA weight", values.sas_weight, 0.7, "share of SA-Softmax in the classification loss",
        () => update()),
      similarity_weight: dial("similarity weight", values.similarity_weight, 1, "weight of the absolute term",
        () => update()),
      warmup_steps: dial("warm-up steps", values.warmup_steps, 20,
        "first steps, in which samples follow the identity loss alone", () => update()),
    };
    const turns = make("input", {type: "checkbox", id: `turns-${part.id || "toy"}`});
    turns.checked = true;
    turns.addEventListener("change", () => update());
    const [title, says] = [make("p", {class: "title"}), make("p", {class: "says", role: "status"})];
    const play = player(toy.steps.length, () => redraw(), (frame) => `step ${toy.steps[frame]}`);
    let at = {}, file = null, cell = -1, curves = {};

    const redraw = () => {
      if (!file) return;
      const now = Object.fromEntries(toy.curves.map((name) => [name, curves[name][play.frame]]));
      const step = toy.steps[play.frame], warm = step < at.warmup_steps ? ", warm-up" : "";
      title.textContent = `Step ${step}${warm}: a person's two spectra lie ${short(now.stranger_ratio)} apart `
        + `(1: as far as a stranger), SA-Softmax stands at ${short(now.sa_softmax)} nats.`;
      title.setAttribute("aria-live", play.playing ? "off" : "polite");
      draw(file, cell, play.frame, title.textContent, curves);
      part.dataset.shown = JSON.stringify({...at, step});
    };
    const update = async () => {
      const wanted = {asynchronous: turns.checked};
      for (const [name, one] of Object.entries(of)) wanted[name] = one.value;
      at = wanted;
      const found = await live.numbers(fileOf(wanted));
      if (at !== wanted) return; // a later one is on its way
      [file, cell] = [found, cellOf(found, toy, wanted)];
      curves = curvesOf(toy, file, cell);
      const between = Object.values(of).filter((one) => one.wanted !== one.value)
        .map((one) => `${one.label} ${one.value}, the nearest to ${one.wanted}`);
      const idle = wanted.sas_weight ? [] : [`nothing follows SA-Softmax, so the mask moves nothing; its curve is that of `
        + `mask ${values.mask_value[values.mask_value.length - 1]}`];
      const far = range(file.lengths.shape[1]).some((g) => toy.steps.some((_, frame) => (
        Math.exp(file.lengths(cell, g, frame)) > 2 * toy.radius)));
      const rim = far ? ["prototypes that have gone too far are drawn dashed, at the rim"] : [];
      const told = [...(between.length ? [`Shown is what was computed: ${between.join("; ")}`] : []), ...idle, ...rim];
      says.textContent = told.length ? `${told.join(". ").replace(/^./, (one) => one.toUpperCase())}.` : "";
      redraw();
    };
    const take = () => {
      const {asynchronous, ...loss} = toy.presets[preset.list.value];
      turns.checked = asynchronous;
      for (const [name, value] of Object.entries(loss)) of[name].set(value);
      update();
    };
    const controls = make("div", {class: "controls"}, preset.element, ...Object.values(of).map((one) => one.element),
      make("div", {class: "dial"}, make("label", {for: turns.id}, "network and prototypes take turns"), turns));
    part.append(title, make("div", {class: "panes"}, make("div", {}, left, key), right,
      make("div", {class: "across"}, play.element, says, controls, make("p", {class: "note"},
        "Each setting is a whole training, from its first step on. In the notebook a dial can be moved while it runs."))));
    resized(part, redraw);
    play.go(toy.steps.length - 1);
    await update();
  };

  // The idea, step by step

  live.builders.story = async (part) => {
    const toy = await live.load("toy");
    const items = [...part.querySelectorAll("li")], words = part.querySelector("ol");
    const shown = {prototypes: false, pulls: [], curves: [], tall: 150};
    const {left, right, draw} = figure(toy, shown);
    const play = player(toy.steps.length, () => redraw(), (frame) => `step ${toy.steps[frame]}`);
    const caption = make("p", {class: "says"});
    const dots = items.map((item, i) => make("button", {
      type: "button", class: "dot", "aria-label": `${i + 1}: ${item.querySelector("h2").textContent}`}, String(i + 1)));
    const [back, next] = ["Back", "Next"].map((word) => make("button", {type: "button", class: "turn"}, word));
    let now = -1, file = null, cell = -1, curves = {};

    const redraw = () => {
      if (!file) return;
      const gap = curves.stranger_ratio[play.frame], scene = JSON.parse(items[now].dataset.scene);
      const losses = scene.curves.filter((name) => toy.terms[name]).map((name) => (
        `${toy.terms[name].name} loss ${short(curves[name][play.frame])}`));
      caption.textContent = `Step ${toy.steps[play.frame]}: ${[...losses, `modality gap ${short(gap)}`].join(", ")}.`;
      draw(file, cell, play.frame, caption.textContent, curves);
      part.dataset.shown = JSON.stringify({...scene.at, step: toy.steps[play.frame]});
    };
    const go = async (to) => {
      now = Math.min(Math.max(to, 0), items.length - 1);
      const mine = now, scene = JSON.parse(items[now].dataset.scene);
      items.forEach((item, i) => { item.hidden = i !== now; });
      dots.forEach((dot, i) => (i === now ? dot.setAttribute("aria-current", "step") : dot.removeAttribute("aria-current")));
      [back.disabled, next.disabled] = [now === 0, now === items.length - 1];
      const found = await live.numbers(fileOf(scene.at));
      if (mine !== now) return;
      Object.assign(shown, {prototypes: scene.prototypes, pulls: scene.pulls, curves: [...scene.curves, "stranger_ratio"]});
      [file, cell] = [found, cellOf(found, toy, scene.at)];
      curves = curvesOf(toy, file, cell);
      const [from, until] = scene.steps.map((step) => toy.steps.indexOf(step));
      if (live.still || from === until) { play.pause(); play.go(until); } else play.play(from, until);
    };
    back.addEventListener("click", () => go(now - 1));
    next.addEventListener("click", () => go(now + 1));
    dots.forEach((dot, i) => dot.addEventListener("click", () => go(i)));
    document.addEventListener("keydown", (event) => {
      if (event.target.closest("input, select, textarea") || event.altKey || event.ctrlKey || event.metaKey) return;
      const by = {ArrowRight: 1, ArrowLeft: -1}[event.key];
      if (!by) return;
      event.preventDefault();
      go(now + by);
    });
    words.setAttribute("aria-live", "polite");
    words.after(make("div", {class: "stepper", role: "group", "aria-label": "steps of the idea"}, back, ...dots, next));
    part.append(make("div", {class: "stage"}, left, make("div", {}, right, caption, play.element)));
    part.classList.add("ready");
    resized(part, redraw);
    await go(0);
  };
}
