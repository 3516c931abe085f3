// Slice viewer of the mean maps: three planes, a crosshair, and the value under it. Data: report/viewer.py.
(function () {
  "use strict";
  const get = function (name) { return document.getElementById("viewer-" + name); };
  const root = document.getElementById("viewer");
  if (!root) { return; }
  const data = JSON.parse(get("data").textContent);
  if (!data.maps.length) { return; }
  const PLANES = {
    sagittal: { normal: 0, across: 1, up: 2 },
    coronal: { normal: 1, across: 0, up: 2 },
    axial: { normal: 2, across: 0, up: 1 }
  };
  const AXES = ["x", "y", "z"], MINUS = "\u2212";
  const low = data.grid.origin;
  const high = low.map(function (start, axis) {
    const box = data.underlay || data.grid;
    return start + box.step * (box.shape[axis] - 1);
  });
  const at = [0, -20, 10]; // mm
  let map = null, threshold = 0; // a share of the end of the colour scale

  // --- volumes ---------------------------------------------------------------------------------------------------

  function bytes(volume) {
    if (!volume.bytes) {
      const text = atob(volume.data);
      volume.bytes = new Uint8Array(text.length);
      for (let i = 0; i < text.length; i += 1) { volume.bytes[i] = text.charCodeAt(i); }
    }
    return volume.bytes;
  }

  // Trilinear value of the bytes at a place in mm; the outermost value holds beyond the grid.
  const base = [0, 0, 0], part = [0, 0, 0]; // kept between calls: a slice asks ten thousands of times
  function sample(values, grid, place) {
    for (let axis = 0; axis < 3; axis += 1) {
      const last = grid.shape[axis] - 1;
      const position = Math.min(Math.max((place[axis] - grid.origin[axis]) / grid.step, 0), last);
      base[axis] = Math.min(Math.floor(position), last - 1);
      part[axis] = position - base[axis];
    }
    const ny = grid.shape[1], nz = grid.shape[2];
    let total = 0;
    for (let corner = 0; corner < 8; corner += 1) {
      const dx = corner & 1, dy = (corner >> 1) & 1, dz = corner >> 2;
      const weight = (dx ? part[0] : 1 - part[0]) * (dy ? part[1] : 1 - part[1]) * (dz ? part[2] : 1 - part[2]);
      if (weight) { total += weight * values[((base[0] + dx) * ny + base[1] + dy) * nz + base[2] + dz]; }
    }
    return total;
  }

  function inside(place) {
    const box = data.underlay;
    if (!box) { return true; }
    let index = 0;
    for (let axis = 0; axis < 3; axis += 1) {
      const step = Math.round((place[axis] - box.origin[axis]) / box.step);
      if (step < 0 || step >= box.shape[axis]) { return false; }
      index = index * box.shape[axis] + step;
    }
    return bytes(box)[index] > 0;
  }

  // Value of the map in its own unit: years per cell, or 0 to 1.
  function valueAt(place) { return valueOf(sample(bytes(map), data.grid, place)); }

  function valueOf(level) {
    return map.kind === "signed" ? (level - 127) / 127 * map.scale : level / 255 * map.scale;
  }

  // --- colours ---------------------------------------------------------------------------------------------------

  function scaleOf(kind) {
    const scale = data.kinds[kind];
    if (!scale.table) {
      scale.table = scale.colours.map(function (hex) {
        return [1, 3, 5].map(function (i) { return parseInt(hex.slice(i, i + 2), 16); });
      });
    }
    return scale.table;
  }

  function colour(value) {
    const table = scaleOf(map.kind), share = value / map.limit;
    const place = Math.min(Math.max(map.kind === "signed" ? (share + 1) / 2 : share, 0), 1) * (table.length - 1);
    const first = Math.min(Math.floor(place), table.length - 2), part = place - first;
    return table[first].map(function (start, i) { return start + part * (table[first + 1][i] - start); });
  }

  // Small values stay see-through, as in the figures, so that the anatomy remains visible.
  function opacity(value) {
    const strength = Math.min(Math.abs(value) / map.limit, 1);
    return strength < threshold ? 0 : 0.12 + 0.68 * Math.pow(strength, 0.6);
  }

  // Red, green, blue and opacity of every level of the map.
  function levels() {
    const table = new Float32Array(4 * 256);
    for (let level = 0; level < 256; level += 1) {
      table.set(colour(valueOf(level)).concat(opacity(valueOf(level))), 4 * level);
    }
    return table;
  }

  // --- drawing ---------------------------------------------------------------------------------------------------

  function drawPlane(name, table) {
    const plane = PLANES[name], canvas = get(name), context = canvas.getContext("2d");
    const width = high[plane.across] - low[plane.across] + 1, height = high[plane.up] - low[plane.up] + 1;
    canvas.width = width; // one pixel is one millimetre
    canvas.height = height;
    const picture = context.createImageData(width, height), place = at.slice();
    for (let row = 0; row < height; row += 1) {
      place[plane.up] = high[plane.up] - row;
      for (let column = 0; column < width; column += 1) {
        place[plane.across] = low[plane.across] + column;
        const grey = data.underlay ? sample(bytes(data.underlay), data.underlay, place) : 0;
        const brain = inside(place), level = brain ? 4 * Math.round(sample(bytes(map), data.grid, place)) : 0;
        const share = brain ? table[level + 3] : 0, start = 4 * (row * width + column);
        for (let i = 0; i < 3; i += 1) { picture.data[start + i] = share * table[level + i] + (1 - share) * grey; }
        picture.data[start + 3] = 255;
      }
    }
    context.putImageData(picture, 0, 0);
    context.strokeStyle = "rgba(0, 229, 255, 0.8)";
    context.beginPath();
    const column = at[plane.across] - low[plane.across] + 0.5, row = high[plane.up] - at[plane.up] + 0.5;
    context.moveTo(column, 0); context.lineTo(column, height);
    context.moveTo(0, row); context.lineTo(width, row);
    context.stroke();
    const where = AXES[plane.normal] + " = " + signed(at[plane.normal], 0) + " mm";
    get(name + "-text").textContent = where;
    canvas.setAttribute("aria-label", name + " slice, " + where + ". Arrow keys move the crosshair.");
  }

  function drawBar() {
    const context = get("bar").getContext("2d"), from = map.kind === "signed" ? -map.limit : 0;
    for (let i = 0; i < 256; i += 1) {
      const value = from + (map.limit - from) * i / 255, hidden = Math.abs(value) < threshold * map.limit;
      context.fillStyle = hidden ? "#c8ced5" : "rgb(" + colour(value).map(Math.round).join(",") + ")";
      context.fillRect(i, 0, 1, 1);
    }
    get("low").textContent = map.kind === "signed" ? signed(-map.limit, 2) : "0";
    get("high").textContent = signed(map.limit, 2) + (map.kind === "signed" ? " years per cell" : "");
  }

  function signed(value, places) {
    const text = Math.abs(value).toFixed(places);
    const mark = Number(text) === 0 ? "" : value < 0 ? MINUS : places && map.kind === "signed" ? "+" : "";
    return mark + text;
  }

  function tell() {
    const value = valueAt(at), unit = map.kind === "signed" ? " years per cell" : " (0 to 1)";
    const place = AXES.map(function (axis, i) { return axis + " " + signed(at[i], 0); }).join(", ");
    let said = "outside the brain";
    if (inside(at)) {
      said = signed(value, 3) + unit + (Math.abs(value) < threshold * map.limit ? ", hidden by the threshold" : "");
    }
    get("value").textContent = "Crosshair at " + place + " mm: " + said + ".";
    const who = map.name + ", n = " + map.n + (map.empty && map.kind === "mean" ? " (" + map.empty + " maps without a positive value)" : "");
    get("who").textContent = map.model + ", " + who + ": " + data.kinds[map.kind].label +
      (map.cell ? "; one cell is " + map.cell + " mm wide." : ".");
    get("threshold-text").textContent = threshold ? signed(threshold * map.limit, 2).replace("+", "") : "off";
    const state = [map.model, map.subset, map.kind].concat(at, [threshold]);
    get("link").setAttribute("href", "#viewer=" + state.map(encodeURIComponent).join(","));
  }

  function draw() {
    const table = levels();
    Object.keys(PLANES).forEach(function (name) { drawPlane(name, table); });
    drawBar();
    AXES.forEach(function (axis, i) {
      get(axis).value = at[i];
      get(axis + "-text").textContent = signed(at[i], 0) + " mm";
    });
    get("threshold").value = threshold;
    tell();
  }

  let waiting = false;
  function drawSoon() { // once a frame, however fast a slider moves
    if (waiting) { return; } else { waiting = true; }
    requestAnimationFrame(function () { waiting = false; draw(); });
  }

  // --- what is shown ---------------------------------------------------------------------------------------------

  function maps(wanted) {
    return data.maps.filter(function (one) {
      return Object.keys(wanted).every(function (key) { return one[key] === wanted[key]; });
    });
  }

  // The map that agrees with most of what was asked for; the model counts most, then the people, then the kind.
  function choose(model, subset, kind) {
    map = maps({ model: model, subset: subset, kind: kind })[0] || maps({ model: model, subset: subset })[0] ||
      maps({ model: model, kind: kind })[0] || maps({ model: model })[0] || data.maps[0];
    fill("model", data.maps, function (one) { return [one.model, one.model, ""]; });
    fill("subset", maps({ model: map.model }), function (one) { return [one.subset, one.name, one.family]; });
    fill("kind", maps({ model: map.model, subset: map.subset }), function (one) {
      return [one.kind, data.kinds[one.kind].label, ""];
    });
    drawSoon();
  }

  function fill(name, from, option) {
    const select = get(name), seen = {};
    select.textContent = "";
    from.map(option).forEach(function (made) {
      if (seen["o" + made[0]]) { return; }
      seen["o" + made[0]] = true;
      let parent = select;
      if (made[2] && made[2] !== made[1] && made[0] !== "all") {
        parent = seen["g" + made[2]];
        if (!parent) {
          parent = seen["g" + made[2]] = document.createElement("optgroup");
          parent.label = made[2];
          select.appendChild(parent);
        }
      }
      parent.appendChild(new Option(made[1], made[0]));
    });
    select.value = map[name];
  }

  function move(axis, value) {
    at[axis] = Math.round(Math.min(Math.max(value, low[axis]), high[axis]));
    drawSoon();
  }

  function toPeak() {
    let best = -1, found = at.slice();
    const shape = data.grid.shape, place = [0, 0, 0];
    for (let i = 0; i < shape[0]; i += 1) {
      for (let j = 0; j < shape[1]; j += 1) {
        for (let k = 0; k < shape[2]; k += 1) {
          [i, j, k].forEach(function (index, axis) { place[axis] = low[axis] + index * data.grid.step; });
          const size = inside(place) ? Math.abs(valueAt(place)) : -1;
          if (size > best) { best = size; found = place.slice(); }
        }
      }
    }
    found.forEach(function (value, axis) { move(axis, value); });
  }

  function fromAddress() {
    const match = /^#viewer=(.+)$/.exec(window.location.hash);
    if (!match) { return false; }
    const parts = match[1].split(",").map(decodeURIComponent);
    [3, 4, 5].forEach(function (place, axis) {
      if (parts[place] && isFinite(parts[place])) { move(axis, Number(parts[place])); }
    });
    if (parts[6] && isFinite(parts[6])) { threshold = Math.min(Math.max(Number(parts[6]), 0), 0.95); }
    choose(parts[0], parts[1], parts[2]);
    root.scrollIntoView();
    return true;
  }

  // --- events ----------------------------------------------------------------------------------------------------

  ["model", "subset", "kind"].forEach(function (name) {
    get(name).addEventListener("change", function () { choose(get("model").value, get("subset").value, get("kind").value); });
  });
  get("threshold").addEventListener("input", function () { threshold = Number(get("threshold").value); drawSoon(); });
  get("peak").addEventListener("click", toPeak);
  AXES.forEach(function (axis, i) {
    const slider = get(axis);
    slider.min = low[i];
    slider.max = high[i];
    slider.addEventListener("input", function () { move(i, Number(slider.value)); });
  });
  Object.keys(PLANES).forEach(function (name) {
    const plane = PLANES[name], canvas = get(name);
    function point(event) {
      const box = canvas.getBoundingClientRect();
      move(plane.across, low[plane.across] + (event.clientX - box.left) / box.width * canvas.width - 0.5);
      move(plane.up, high[plane.up] - (event.clientY - box.top) / box.height * canvas.height + 0.5);
    }
    canvas.addEventListener("click", point);
    canvas.addEventListener("pointermove", function (event) {
      if (event.buttons === 1 && event.pointerType === "mouse") { point(event); }
    });
    canvas.addEventListener("keydown", function (event) {
      const steps = {
        ArrowLeft: [plane.across, -1], ArrowRight: [plane.across, 1], ArrowUp: [plane.up, 1],
        ArrowDown: [plane.up, -1], PageUp: [plane.normal, 1], PageDown: [plane.normal, -1]
      }[event.key];
      if (!steps) { return; }
      event.preventDefault();
      move(steps[0], at[steps[0]] + steps[1] * (event.shiftKey ? 10 : 2));
    });
  });
  window.addEventListener("hashchange", fromAddress);
  root.hidden = false;
  if (!fromAddress()) { choose(data.maps[0].model, "all", "mean"); }
}());
