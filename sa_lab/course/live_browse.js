"use strict";
// What trained networks do: one image under the loss, the response surface, rankings, maps.

{
  const {range, plain, short, make, dial, choice, ink, mark, svg, chart, tile, resized} = live.kit;
  const SPECTRA = ["visible", "infrared"];

  // Images in the plane, marks as everywhere; `points`: [{x, y, colour, spectrum, row}].
  const map = (width, height, label, points, prototypes = []) => {
    const all = [...points, ...prototypes], pad = 18;
    const ends = ["x", "y"].map((axis) => {
      const values = all.map((one) => one[axis]);
      return [Math.min(...values), Math.max(...values)];
    });
    const scale = Math.min((width - 2 * pad) / (ends[0][1] - ends[0][0]), (height - 2 * pad) / (ends[1][1] - ends[1][0]));
    const px = (one) => [width / 2 + (one.x - (ends[0][0] + ends[0][1]) / 2) * scale,
      height / 2 - (one.y - (ends[1][0] + ends[1][1]) / 2) * scale];
    const style = (one) => `style="--c:${one.colour}"`;
    return svg(width, height, label, points.map((one) => (
      mark(one.spectrum, px(one), 4.5, `class="sample" data-row="${one.row}" ${style(one)}`))).join("")
      + prototypes.map((one) => mark(one.spectrum, px(one), 8, `class="prototype bare" ${style(one)}`)).join(""));
  };
  const colourOf = (colours, ids) => {
    const known = [...new Set(ids)];
    return (id) => colours[known.indexOf(id) % colours.length];
  };

  // A query and what is found for it; `right`: of each that is found.
  const ranking = (sheet, name, images, words, right) => make("div", {class: "ranking"},
    make("strong", {}, name), make("ol", {}, ...images.map((image, k) => {
      const told = k === 0 ? "query" : right[k - 1] ? "✓ right" : "✗ wrong";
      return make("li", {class: k === 0 ? "query" : right[k - 1] ? "right" : "wrong"},
        tile(sheet, image, 96, `${told}: ${words[k]}`), make("span", {}, told), make("span", {}, words[k]));
    })));

  live.builders.lens = async (part) => {
    const data = await live.numbers("lens"), {masks, trained} = data;
    const which = dial("image", range(data.names.length).map((i) => i + 1), data.first + 1, "which training image", () => show());
    const of = {
      mask: dial("mask value", masks, trained.mask_value, "Feature Mask, taken off the own logit", () => show()),
      share: dial("SA weight", range(21).map((i) => i / 20), trained.sas_weight,
        "share of SA-Softmax in the classification loss", () => show()),
      weight: dial("similarity weight", range(31).map((i) => i / 10), trained.similarity_weight,
        "weight of the absolute term", () => show()),
    };
    const [title, rows] = [make("p", {class: "title", "aria-live": "polite"}), make("table", {class: "bars"})];
    const [picture, curve, strip] = range(3).map(() => make("div"));
    const show = () => {
      const i = which.value - 1, m = masks.indexOf(of.mask.value);
      const weights = [1 - of.share.value, of.share.value, of.weight.value];
      const between = of.mask.wanted === of.mask.value ? "" : ` Shown: mask ${of.mask.value}, the nearest to ${of.mask.wanted}.`;
      title.textContent = `${data.names[i]}: L_sa ${short(data.sa_softmax(i, m))}, L_as ${short(data.absolute(i, 0))}, `
        + `L_id ${short(data.identity(i, 0))} nats, sums over ${data.parts} parts.${between}`;
      picture.replaceChildren(tile(data.sheet, i, 160, data.names[i]));
      rows.innerHTML = "<tr><th>prototype</th><th>logit</th><th>probability after the mask</th></tr>" + range(data.rows.shape[1])
        .map((k) => {
          const row = data.rows(i, k, m), share = data.probabilities(i, k, m), count = data.people.length;
          const who = k === 0 ? "own" : k === 1 ? "cross" : `person ${data.people[row % count]}`;
          return `<tr class="row${k}"><td>${who}, ${SPECTRA[Math.floor(row / count)]}</td><td>${short(data.logits(i, k, m))}</td>`
            + `<td><span class="bar" style="width:${100 * share}%"></span> ${short(share, 3)}</td></tr>`;
        }).join("");
      const wide = Math.floor(curve.clientWidth);
      if (!wide) return;
      const root = masks.map((mask) => Math.sqrt(mask / masks[masks.length - 1]));
      curve.innerHTML = chart(wide, 170, "L_sa of this image against the mask, nats", masks, [
        {name: "SA-Softmax", values: masks.map((_, k) => data.sa_softmax(i, k)), colour: "var(--ink)"},
      ], {at: m, places: root, unit: "mask", reference: [data.floor, `${data.parts} log 2`]});
      strip.innerHTML = lengths(wide, i, m, weights);
      part.dataset.shown = JSON.stringify({image: i, mask: of.mask.value, weights});
    };
    // The gradient lengths of all images under each term, this one's in full colour.
    const lengths = (wide, i, m, weights) => {
      const terms = ["identity", "sa_softmax", "absolute"], left = 4, tall = 34;
      const values = terms.map((_, t) => range(data.names.length).map((k) => weights[t] * data.gradients(t, k, m)));
      const top = Math.max(1e-6, ...values.flat()), px = (value) => left + (wide - 2 * left - 4) * value / top;
      const lanes = terms.map((term, t) => {
        const y = 52 + t * (tall + 18), colour = ink(data.terms[term].colour);
        return `<text x="0" y="${y - 14}" class="name" style="--c:${colour}">${plain(data.terms[term].name)}: ${short(values[t][i], 3)}</text>`
          + values[t].map((value) => `<path class="tiny" style="--c:${colour}" d="M${px(value)} ${y - 7}v14"/>`).join("")
          + `<path class="mine" data-term="${term}" data-value="${values[t][i]}" style="--c:${colour}" d="M${px(values[t][i])} ${y - 11}v22"/>`;
      });
      const foot = 46 + 3 * (tall + 18);
      return svg(wide, foot + 8, "lengths of the gradients of all images", '<text class="title" x="0" y="14">length of the '
        + `weighted gradient</text>${lanes.join("")}<text class="tick" x="${left}" y="${foot}">0</text><text class="tick" `
        + `x="${wide - 4}" y="${foot}" text-anchor="end">${short(top, 3)} nats per unit of embedding</text>`)
        + '<p class="says">Thick: this image. Thin: all images.</p>';
    };
    part.append(title, make("div", {class: "panes"},
      make("div", {class: "glass"}, picture, rows), make("div", {}, curve, strip),
      make("div", {class: "across controls"}, which.element, ...Object.values(of).map((one) => one.element))));
    resized(part, show);
    show();
  };

  live.builders.surface = async (part) => {
    const data = await live.load("surface"), {masks, weights} = data;
    const [lowest, highest] = [Math.min, Math.max].map((one) => one(...Object.values(data.cells).map((cell) => cell.mean)));
    const query = dial("query", range(data.queries).map((i) => i + 1), 1, "which of the queries", () => show());
    const [title, place, list] = [make("p", {class: "title", role: "status"}), make("div"), make("div")];
    let chosen = `${masks[masks.length - 1]} ${weights[0]}`;
    const buttons = new Map();
    const table = make("table", {class: "surface"}, make("caption", {}, `validation mAP, %, of ${data.people} people; choose a cell`));
    for (const weight of [...weights].reverse()) {
      const cells = masks.map((mask) => {
        const key = `${mask} ${weight}`, cell = data.cells[key];
        const button = make("button", {type: "button", title: `${short(cell.low, 1)} to ${short(cell.high, 1)}`,
          "aria-label": `mask ${mask}, similarity weight ${weight}: mAP ${short(cell.mean, 1)} %`}, short(cell.mean, 1));
        button.style.setProperty("--heat", `${Math.round(100 * (cell.mean - lowest) / (highest - lowest))}%`);
        button.addEventListener("click", () => { chosen = key; show(); });
        buttons.set(key, button);
        return make("td", {}, button);
      });
      table.append(make("tr", {}, make("th", {scope: "row"}, `weight ${weight}`), ...cells));
    }
    table.append(make("tr", {}, make("td", {}), ...masks.map((mask) => make("th", {scope: "col"}, `mask ${mask}`))));
    const show = () => {
      const cell = data.cells[chosen], [mask, weight] = chosen.split(" "), drawn = cell.map;
      for (const [key, button] of buttons) button.setAttribute("aria-pressed", key === chosen);
      title.textContent = `Mask ${mask}, similarity weight ${weight}: validation mAP ${short(cell.mean, 1)} % `
        + `[${short(cell.low, 1)}, ${short(cell.high, 1)}].`;
      const colour = colourOf(data.colours, drawn.person_ids), half = drawn.prototype_ids.length;
      const wide = Math.floor(place.clientWidth);
      if (wide) {
        place.innerHTML = map(wide, 330, `map of 8 training identities (${drawn.caption})`, drawn.samples.map(([x, y], row) => (
          {x, y, row, spectrum: drawn.modality[row], colour: colour(drawn.person_ids[row])})), drawn.prototypes.map(([x, y], k) => (
          {x, y, spectrum: Number(k >= half), colour: colour(drawn.prototype_ids[k % half])})))
          + `<p class="says">8 training identities of its run (${plain(drawn.caption)}); circles visible, diamonds infrared, `
          + "large open marks prototypes.</p>";
      }
      const one = cell.rankings[query.value - 1], people = one.person_ids;
      list.replaceChildren(data.sheet
        ? ranking(data.sheet, `What it finds for query ${query.value}`, one.images, people.map((id) => `person ${id}`),
          people.slice(1).map((id) => id === people[0]))
        : make("p", {class: "missing"}, `Query ${query.value}, person ${people[0]}: finds persons ${people.slice(1).join(", ")}. `
          + "No thumbnails: the people were drawn otherwise when this was measured."));
      part.dataset.shown = JSON.stringify({cell: chosen, query: query.value});
    };
    part.append(title, make("div", {class: "panes"}, make("div", {}, table, query.element), place,
      make("div", {class: "across"}, list)));
    resized(part, show);
    show();
  };

  live.builders.rankings = async (part) => {
    const data = await live.numbers("rankings"), every = "every camera";
    const between = data.runs.length === 2 ? data.runs.map((run) => `right in ${run} alone`) : [];
    const outcomes = ["every query", "first answer is somebody else", "first answer is right", ...between];
    const of = {
      protocol: choice("protocol", data.protocols.map((one) => one.name), data.protocols[0].name,
        "who asks, and what is searched", () => { offer(); filter(); }),
      outcome: choice("show", outcomes, outcomes[0], `which queries; the first two ask ${data.runs[0]}`, () => filter()),
      asking: choice("query camera", [every], every, "only queries of this camera", () => filter()),
      searched: choice("gallery camera", [every], every, "only images of this camera in the ranking", () => filter()),
    };
    const at = make("input", {type: "range", min: "1", value: "1", step: "1", "aria-label": "query"});
    at.addEventListener("input", () => show());
    const [title, list] = [make("p", {class: "title", role: "status"}), make("div")];
    let left = [];
    const chosen = () => {
      const p = of.protocol.list.selectedIndex, c = 1 + data.cameras.indexOf(Number(of.searched.list.value)); // 0: every
      const found = data[`found-${p}`], [runs, , queries, most] = found.shape;
      return {c, found, runs, queries, most, query: (q) => data[`query-${p}`](q)};
    };
    const offer = () => { // only cameras that ask under the protocol, and only those that are searched
      const {asking, searched} = data.protocols[of.protocol.list.selectedIndex];
      of.asking.offer([every, ...asking.map(String)]);
      of.searched.offer([every, ...searched.map(String)]);
    };
    const isRight = (of_, r, q) => {
      const first = of_.found(r, of_.c, q, 0);
      return first >= 0 && data.person_ids[first] === data.person_ids[of_.query(q)];
    };
    const filter = () => {
      const now = chosen(), outcome = of.outcome.list.selectedIndex, camera = of.asking.list.value;
      left = range(now.queries).filter((q) => {
        if (camera !== every && data.camera_ids[now.query(q)] !== Number(camera)) return false;
        const right = range(now.runs).map((r) => isRight(now, r, q));
        return [true, !right[0], right[0], right[0] && !right[1], right[1] && !right[0]][outcome];
      });
      [at.max, at.value, at.disabled] = [Math.max(1, left.length), 1, left.length < 2];
      show();
    };
    const show = () => {
      const now = chosen(), k = Number(at.value), q = left[k - 1];
      title.textContent = left.length ? `Query ${k} of ${left.length}: person ${data.person_ids[now.query(q)]} and what is found first.`
        : "No query fits these filters.";
      const words = (image) => `person ${data.person_ids[image]}, camera ${data.camera_ids[image]}`;
      list.replaceChildren(...(left.length ? data.runs.map((run, r) => {
        const found = range(now.most).map((n) => now.found(r, now.c, q, n)).filter((image) => image >= 0);
        const asked = now.query(q);
        return ranking(data.sheet, run, [asked, ...found], [asked, ...found].map(words),
          found.map((image) => data.person_ids[image] === data.person_ids[asked]));
      }) : []));
      part.dataset.shown = JSON.stringify({queries: left.length, query: left.length ? q : null});
    };
    part.append(title, make("div", {class: "controls"}, ...Object.values(of).map((one) => one.element)),
      make("div", {class: "dial asked"}, make("span", {}, "query"), at), list);
    offer();
    filter();
  };

  live.builders.projection = async (part) => {
    const data = await live.load("projection"), count = data.samples.length;
    const colouring = choice("colour by", Object.keys(data.colourings), "modality", "what the colours stand for", () => draw());
    const people = [...new Set(data.person_ids)];
    const who = choice("select person", ["nobody", ...people], "nobody", "lists the images of a person", () => {
      select(range(count).filter((row) => String(data.person_ids[row]) === who.list.value));
    });
    const [place, beside, told, list] = [make("div", {class: "map", tabindex: "0"}), make("div", {class: "beside"}, "Its image is shown here."),
      make("p", {class: "says", role: "status"}), make("ul", {class: "tiles"})];
    const words = (row) => `person ${data.person_ids[row]}, ${SPECTRA[data.modality[row]]}, camera ${data.camera_ids[row]}`
      + `, ${colouring.list.value} ${data.colourings[colouring.list.value].values[row]}`;
    let pointed = -1, selected = [], from = null;
    const point = (row) => {
      pointed = row;
      beside.replaceChildren(tile(data.sheet, row, 160, words(row)), make("p", {}, words(row)));
      place.querySelectorAll(".pointed").forEach((one) => one.classList.remove("pointed"));
      place.querySelector(`[data-row="${row}"]`).classList.add("pointed");
      part.dataset.pointed = row;
    };
    const select = (rows) => {
      selected = rows;
      told.textContent = rows.length ? `${rows.length} selected${rows.length > 60 ? ", the first 60 shown" : ""}.`
        : "Circles are visible images, diamonds infrared ones, open marks prototypes. Point at a mark, or go from mark to mark "
          + "with the arrow keys; drag a box to list the images inside.";
      list.replaceChildren(...rows.slice(0, 60).map((row) => make("li", {}, tile(data.sheet, row, 64, words(row)),
        make("span", {}, `person ${data.person_ids[row]}`))));
      for (const one of place.querySelectorAll("[data-row]")) {
        one.classList.toggle("faint", rows.length > 0 && !rows.includes(Number(one.dataset.row)));
      }
      part.dataset.selected = JSON.stringify(rows);
    };
    const draw = () => {
      const wide = Math.floor(place.clientWidth), {values, scale} = data.colourings[colouring.list.value];
      if (!wide) return;
      const known = colourOf(data.colours, values), half = data.prototypes.length / 2;
      const [low, high] = scale ? [Math.min(...values), Math.max(...values)] : [0, 1];
      const colour = (row) => (scale ? `color-mix(in oklab, #fde725 ${Math.round(100 * (values[row] - low) / (high - low))}%, #440154)`
        : known(values[row]));
      place.innerHTML = map(wide, 420, data.title, data.samples.map(([x, y], row) => (
        {x, y, row, spectrum: data.modality[row], colour: colour(row)})), data.prototypes.map(([x, y], k) => (
        {x, y, spectrum: Number(k >= half), colour: "var(--quiet)"})));
      select(selected);
    };
    place.addEventListener("pointermove", (event) => {
      const row = event.target.dataset.row;
      if (row !== undefined && !from) point(Number(row));
    });
    place.addEventListener("pointerdown", (event) => { from = [event.clientX, event.clientY]; });
    place.addEventListener("pointerup", (event) => {
      const [x0, x1] = [from[0], event.clientX].sort((a, b) => a - b), [y0, y1] = [from[1], event.clientY].sort((a, b) => a - b);
      from = null;
      select([...place.querySelectorAll("[data-row]")].filter((one) => {
        const {left, top, width, height} = one.getBoundingClientRect();
        return left + width / 2 >= x0 && left + width / 2 <= x1 && top + height / 2 >= y0 && top + height / 2 <= y1;
      }).map((one) => Number(one.dataset.row)));
    });
    place.addEventListener("keydown", (event) => {
      const by = {ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1}[event.key];
      if (!by) return;
      event.preventDefault();
      point((pointed + by + count) % count);
    });
    beside.setAttribute("aria-live", "polite");
    part.append(make("p", {class: "title"}, data.title), make("div", {class: "panes map-panes"}, place,
      make("div", {}, make("div", {class: "controls"}, colouring.element, who.element), beside),
      make("div", {class: "across"}, told, list)));
    resized(part, draw);
    draw();
    select([]);
  };
}
