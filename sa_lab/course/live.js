"use strict";
// Live figures of pages without a kernel. Only places of marks are worked out here: every number was computed beforehand
// by the library, and is looked up in the files beside this one. A folder cannot be fetched from, but scripts can load.

const live = (() => {
  const here = document.currentScript.src.replace(/[^/]*$/, "");
  const asked = new Map();
  const builders = {};
  const still = window.matchMedia("(prefers-reduced-motion: reduce)").matches;

  const load = (name) => {
    if (!asked.has(name)) {
      const entry = {};
      entry.content = new Promise((done, failed) => {
        entry.done = done;
        const script = document.createElement("script");
        script.src = `${here}${name}.js`;
        script.onerror = () => failed(new Error(`live/${name}.js is missing`));
        document.head.append(script);
      });
      asked.set(name, entry);
    }
    return asked.get(name).content;
  };
  const add = (name, content) => asked.get(name).done(content);

  // What `packed` of sa_lab.course.atlas has written; numbers of an array by index: `array(i, j, ...)`.
  const unpack = async ({arrays, bytes}) => {
    const deflated = Uint8Array.from(atob(bytes), (letter) => letter.charCodeAt(0));
    const stream = new Blob([deflated]).stream().pipeThrough(new DecompressionStream("deflate"));
    const raw = new Uint8Array(await new Response(stream).arrayBuffer());
    const found = {};
    let at = 0;
    for (const [name, {shape, grain}] of Object.entries(arrays)) {
      const count = shape.reduce((a, b) => a * b, 1), along = shape[shape.length - 1];
      const values = new Float32Array(count);
      for (let i = 0, sum = 0; i < count; i++) {
        const code = raw[at + i] | (raw[at + count + i] << 8);
        sum = (i % along ? sum : 0) + ((code >>> 1) ^ -(code & 1));
        values[i] = sum * grain;
      }
      at += 2 * count;
      found[name] = (...index) => values[index.reduce((flat, k, axis) => flat * shape[axis] + k, 0)];
      found[name].shape = shape;
    }
    return found;
  };
  const unpacked = new Map();
  const numbers = (name) => {
    if (!unpacked.has(name)) {
      unpacked.set(name, load(name).then(async (content) => ({...content, ...await unpack(content)})));
    }
    return unpacked.get(name);
  };

  // Pieces of a page

  const range = (count) => Array.from({length: count}, (_, i) => i);
  const plain = (text) => String(text).replace(/[&<>"]/g, (one) => `&#${one.charCodeAt(0)};`);
  const short = (number, digits = 2) => String(Number(number.toFixed(digits)));
  const make = (tag, attributes = {}, ...children) => {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name in made && typeof value !== "string") made[name] = value;
      else made.setAttribute(name, value);
    }
    made.append(...children);
    return made;
  };
  let count = 0;

  // A slider over the values that were computed, and a box that takes any number; `nearest` is what is shown for it.
  const dial = (label, values, value, help, on) => {
    const id = `dial-${count += 1}`;
    const nearest = (wanted) => values.reduce((best, one) => (
      Math.abs(Math.log1p(one) - Math.log1p(wanted)) < Math.abs(Math.log1p(best) - Math.log1p(wanted)) ? one : best));
    const slider = make("input", {type: "range", id, min: "0", max: String(values.length - 1), step: "1", title: help});
    const box = make("input", {type: "number", min: String(values[0]), max: String(values[values.length - 1]),
      step: "any", "aria-label": `${label}, any number`, title: help});
    const made = {
      element: make("div", {class: "dial"}, make("label", {for: id, title: help}, label), box, slider),
      label, value: 0, wanted: 0, values,
      set: (wanted) => {
        made.wanted = wanted;
        made.value = nearest(wanted);
        slider.value = values.indexOf(made.value);
        slider.setAttribute("aria-valuetext", made.value);
        if (Number(box.value) !== wanted || box.value === "") box.value = wanted;
      },
    };
    slider.addEventListener("input", () => { made.set(values[slider.value]); on(); });
    box.addEventListener("change", () => {
      const wanted = box.value === "" ? made.value : Number(box.value);
      made.set(Math.min(Math.max(wanted, values[0]), values[values.length - 1]));
      on();
    });
    made.set(value);
    return made;
  };

  const choice = (label, options, value, help, on) => {
    const id = `dial-${count += 1}`;
    const list = make("select", {id, title: help});
    const offer = (options) => { // what was chosen stays, if it is still there
      const chosen = list.value;
      list.replaceChildren(...options.map((one) => make("option", {value: String(one)}, one)));
      list.value = options.includes(chosen) ? chosen : options[0];
    };
    offer(options);
    list.value = value;
    list.addEventListener("change", on);
    return {element: make("div", {class: "dial"}, make("label", {for: id, title: help}, label), list), list, offer};
  };

  // Plays `frames` numbers from 0 on, calls `show(frame)`; `told(frame)` is what the slider says.
  const player = (frames, show, told) => {
    const button = make("button", {type: "button", class: "play"}, "Play");
    const slider = make("input", {type: "range", min: "0", max: String(frames - 1), step: "1", "aria-label": "step"});
    const said = make("output", {class: "step"});
    let timer = 0, last = frames - 1;
    const made = {
      element: make("div", {class: "player"}, button, slider, said), frame: 0, playing: false,
      go: (frame) => {
        made.frame = frame;
        slider.value = frame;
        slider.setAttribute("aria-valuetext", told(frame));
        said.textContent = told(frame);
        show(frame);
      },
      pause: () => {
        clearInterval(timer);
        made.playing = false;
        button.textContent = "Play";
        show(made.frame);
      },
      play: (from = made.frame >= last ? 0 : made.frame, to = frames - 1) => {
        clearInterval(timer);
        [made.playing, last] = [true, to];
        button.textContent = "Pause";
        made.go(from);
        timer = setInterval(() => (made.frame < last ? made.go(made.frame + 1) : made.pause()), 70);
      },
    };
    button.addEventListener("click", () => (made.playing ? made.pause() : made.play()));
    slider.addEventListener("input", () => { made.pause(); made.go(Number(slider.value)); });
    return made;
  };

  // One thumbnail of a sheet, see sa_lab.plots.thumbnails.Atlas.
  const tile = (sheet, i, tall, text) => {
    const scale = tall / sheet.height, made = make("span", {class: "tile", role: "img", "aria-label": text, title: text});
    Object.assign(made.style, {
      width: `${sheet.width * scale}px`, height: `${tall}px`, backgroundImage: `url("${sheet.uri}")`,
      backgroundSize: `${sheet.columns * sheet.width * scale}px ${sheet.rows * tall}px`,
      backgroundPosition: `${-(i % sheet.columns) * sheet.width * scale}px ${-Math.floor(i / sheet.columns) * tall}px`,
    });
    made.dataset.row = i;
    return made;
  };

  // Pictures

  const ink = (colour) => (colour === "#000000" ? "var(--ink)" : colour);
  const mark = (spectrum, [x, y], size, attributes) => (spectrum
    ? `<path d="M0 ${-1.25 * size}L${1.25 * size} 0L0 ${1.25 * size}L${-1.25 * size} 0Z" transform="translate(${x} ${y})" ${attributes}/>`
    : `<circle r="${size}" transform="translate(${x} ${y})" ${attributes}/>`);
  const svg = (width, height, label, content) => (
    `<svg viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" role="img" aria-label="${plain(label)}">`
    + `${content}</svg>`);

  const arrow = ([x, y], [dx, dy], colour, term = "") => {
    const length = Math.hypot(dx, dy), [ux, uy] = [dx / length, dy / length], head = Math.min(9, 0.6 * length);
    const [bx, by] = [x + dx - head * ux, y + dy - head * uy], half = 0.5 * head;
    return `<g class="pull" data-term="${term}" data-at="${[x, y, dx, dy]}" style="--c:${colour}"><path `
      + `d="M${x} ${y}L${bx} ${by}"/><path class="head" `
      + `d="M${x + dx} ${y + dy}L${bx - half * uy} ${by + half * ux}L${bx + half * uy} ${by - half * ux}Z"/></g>`;
  };

  // Curves with their names at their ends; `lines`: [{name, values, colour, dash}].
  const chart = (width, height, title, x, lines, {at, low = 0, high, reference, unit = "", places} = {}) => {
    const all = lines.flatMap((line) => line.values).concat(reference ? reference[0] : []);
    const top = high ?? Math.max(...all, 1e-3) * 1.05, right = Math.min(132, 0.4 * width), left = 34, up = 26, down = 22;
    const wide = width - left - right, tall = height - up - down;
    const across = places || x.map((value) => (value - x[0]) / (x[x.length - 1] - x[0]));
    const px = (i) => left + wide * across[i];
    const py = (value) => up + tall * (1 - (Math.min(Math.max(value, low), top) - low) / (top - low));
    const ticks = [low, (low + top) / 2, top].map((value) => (
      `<text class="tick" x="${left - 5}" y="${py(value) + 4}" text-anchor="end">${short(value, top - low > 3 ? 1 : 2)}</text>`
      + `<path class="rule" d="M${left} ${py(value)}h${wide}"/>`));
    const ends = lines.map((line) => ({...line, y: py(line.values[line.values.length - 1]) + 4}));
    if (reference) ends.push({name: reference[1], colour: "var(--quiet)", y: py(reference[0]) + 4});
    ends.sort((a, b) => a.y - b.y);
    ends.forEach((one, i) => { if (i) one.y = Math.max(one.y, ends[i - 1].y + 14); });
    ends.forEach((one, i) => { one.y = Math.min(one.y, up + tall + 4 - 14 * (ends.length - 1 - i)); });
    const names = ends.map((one) => (
      `<text class="name" x="${left + wide + 6}" y="${one.y}" style="--c:${one.colour}">${plain(one.name)}</text>`));
    const drawn = lines.map((line) => (
      `<path class="curve" style="--c:${line.colour}" stroke-dasharray="${line.dash || "none"}" `
      + `d="M${line.values.map((value, i) => `${short(px(i))} ${short(py(value))}`).join("L")}"/>`));
    const floor = reference ? `<path class="rule floor" d="M${left} ${py(reference[0])}h${wide}"/>` : "";
    const cursor = at === undefined ? "" : `<path class="cursor" d="M${px(at)} ${up}v${tall}"/>` + lines.map((line) => (
      `<circle class="now" r="4" cx="${px(at)}" cy="${py(line.values[at])}" style="--c:${line.colour}"/>`)).join("");
    const feet = [0, x.length - 1].map((i) => (
      `<text class="tick" x="${px(i)}" y="${height - 6}" text-anchor="${i ? "end" : "start"}">${x[i]}${i ? ` ${unit}` : ""}</text>`));
    return svg(width, height, title, `<text class="title" x="0" y="14">${plain(title)}</text>`
      + [...ticks, floor, ...drawn, cursor, ...names, ...feet].join(""));
  };

  const resized = (element, draw) => {
    let width = 0;
    new ResizeObserver(([entry]) => {
      if (Math.abs(entry.contentRect.width - width) < 1) return;
      width = entry.contentRect.width;
      draw();
    }).observe(element);
  };

  const start = () => {
    for (const part of document.querySelectorAll("[data-live]")) {
      const options = JSON.parse(part.dataset.options || "{}");
      builders[part.dataset.live](part, options).catch((error) => {
        part.append(make("p", {class: "missing", role: "alert"}, `This figure cannot be shown: ${error.message}.`));
      });
    }
  };
  document.addEventListener("DOMContentLoaded", start);
  return {
    add, load, numbers, builders, still,
    kit: {range, plain, short, make, dial, choice, player, tile, ink, mark, svg, arrow, chart, resized},
  };
})();
