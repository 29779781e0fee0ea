"use strict";
(() => {
  const section = document.querySelector("section.measured");
  if (!section?.querySelector(".explorer")) return;
  const { element, percent, plain, format, css, scale, pixel, bytes, plot, figure, fitted, spread, blit } = draw;
  const find = (s) => section.querySelector(s);
  const data = JSON.parse(find("script.stats").textContent);
  const K = data.labels.length;
  // Browsers from before 2023 show the curves and tables alone.
  const able = typeof DecompressionStream === "function" && typeof OffscreenCanvas === "function";
  const theta = Math.fround(data.theta);

  // Colours come from the style sheet, light or dark.
  let colours = {};
  let scales = {};
  function makeScales() {
    colours = draw.colours(section, ["card", "ink", "soft", "line", "accent", "low", "mid", "high", "below", "cold", "inside", "internal", "external"]);
    scales = {
      below: scale(colours.card, colours.below),
      above: scale(colours.low, colours.mid, colours.high),
      cold: scale(colours.card, colours.cold),
    };
  }
  // A field as a share of the largest: what passes the threshold has other colours.
  function shade(ratio, passes) {
    const level = (t) => Math.round(255 * Math.min(1, Math.max(0, t)));
    if (passes) return scales.above[level((ratio - data.theta) / (1 - data.theta))];
    if (ratio < 0) return scales.cold[level(-ratio)];
    return scales.below[level(data.theta > 0 ? ratio / data.theta : ratio)];
  }

  async function inflate(base64) {
    const stream = new Blob([bytes(base64)]).stream().pipeThrough(new DecompressionStream("deflate-raw"));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  }

  // Layers are read when they are looked at.
  const layers = [];
  function layer(i) {
    layers[i] ??= (async () => {
      const script = find(`script.filters[data-layer="${i}"]`);
      const l = JSON.parse(script.textContent);
      const next = script.nextElementSibling;
      l.fields = next?.classList.contains("fields") ? next : null;
      const packed = await inflate(l.ratios);
      const view = new DataView(packed.buffer);
      l.ratios = new Int16Array(packed.length / 2);
      for (let n = 0; n < l.ratios.length; n++) l.ratios[n] = view.getInt16(2 * n, true);
      l.count = l.max.length;
      // in[f*K+j] tells that label j is in a cluster of filter f.
      l.in = new Uint8Array(l.count * K);
      l.labels = l.clusters.map((cs, f) => {
        const all = cs.flat().sort((a, b) => a - b);
        all.forEach((j) => { l.in[f * K + j] = 1; });
        return all;
      });
      l.at = new Map((l.drawn ?? []).map((f, n) => [f, n]));
      return l;
    })();
    return layers[i];
  }

  // The field matrix of a filter, row by row, and which fields pass the threshold:
  // from factors as afcc.FieldMatrix forms it, else from codes.
  async function matrix(l, f) {
    const n = l.at.get(f);
    if (n === undefined) return null;
    if (typeof l.fields.packed === "undefined") l.fields.packed = JSON.parse(l.fields.textContent);
    const raw = await inflate(l.fields.packed[n]);
    const v = new Float32Array(K * K), ones = new Uint8Array(K * K);
    const max = Math.fround(l.max[f]);
    if (l.codes) {
      const low = l.low[n];
      let top = max;
      if (max <= 0) { top = low; for (const c of raw) if (c === 127) { top = max; break; } }
      const limit = max > 0 ? data.theta * max : top;
      for (let i = 0; i < v.length; i++) {
        const c = raw[i];
        ones[i] = c >> 7;
        v[i] = c < 128 ? low + (limit - low) * c / 127 : limit + (max - limit) * (c - 128) / 127;
      }
      return { v, ones, max, about: (max - low) / 254 };
    }
    const P = raw.length / 8 / K, all = 2 * K * P;
    const number = new DataView(new ArrayBuffer(4));
    const w = new Float64Array(all);
    for (let i = 0; i < all; i++) {
      for (let b = 0; b < 4; b++) number.setUint8(b, raw[b * all + i]);
      w[i] = number.getFloat32(0, true);
    }
    for (let i = 0; i < K; i++) {
      const a = (K + i) * P;
      for (let j = 0; j < K; j++) {
        let sum = 0;
        for (let p = 0; p < P; p++) sum += w[a + p] * w[j * P + p];
        v[i * K + j] = sum;
        ones[i * K + j] = max > 0 && Math.fround(v[i * K + j] / max) > theta ? 1 : 0;
      }
    }
    return { v, ones, max, about: 0 };
  }

  // ---- curves

  const shownMeasures = new Set(data.measures.filter((m) => m.shown).map((m) => m.key));
  let current = { layer: 0, filter: 0, order: "largest", view: "near", byLabel: -1 };

  const names = data.layers.map((l) => l.name), own = data.layers.map((l) => !!l.own);
  // Taps inside layers stand beside the line, unless there are no others.
  const apart = data.layers.map((l) => !!l.inner && data.layers.some((m) => !m.inner));
  const plots = find(".plots:not(.sweeps)"), plotted = find(".plotted");

  function drawCurves() {
    const drawn = [], list = data.measures.filter((m) => shownMeasures.has(m.key));
    const hover = (i) => {
      drawn.forEach((s) => s.point(i));
      if (i < 0) { plotted.textContent = "Point at a layer for its values, click on it to see its filters." + (list.some((m) => m.falls) ? " Orange: a fall where the paper reports a rise." : "") + (apart.includes(true) ? " Pale: inside a layer." : "") + (own.includes(true) ? " Violet: the head is the model's own classifier." : ""); return; }
      plotted.textContent = `${i + 1}. ${data.layers[i].full}: ` + list.map((m) => `${m.name} ${format(m.values[i], m.share)}`).join(", ");
    };
    plots.replaceChildren(...list.map((m) => figure(m.name, m.title)));
    list.forEach((m, n) => {
      drawn.push(plot(plots.children[n], { title: `${m.name} by layer`, height: 190, xs: names.map((_, i) => i), names, share: m.share, lines: m.lines, hover,
        series: [{ values: m.values, falls: m.falls, own, apart, on: current.layer }], click: (i) => chooseLayer(i, true) }));
    });
    hover(-1);
  }

  function drawChips() {
    find(".chips").replaceChildren(...data.measures.map((m) => {
      const b = element("button", m.name);
      b.title = m.title;
      b.setAttribute("aria-pressed", shownMeasures.has(m.key));
      b.addEventListener("click", () => {
        if (shownMeasures.has(m.key)) shownMeasures.delete(m.key); else shownMeasures.add(m.key);
        b.setAttribute("aria-pressed", shownMeasures.has(m.key));
        drawCurves();
      });
      return b;
    }));
  }

  function drawSweep() {
    if (!data.sweep) return;
    find(".swept").hidden = false;
    find(".sweepnote").textContent = `${names[current.layer]} against theta; the other layers are thin, the dashed line is the theta of this page, ${plain(data.theta)}`;
    const box = find(".sweeps"), read = find(".sweeping"), drawn = [];
    const hover = (i) => {
      drawn.forEach((s) => s.point(i));
      read.textContent = i < 0 ? "Point at a threshold for its values." : `theta ${plain(data.thetas[i])}: ` + data.sweep.map((m) => `${m.name} ${format(m.values[current.layer][i])}`).join(", ");
    };
    box.replaceChildren(...data.sweep.map((m) => figure(m.name, m.title)));
    data.sweep.forEach((m, n) => {
      const series = m.values.map((values, i) => ({ values, faint: i !== current.layer }));
      series.push(...series.splice(current.layer, 1));
      drawn.push(plot(box.children[n], { title: `${m.name} against theta`, height: 150, xs: data.thetas, mark: data.theta, series, hover }));
    });
    hover(-1);
  }

  // ---- map of filters by labels

  const map = find("canvas.map"), mark = find(".rowmark");
  let rows = [], grid = null;

  function compareLists(a, b) {
    for (let i = 0; i < Math.min(a.length, b.length); i++) if (a[i] !== b[i]) return a[i] - b[i];
    return a.length - b.length;
  }

  // Filters without a cluster come last in every order but that by number.
  function sorted(l) {
    const list = [...Array(l.count).keys()];
    const by = current.order;
    if (current.byLabel >= 0) return list.sort((a, b) => l.ratios[b * K + current.byLabel] - l.ratios[a * K + current.byLabel] || a - b);
    if (by === "number") return list;
    const none = l.labels.map((s) => s.length === 0 ? 1 : 0);
    const largest = l.clusters.map((cs) => cs.reduce((m, c) => c.length > m.length ? c : m, []));
    const strongest = l.labels.map((_, f) => { let m = 0; for (let j = 1; j < K; j++) if (l.ratios[f * K + j] > l.ratios[f * K + m]) m = j; return m; });
    const order = {
      first: (a, b) => compareLists(l.labels[a], l.labels[b]),
      largest: (a, b) => compareLists(largest[a], largest[b]) || compareLists(l.labels[a], l.labels[b]),
      strongest: (a, b) => strongest[a] - strongest[b] || l.ratios[b * K + strongest[b]] - l.ratios[a * K + strongest[a]],
      d: (a, b) => l.labels[b].length - l.labels[a].length || l.clusters[b].length - l.clusters[a].length,
    }[by];
    return list.sort((a, b) => none[a] - none[b] || order(a, b) || a - b);
  }

  const prepare = (canvas, w, h) => draw.prepare(canvas, w, h, colours.card);

  function drawMap(l) {
    const box = find(".mapbox");
    const dpr = Math.max(1, devicePixelRatio || 1);
    const width = Math.max(200, box.clientWidth);
    const tall = Math.max(360, Math.min(620, innerHeight - 180));
    let y = spread(l.count, Math.round(tall * dpr));
    y.size = Math.min(y.size, Math.round(18 * dpr));
    const numbered = y.size >= 11 * dpr;
    const left = numbered ? 34 : 10;
    let x = spread(K, Math.round((width - left - 10) * dpr));
    x.size = Math.min(x.size, Math.round(30 * dpr));
    const named = x.size >= 11 * dpr;
    const top = named ? 78 : 8;
    const { g } = prepare(map, width, Math.ceil(y.size * y.cells / dpr) + top + 8);
    const x0 = Math.round(left * dpr), y0 = Math.round(top * dpr);
    const image = new ImageData(x.cells, y.cells), px = new Uint32Array(image.data.buffer);
    for (let r = 0; r < y.cells; r++) {
      for (let c = 0; c < x.cells; c++) {
        let best = -32768, inside = 0, has = false;
        for (let k = r * y.per; k < Math.min(l.count, (r + 1) * y.per); k++) {
          const f = rows[k];
          for (let j = c * x.per; j < Math.min(K, (c + 1) * x.per); j++) {
            const v = l.ratios[f * K + j];
            if (v > best) { best = v; inside = l.in[f * K + j]; has = true; }
          }
        }
        px[r * x.cells + c] = has ? shade(best / 1e4, inside) : pixel(colours.card);
      }
    }
    blit(g, image, x0, y0, x.size, y.size);
    g.strokeStyle = css(colours.line);
    g.strokeRect(x0 - 0.5, y0 - 0.5, x.size * x.cells + 1, y.size * y.cells + 1);
    g.fillStyle = css(colours.soft);
    if (named) {
      for (let j = 0; j < K; j++) {
        g.save();
        g.translate(x0 + (j + 0.65) * x.size, y0 - 5 * dpr);
        g.rotate(-Math.PI / 3);
        g.fillText(fitted(g, data.labels[j], 78 * dpr), 0, 0);
        g.restore();
      }
    }
    if (numbered) {
      g.textAlign = "right";
      for (let k = 0; k < l.count; k++) g.fillText(rows[k], x0 - 5 * dpr, y0 + (k + 0.5) * y.size + 4 * dpr);
    }
    grid = { x0, y0, x, y, dpr };
    map.dataset.grid = JSON.stringify(grid);
    markRow();
  }

  function markRow() {
    const k = rows.indexOf(current.filter);
    mark.hidden = k < 0 || !grid;
    if (mark.hidden) return;
    const { y0, y, dpr, x0, x } = grid;
    const h = Math.max(y.size / dpr, 3);
    mark.style.top = `${(y0 + (Math.floor(k / y.per) + 0.5) * y.size) / dpr - h / 2}px`;
    mark.style.height = `${h}px`;
    mark.style.left = `${x0 / dpr}px`;
    mark.style.width = `${x.size * x.cells / dpr}px`;
  }

  function cellAt(e, l) {
    if (!grid) return null;
    const r = map.getBoundingClientRect(), { x0, y0, x, y, dpr } = grid;
    const c = Math.floor(((e.clientX - r.left) * dpr - x0) / x.size), k = Math.floor(((e.clientY - r.top) * dpr - y0) / y.size);
    if (c < 0 || c >= x.cells || k < 0 || k >= y.cells) return null;
    // Of several in one pixel the strongest is meant.
    let best = null;
    for (let n = k * y.per; n < Math.min(l.count, (k + 1) * y.per); n++) {
      for (let j = c * x.per; j < Math.min(K, (c + 1) * x.per); j++) {
        const v = l.ratios[rows[n] * K + j];
        if (!best || v > best.v) best = { f: rows[n], j, v };
      }
    }
    return best;
  }

  const mapped = find(".mapped");
  const mapHint = "Rows are filters, columns labels. Click on a row, or use the arrow keys.";

  function keys(box, list) {
    box.replaceChildren(...list.map(([className, text]) => {
      const s = element("span");
      s.append(element("i", undefined, "key " + className), text);
      return s;
    }));
  }

  function legend() {
    keys(find(".mapkeys"), [["ramp", `in the label set: diagonal field above ${plain(data.theta)} of the filter's largest, up to 1`], ["under", "below"], ["neg", "negative"]]);
  }

  // ---- one filter

  const field = find("canvas.field"), clipped = find("canvas.clipped"), fielded = find(".fielded");
  const crosses = [...section.querySelectorAll(".cross")];
  const fieldHint = "Point at a field for its labels and its value.";
  let shown = null; // what the two canvases show

  // The labels in the order of a view, and how many of them belong to clusters.
  function permuted(l, f, m) {
    const own = l.clusters[f].flat();
    if (current.view === "labels") return [...Array(K).keys()];
    const mine = new Set(own);
    const others = [...Array(K).keys()].filter((j) => !mine.has(j));
    if (current.view === "clusters" || !m) return [...own, ...others];
    // Close: beside the clusters, the labels with most noise with them.
    const n = Math.min(K, Math.max(12, Math.min(40, own.length + 6)));
    const weight = new Map(others.map((j) => {
      let w = 0;
      own.forEach((i) => { w += m.ones[i * K + j] + m.ones[j * K + i]; });
      return [j, w + Math.max(0, m.v[j * K + j]) / (m.max || 1)];
    }));
    const next = [...others].sort((a, b) => weight.get(b) - weight.get(a) || a - b).slice(0, Math.max(0, n - own.length));
    return [...own.slice(0, n), ...next.sort((a, b) => a - b)];
  }

  function drawMatrices() {
    if (!shown) return;
    const { l, f, m } = shown;
    const order = permuted(l, f, m);
    const n = order.length;
    const cluster = new Int32Array(K).fill(-1);
    l.clusters[f].forEach((c, i) => c.forEach((j) => { cluster[j] = i; }));
    const width = Math.max(180, field.parentElement.clientWidth);
    const dpr = Math.max(1, devicePixelRatio || 1);
    // Names stand at the axes where they are legible.
    const named = n <= 48 && (width - 90) / n >= 8;
    let margin = 8;
    if (named) {
      const probe = field.getContext("2d");
      probe.font = "11px system-ui, sans-serif";
      margin = Math.min(width * 0.3, 12 + Math.max(...order.map((j) => probe.measureText(data.labels[j]).width)));
    }
    const room = width - margin - 4;
    const at = spread(n, Math.round(room * dpr));
    at.size = Math.min(at.size, Math.round(34 * dpr));
    const classes = (i, j) => !m.ones[i * K + j] ? 0 : cluster[i] >= 0 && cluster[i] === cluster[j] ? 3 : cluster[j] >= 0 ? 2 : 1;
    const kinds = [pixel(colours.card), pixel(colours.external), pixel(colours.internal), pixel(colours.inside)];
    const a = new ImageData(at.cells, at.cells), b = new ImageData(at.cells, at.cells);
    const pa = new Uint32Array(a.data.buffer), pb = new Uint32Array(b.data.buffer);
    const by = m.max > 0 ? m.max : Math.max(1e-30, ...[m.v.reduce((s, v) => Math.max(s, Math.abs(v)), 0)]);
    for (let r = 0; r < at.cells; r++) {
      for (let c = 0; c < at.cells; c++) {
        let best = -Infinity, passes = 0, kind = 0;
        for (let p = r * at.per; p < Math.min(n, (r + 1) * at.per); p++) {
          for (let q = c * at.per; q < Math.min(n, (c + 1) * at.per); q++) {
            const i = order[p], j = order[q], v = m.v[i * K + j];
            if (v > best || best === -Infinity) { best = v; passes = m.ones[i * K + j]; }
            kind = Math.max(kind, classes(i, j));
          }
        }
        pa[r * at.cells + c] = shade(best / by, passes);
        pb[r * at.cells + c] = kinds[kind];
      }
    }
    const x0 = Math.round(margin * dpr), y0 = x0, side = at.size * at.cells;
    [[field, a], [clipped, b]].forEach(([canvas, image]) => {
      const { g } = prepare(canvas, width, Math.ceil((y0 + side) / dpr) + 4);
      blit(g, image, x0, y0, at.size, at.size);
      g.lineWidth = Math.max(1, Math.round(dpr));
      g.strokeStyle = css(colours.line);
      g.strokeRect(x0 - 0.5, y0 - 0.5, side + 1, side + 1);
      const unit = at.size / at.per;
      if (current.view === "labels") {
        // Ticks mark the filter's labels.
        g.fillStyle = css(colours.inside);
        order.forEach((j, p) => {
          if (cluster[j] < 0) return;
          g.fillRect(x0 + p * unit, y0 - 6 * dpr, Math.max(dpr, unit), 4 * dpr);
          g.fillRect(x0 - 6 * dpr, y0 + p * unit, 4 * dpr, Math.max(dpr, unit));
        });
      } else {
        g.strokeStyle = css(colours.ink);
        let p = 0;
        l.clusters[f].forEach((c) => {
          if (p + c.length <= n) g.strokeRect(Math.round(x0 + p * unit) - 0.5, Math.round(y0 + p * unit) - 0.5, Math.round(c.length * unit) + 1, Math.round(c.length * unit) + 1);
          p += c.length;
        });
      }
      if (named) {
        g.textBaseline = "middle";
        order.forEach((j, p) => {
          g.fillStyle = css(cluster[j] >= 0 ? colours.ink : colours.soft);
          const text = fitted(g, data.labels[j], x0 - 8 * dpr);
          g.textAlign = "right";
          g.fillText(text, x0 - 5 * dpr, y0 + (p + 0.5) * at.size);
          g.save();
          g.translate(x0 + (p + 0.5) * at.size, y0 - 5 * dpr);
          g.rotate(-Math.PI / 2);
          g.textAlign = "left";
          g.fillText(text, 0, 0);
          g.restore();
        });
      }
      canvas.dataset.grid = JSON.stringify({ x0, y0, size: at.size, per: at.per, cells: at.cells, order });
    });
    shown.grid = { x0, y0, at, order, n, dpr, cluster, classes };
    find(".clipnote").textContent = `above ${plain(data.theta)} of the largest`;
    keys(find(".fieldkeys"), [["block", "in a cluster"], ["internal", "internal noise: in a column of the filter's labels"], ["external", "external noise"], ["ramp", `field above ${plain(data.theta)}`], ["under", "below"], ["neg", "negative"]]);
  }

  function pointMatrix(canvas, e) {
    if (!shown?.grid) return;
    const { x0, y0, at, order, n, dpr, cluster, classes } = shown.grid, { m } = shown;
    const r = canvas.getBoundingClientRect();
    const q = Math.floor(((e.clientX - r.left) * dpr - x0) / at.size), p = Math.floor(((e.clientY - r.top) * dpr - y0) / at.size);
    const outside = q < 0 || p < 0 || q >= at.cells || p >= at.cells;
    crosses.forEach((c) => {
      c.hidden = outside;
      c.style.left = `${(x0 + q * at.size) / dpr}px`;
      c.style.top = `${(y0 + p * at.size) / dpr}px`;
      c.style.width = c.style.height = `${at.size / dpr}px`;
    });
    if (outside) { fielded.textContent = fieldHint; return; }
    let i = order[p * at.per], j = order[q * at.per], kind = classes(i, j);
    for (let a = p * at.per; a < Math.min(n, (p + 1) * at.per); a++) {
      for (let b = q * at.per; b < Math.min(n, (q + 1) * at.per); b++) {
        const k = classes(order[a], order[b]);
        if (k > kind || k === kind && m.v[order[a] * K + order[b]] > m.v[i * K + j]) { i = order[a]; j = order[b]; kind = k; }
      }
    }
    const v = m.v[i * K + j];
    const what = ["below the threshold", "external noise", "internal noise", `in cluster ${cluster[i] + 1}`][kind];
    fielded.textContent = `images of ${data.labels[i]} \u2192 output ${data.labels[j]}: ${m.max > 0 ? `${(v / m.max).toFixed(3)} of the largest field` : "field"} (${v.toPrecision(3)}${m.about ? ` \u00b1 ${m.about.toPrecision(1)}` : ""}), ${what}`;
  }

  function tile(name, value, note) {
    const li = element("li");
    li.append(element("span", name), element("b", value));
    const small = element("small", note);
    small.title = note;
    li.append(small);
    return li;
  }

  function chip(l, f, j) {
    const v = l.ratios[f * K + j];
    const li = element("button", undefined, "chip");
    const box = element("i");
    box.style.width = `${Math.round(100 * Math.min(1, Math.max(0, v / 1e4)))}%`;
    const name = element("bdi", data.labels[j]);
    li.append(box, name, element("small", (v / 1e4).toFixed(2)));
    li.title = `${data.labels[j]}: ${(v / 1e4).toFixed(3)} of the largest field; sorts the map by this label`;
    li.addEventListener("click", () => { find(".bylabel").value = data.labels[j]; byLabel(j); });
    return li;
  }

  let asked = 0;
  async function showFilter(f) {
    const ask = ++asked;
    delete section.dataset.ready;
    const l = await layer(current.layer);
    if (ask !== asked) return;
    current.filter = f;
    markRow();
    find(".one h3").textContent = `Filter ${f} of ${names[current.layer]}`;
    find(".one h3").title = data.layers[current.layer].full;
    const input = find(".number");
    input.max = l.count - 1;
    input.value = f;
    const [ones, noise, internal, external] = l.counts[f], cs = l.clusters[f], d = l.labels[f].length;
    const tiles = [
      tile("N_c", cs.length, cs.length === 1 ? "cluster" : "clusters"),
      tile("C_s", cs.length ? plain(d / cs.length) : "-", "labels in a cluster"),
      tile("d", d, d === 1 ? "label" : "labels"),
      tile("n", noise.toLocaleString("en"), `${internal.toLocaleString("en")} internal, ${external.toLocaleString("en")} external`),
      tile("largest field", plain(l.max[f]), `${ones.toLocaleString("en")} of ${(K * K).toLocaleString("en")} pass`),
    ];
    if (l.single) {
      const [all, own] = l.single[f];
      tiles.push(tile("alone", all === null ? "-" : percent(all), own === null ? "top-1 accuracy" : `top-1; ${percent(own)} of its labels`));
    }
    if (l.stable) {
      const [jaccard, phi] = l.stable[f];
      tiles.push(tile("stability", jaccard === null ? "-" : plain(jaccard), `Jaccard, ${l.runs} runs` + (phi === null ? "" : `; Phi ${plain(phi)}`)));
    }
    find(".figures").replaceChildren(...tiles);
    drawClusters(l, f);
    drawTop(l, f);
    const m = await matrix(l, f);
    if (ask !== asked) return;
    const absent = find(".absent");
    find(".matrices").hidden = find(".fieldkeys").hidden = !m;
    absent.hidden = !!m;
    find(".segments").hidden = fielded.hidden = !m;
    shown = m ? { l, f, m } : null;
    fielded.textContent = fieldHint;
    crosses.forEach((x) => { x.hidden = true; });
    if (m) drawMatrices();
    else if (l.nonfinite?.includes(f)) absent.textContent = "A field of this filter is not finite, so it has no clipped matrix.";
    else if (!l.drawn) absent.textContent = "The page holds no field matrices of this layer.";
    else absent.replaceChildren(`The field matrix of this filter is not in the page; it holds those of the ${l.drawn.length.toLocaleString("en")} filters with the most labels of ${l.count.toLocaleString("en")}. To draw it: `, element("code", `--plot filter:${data.layers[current.layer].plot}/${f}.png`));
    section.dataset.ready = `${current.layer}/${f}`;
  }

  function drawClusters(l, f) {
    const cs = l.clusters[f], list = find(".clusters");
    const many = 400;
    find(".clusterhead").textContent = cs.length ? (cs.length === 1 ? "Its cluster" : `Its ${cs.length} clusters`) + ", labels by falling field" : "";
    if (!cs.length) {
      const why = l.nonfinite?.includes(f) ? "a field is not finite" : l.max[f] <= 0 ? "no field is above 0" : "no diagonal field passes the threshold";
      list.replaceChildren(element("li", `No cluster: ${why}.`, "note"));
      return;
    }
    let left = many;
    list.replaceChildren(...cs.map((c, i) => {
      const li = element("li");
      const head = element("span", `${i + 1}`, "which");
      head.title = `cluster ${i + 1}: ${c.length} ${c.length === 1 ? "label" : "labels"}`;
      li.append(head);
      const ordered = [...c].sort((a, b) => l.ratios[f * K + b] - l.ratios[f * K + a] || a - b);
      ordered.slice(0, Math.max(0, left)).forEach((j) => li.append(chip(l, f, j)));
      if (ordered.length > left) li.append(element("small", `and ${ordered.length - Math.max(0, left)} more`));
      left -= c.length;
      if (l.clustered?.[f]?.[i] !== undefined && l.clustered[f][i] !== null) {
        const s = element("small", `stability ${plain(l.clustered[f][i])}`);
        s.title = "mean over the repeated measurements of the best Jaccard index with one of their clusters: 0.75 and more is stable, less than 0.5 dissolved";
        li.append(s);
      }
      return li;
    }));
  }

  let thumbs = null;
  function drawTop(l, f) {
    const box = find(".topped");
    box.hidden = !l.top?.[f]?.length;
    if (box.hidden) return;
    const pictured = find("script.thumbs");
    thumbs ??= pictured ? JSON.parse(pictured.textContent) : {};
    find(".top").replaceChildren(...l.top[f].map(([sample, label, activation]) => {
      const li = element("li");
      const canvas = element("canvas");
      canvas.width = canvas.height = 48;
      draw.thumbnail(canvas, thumbs, sample, data.labels[label] ?? String(label));
      if (!pictured) canvas.hidden = true;
      li.className = l.in[f * K + label] ? "in" : "";
      li.title = `sample ${sample}, label ${data.labels[label] ?? label}${li.className ? ", one of the filter's labels" : ""}; mean activation ${activation === null ? "not finite" : plain(activation)}`;
      li.append(canvas, element("bdi", data.labels[label] ?? String(label)));
      return li;
    }));
  }

  // ---- choosing

  async function drawLayer(keep) {
    const index = current.layer, l = await layer(index);
    if (index !== current.layer) return;
    rows = sorted(l);
    drawMap(l);
    if (!keep) await showFilter(current.byLabel >= 0 ? rows[0] : clearest(l));
  }

  // The filter that a layer is opened with: of those that are drawn the one whose
  // ones stand best in blocks, several blocks if there are any.
  function clearest(l) {
    const score = (f) => {
      const cs = l.clusters[f];
      const inside = cs.reduce((s, c) => s + c.length ** 2, 0);
      return Math.min(cs.length, 2) * Math.min(l.labels[f].length, 6) * inside / (l.counts[f][0] || 1);
    };
    const list = l.drawn?.length ? [...l.drawn].sort((a, b) => a - b) : rows;
    return list.reduce((best, f) => score(f) > score(best) ? f : best, list[0]);
  }

  async function chooseLayer(i, scroll) {
    if (i < 0 || i >= data.layers.length) return;
    current.layer = i;
    delete section.dataset.ready;
    find("select.layer").value = i;
    section.querySelectorAll(".layertable tr.on").forEach((r) => r.classList.remove("on"));
    const row = section.querySelector(`.layertable tr[data-l="${i}"]`);
    if (row) {
      row.classList.add("on");
      // In a long table only the table is scrolled, not the page.
      const box = find(".layertable .scroll");
      if (row.offsetTop < box.scrollTop + 30 || row.offsetTop > box.scrollTop + box.clientHeight - 30) box.scrollTop = row.offsetTop - box.clientHeight / 2;
    }
    drawCurves();
    drawSweep();
    if (!able) return;
    mapped.textContent = mapHint;
    if (scroll) find("#filters").scrollIntoView({ block: "start" });
    await drawLayer(false);
  }

  function byLabel(j) {
    current.byLabel = j;
    find("select.order").disabled = j >= 0;
    drawLayer(true);
  }

  async function move(by) {
    const l = await layer(current.layer);
    const k = rows.indexOf(current.filter) + by;
    if (k >= 0 && k < l.count) showFilter(rows[k]);
  }

  section.querySelectorAll(".layertable tbody tr").forEach((r, i) => {
    r.dataset.l = i;
    r.addEventListener("click", () => chooseLayer(i, true));
  });
  find("select.layer").addEventListener("change", (e) => chooseLayer(Number(e.target.value)));
  section.querySelectorAll(".step").forEach((b) => b.addEventListener("click", () => chooseLayer(current.layer + Number(b.dataset.step))));
  section.querySelectorAll(".fstep").forEach((b) => b.addEventListener("click", () => move(Number(b.dataset.step))));
  find("select.order").addEventListener("change", (e) => { current.order = e.target.value; drawLayer(true); });
  find("#labels").append(...data.labels.map((n) => { const o = element("option"); o.value = n; return o; }));
  find(".bylabel").addEventListener("input", (e) => {
    const text = e.target.value.trim();
    const j = data.labels.indexOf(text);
    if (j >= 0 || text === "") byLabel(j);
  });
  find(".number").addEventListener("change", async (e) => {
    const l = await layer(current.layer), f = Math.trunc(Number(e.target.value));
    if (f >= 0 && f < l.count) showFilter(f);
    else e.target.value = current.filter;
  });
  const segments = [...section.querySelectorAll(".segments button")];
  const press = () => segments.forEach((b) => b.setAttribute("aria-pressed", b.dataset.view === current.view));
  segments.forEach((b) => b.addEventListener("click", () => { current.view = b.dataset.view; press(); drawMatrices(); }));
  map.addEventListener("pointermove", async (e) => {
    const l = await layer(current.layer), c = cellAt(e, l);
    mapped.textContent = c ? `filter ${c.f}, ${data.labels[c.j]}: ${c.v === -32768 ? "no clipped matrix" : `${(c.v / 1e4).toFixed(3)} of the largest field${l.in[c.f * K + c.j] ? ", in its label set" : ""}`}` : mapHint;
  });
  map.addEventListener("pointerleave", () => { mapped.textContent = mapHint; });
  map.addEventListener("click", async (e) => { const c = cellAt(e, await layer(current.layer)); if (c) showFilter(c.f); });
  map.addEventListener("keydown", (e) => {
    const by = { ArrowUp: -1, ArrowDown: 1, PageUp: -20, PageDown: 20 }[e.key];
    if (!by || e.ctrlKey || e.metaKey || e.altKey) return;
    e.preventDefault();
    move(by);
  });
  [field, clipped].forEach((c) => {
    c.addEventListener("pointermove", (e) => pointMatrix(c, e));
    c.addEventListener("pointerleave", () => { fielded.textContent = fieldHint; crosses.forEach((x) => { x.hidden = true; }); });
  });

  function redraw() {
    makeScales();
    drawCurves();
    drawSweep();
    if (able) layer(current.layer).then((l) => { drawMap(l); drawMatrices(); });
  }
  let width = 0, waiting = 0;
  new ResizeObserver(() => {
    if (section.clientWidth === width) return;
    const first = width === 0;
    width = section.clientWidth;
    if (first) return;
    cancelAnimationFrame(waiting);
    waiting = requestAnimationFrame(redraw);
  }).observe(section);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);

  makeScales();
  press();
  drawChips();
  legend();
  if (!able) find(".explorer").replaceChildren(element("p", "This browser is too old to show filters: it cannot unpack them.", "warning"));
  // The last layer has the clearest clusters.
  chooseLayer(data.layers.length - 1, false);
})();
