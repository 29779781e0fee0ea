"use strict";
(() => {
  const section = document.querySelector("section.compared");
  if (!section) return;
  const { element, percent, plain, format, css, plot, figure, fitted } = draw;
  const find = (s) => section.querySelector(s);
  const read = (name) => { const s = find(`script.${name}`); return s ? JSON.parse(s.textContent) : null; };
  const count = (n, word) => `${n.toLocaleString("en")} ${word}${n === 1 ? "" : "s"}`;

  let colours = {};
  const readColours = () => { colours = draw.colours(section, ["bg", "card", "ink", "soft", "line", "accent", "low", "mid", "high", "cold", "kept", "moved", "scaled", "altered", "gone", "new"]); };
  readColours();
  // What is drawn on canvases is drawn again when colours or the width change.
  const drawn = [];

  // ---- tables

  function searchable(grid) {
    const input = grid.querySelector(".gridbar input"), found = grid.querySelector(".found"), kinds = grid.querySelector(".gridbar select");
    if (!input) return;
    const rows = [...grid.querySelectorAll("tbody tr")];
    let texts = null;
    const update = () => {
      const text = input.value.trim().toLowerCase(), kind = kinds?.value ?? "";
      let shown = 0;
      texts ??= rows.map((r) => (r.textContent + " " + [...r.cells].map((c) => c.title).join(" ")).toLowerCase());
      rows.forEach((r, i) => { r.hidden = !texts[i].includes(text) || kind !== "" && !r.querySelector(`.kind-${kind}`); if (!r.hidden) shown++; });
      found.textContent = text || kind ? `${shown.toLocaleString("en")} of ${count(rows.length, found.dataset.what)}` : count(rows.length, found.dataset.what);
    };
    input.addEventListener("input", update);
    kinds?.addEventListener("change", update);
    found.textContent = count(rows.length, found.dataset.what);
  }
  section.querySelectorAll(".grid").forEach(searchable);

  function facts(list) {
    const dl = element("dl");
    for (const [name, value] of list) {
      const dd = element("dd");
      dd.append(element("bdi", value));
      dl.append(element("dt", name), dd);
    }
    return dl;
  }

  // ---- graph

  const review = find("table.review");
  function reviewed() {
    let details = null;
    const rows = new Map([...review.querySelectorAll("tr.op")].map((r) => [Number(r.dataset.row), r]));
    const folds = [...review.querySelectorAll(".unfold")];
    const run = (b) => b.closest("tbody").nextElementSibling;
    const unfold = (b, open) => { b.setAttribute("aria-expanded", open); run(b).hidden = !open; };
    const all = find(".unfoldall"), none = find(".foldall");
    const press = () => {
      all.setAttribute("aria-pressed", folds.every((b) => !run(b).hidden));
      none.setAttribute("aria-pressed", folds.every((b) => run(b).hidden));
    };
    folds.forEach((b) => b.addEventListener("click", () => { unfold(b, run(b).hidden); press(); }));
    all.addEventListener("click", () => { folds.forEach((b) => unfold(b, true)); press(); });
    none.addEventListener("click", () => { folds.forEach((b) => unfold(b, false)); press(); });
    if (!folds.length) find(".foldall").parentNode.hidden = true;

    function side(name, s) {
      const box = element("div");
      const h = element("h4");
      h.append(element("span", name, `ab ab-${name.toLowerCase()}`));
      box.append(h);
      if (!s) { box.append(element("p", "has no such operator", "note")); return box; }
      box.append(facts([["name", s.n], ["place", String(s.p)], ["in the file", s.o], ["output", s.t], ["shape", s.s]]));
      return box;
    }
    function detail(d) {
      const tr = element("tr", undefined, "detail"), td = element("td"), box = element("div", undefined, "detailed");
      td.colSpan = 5;
      // Of B only what differs from A is there.
      box.append(side("A", d.a), side("B", d.a && d.b ? { ...d.a, ...d.b } : d.b));
      if (d.f || d.c) {
        const more = element("div");
        more.append(element("h4", "filters"), facts([["filters", d.f || "all kept"], ...(d.c ? [["channels read", d.c]] : [])]));
        if (d.l) {
          const b = element("button", "show its map");
          b.addEventListener("click", (e) => { e.stopPropagation(); toLayer(d.l - 1); });
          more.append(b);
        }
        box.append(more);
      }
      for (const t of d.t ?? []) {
        const one = element("div");
        one.append(element("h4", t.w), facts([...(t.a !== undefined ? t.b === undefined ? [["A and B", t.a]] : [["A", t.a || "none"], ["B", t.b || "none"]] : []), ...(t.g ? [["agreement", t.g]] : []), ...(t.f ?? [])]));
        box.append(one);
      }
      td.append(box);
      tr.append(td);
      return tr;
    }
    function toggle(row, open) {
      const shown = row.nextElementSibling?.classList.contains("detail") ? row.nextElementSibling : null;
      open ??= !shown;
      row.querySelector(".open").setAttribute("aria-expanded", open);
      if (open && !shown) row.after(detail((details ??= read("review"))[Number(row.dataset.row)]));
      if (!open) shown?.remove();
    }
    review.addEventListener("click", (e) => {
      const row = e.target.closest("tr.op");
      // A text can be marked without opening the row.
      if (row && (e.target.closest(".open") || getSelection().isCollapsed)) toggle(row);
    });

    const input = find(".reviewsearch"), found = find(".reviewfound");
    let texts = null;
    input.addEventListener("input", () => {
      texts ??= new Map([...rows].map(([i, r]) => [i, (r.textContent + " " + [...r.querySelectorAll("bdi")].map((b) => b.title).join(" ")).toLowerCase()]));
      const text = input.value.trim().toLowerCase();
      review.querySelectorAll("tr.detail").forEach((r) => toggle(r.previousElementSibling, false));
      let shown = 0;
      rows.forEach((r, i) => { r.hidden = !texts.get(i).includes(text); if (!r.hidden) shown++; });
      review.querySelectorAll(".fold").forEach((t) => { t.hidden = text !== ""; });
      folds.forEach((b) => { run(b).hidden = text === "" && b.getAttribute("aria-expanded") !== "true"; });
      found.textContent = text ? `${shown.toLocaleString("en")} of ${count(rows.size, "operator")}` : "";
    });

    function go(i) {
      const row = rows.get(i);
      if (!row) return;
      if (input.value) { input.value = ""; input.dispatchEvent(new Event("input")); }
      const body = row.closest("tbody");
      if (body.hidden) { unfold(body.previousElementSibling.querySelector(".unfold"), true); press(); }
      review.querySelectorAll("tr.at").forEach((r) => r.classList.remove("at"));
      row.classList.add("at");
      toggle(row, true);
      row.scrollIntoView({ block: "center" });
      row.querySelector(".open").focus({ preventScroll: true });
    }
    section.addEventListener("click", (e) => {
      const b = e.target.closest(".goto");
      if (b) go(Number(b.dataset.to));
    });
  }

  // ---- filters

  const kinds = ["kept", "moved", "scaled", "changed", "gone", "new"];
  const tint = (kind) => colours[kind === 3 ? "altered" : kinds[kind]];
  let toLayer = () => {};

  // A layer's filters from both sides: what they are, have become and were.
  function both(l) {
    const m = { a: l.a, b: l.b, kindA: new Uint8Array(l.a), to: new Int32Array(l.a), kindB: new Uint8Array(l.b), from: new Int32Array(l.b).fill(-1), one: new Map(), new: new Map() };
    for (let i = 0; i < l.a; i++) m.to[i] = i;
    for (const f of l.f) {
      const [kind, from, to] = f;
      if (from >= 0) { m.kindA[from] = kind; m.to[from] = to; m.one.set(from, f); } else m.new.set(to, f);
    }
    for (let i = 0; i < l.a; i++) {
      if (m.to[i] >= 0 && m.to[i] < l.b) { m.from[m.to[i]] = i; m.kindB[m.to[i]] = m.kindA[i]; } else m.to[i] = -1;
    }
    m.new.forEach((f, j) => { m.kindB[j] = f[0]; });
    return m;
  }

  function told(m, at) {
    const a = at.b ? m.from[at.i] : at.i;
    const f = a >= 0 ? m.one.get(a) : m.new.get(at.i);
    const kind = at.b ? m.kindB[at.i] : m.kindA[at.i];
    let text = a < 0 ? `B ${at.i}: new` : m.to[a] < 0 ? `A ${a}: gone` : `A ${a} \u2192 B ${m.to[a]}: ${kinds[kind]}`;
    if (!f) return `${text}, in place`;
    const [, , , similarity, by, flags] = f;
    if (similarity !== null) text += `, similarity ${Number(similarity.toFixed(4))}${kind === 4 || kind === 5 ? " to the nearest" : ""}`;
    if (by !== null) text += `, scale ${plain(by)}`;
    if (flags & 1) text += ", another bias";
    if (flags & 2) text += ", unclear: another partner is as likely";
    return text;
  }

  function filterMaps() {
    const data = read("maps");
    if (!data) return;
    const readout = find(".filtered"), hint = readout.textContent;
    const boxes = [...section.querySelectorAll(".fl")];
    const maps = new Map();
    const left = 16, tall = 12, gap = 24;

    function drawStrip(canvas, l, at) {
      const width = Math.max(160, canvas.parentNode.clientWidth);
      maps.has(l) || maps.set(l, both(l));
      const m = maps.get(l);
      const { g, dpr } = draw.prepare(canvas, width, 2 * tall + gap, colours.bg);
      const room = (width - left - 2) * dpr, most = Math.max(1, l.a, l.b);
      const cell = Math.min(14 * dpr, room / most), x0 = left * dpr, h = tall * dpr, yB = (tall + gap) * dpr;
      const X = (i) => x0 + i * cell;
      const wide = Math.max(1, cell >= 3 * dpr ? Math.round(cell - dpr) : Math.ceil(cell));
      g.fillStyle = css(colours.soft);
      g.textBaseline = "middle";
      g.fillText("A", 2 * dpr, h / 2);
      g.fillText("B", 2 * dpr, yB + h / 2);
      if (l.cut) { g.fillText("left out of this page", x0, h + gap / 2 * dpr); return; }
      // Lines from each filter to what it has become, but for those in place.
      const lines = [];
      for (let i = 0; i < l.a; i++) if (m.to[i] >= 0 && (m.to[i] !== i || m.kindA[i] > 0)) lines.push(i);
      g.globalAlpha = Math.max(0.12, Math.min(0.65, 100 / lines.length));
      g.lineWidth = dpr;
      for (const i of lines) {
        g.strokeStyle = css(tint(m.kindA[i]));
        g.beginPath();
        g.moveTo(X(i) + wide / 2, h);
        g.lineTo(X(m.to[i]) + wide / 2, yB);
        g.stroke();
      }
      g.globalAlpha = 1;
      const cells = (n, kindOf, y, similar) => {
        // The rarer kinds are drawn last, so that none is lost where several
        // filters share a pixel.
        for (let kind = 0; kind < kinds.length; kind++) {
          g.fillStyle = g.strokeStyle = css(tint(kind));
          for (let i = 0; i < n; i++) {
            if (kindOf[i] !== kind) continue;
            const x = Math.round(X(i));
            if (kind >= 4 && wide >= 4 * dpr) {
              g.lineWidth = dpr;
              g.strokeRect(x + dpr / 2, y + dpr / 2, wide - dpr, h - dpr);
              g.beginPath();
              if (kind === 4) { g.moveTo(x, y + h); g.lineTo(x + wide, y); } else { g.moveTo(x + wide / 2, y + 3 * dpr); g.lineTo(x + wide / 2, y + h - 3 * dpr); g.moveTo(x + 2 * dpr, y + h / 2); g.lineTo(x + wide - 2 * dpr, y + h / 2); }
              g.stroke();
              continue;
            }
            const part = kind === 3 ? Math.max(0.3, similar(i) ?? 1) : 1;
            g.fillRect(x, y + h * (1 - part), wide, h * part);
          }
        }
      };
      const similarity = (i) => m.one.get(i)?.[3];
      cells(l.a, m.kindA, 0, similarity);
      cells(l.b, m.kindB, yB, (j) => similarity(m.from[j]));
      if (at) {
        g.strokeStyle = css(colours.ink);
        g.lineWidth = 2 * dpr;
        const a = at.b ? m.from[at.i] : at.i, b = a >= 0 ? m.to[a] : at.i;
        g.beginPath();
        if (a >= 0) g.rect(X(a) - dpr, dpr, wide + 2 * dpr, h - dpr);
        if (b >= 0) g.rect(X(b) - dpr, yB, wide + 2 * dpr, h - dpr);
        if (a >= 0 && b >= 0) { g.moveTo(X(a) + wide / 2, h); g.lineTo(X(b) + wide / 2, yB); }
        g.stroke();
      }
      canvas.at = { x0, cell, dpr, m };
      canvas.dataset.grid = JSON.stringify({ x0, cell, dpr, h, yB, wide });
    }

    function strip(box) {
      const canvas = box.querySelector("canvas.strip");
      const l = data[Number(box.dataset.layer)];
      const name = box.querySelector(".lname bdi").textContent;
      let at = null;
      const again = () => { if (!box.hidden) drawStrip(canvas, l, at); };
      const say = (next) => {
        at = next;
        again();
        readout.textContent = at ? `${name}: ${told(maps.get(l), at)}` : hint;
      };
      const pick = (e) => {
        if (!canvas.at) return;
        const r = canvas.getBoundingClientRect(), inB = e.clientY - r.top > (2 * tall + gap) / 2;
        const i = Math.floor(((e.clientX - r.left) * canvas.at.dpr - canvas.at.x0) / canvas.at.cell);
        const next = i >= 0 && i < (inB ? l.b : l.a) ? { i, b: inB } : null;
        if (next?.i !== at?.i || next?.b !== at?.b || !next !== !at) say(next);
      };
      if (canvas && !l.cut) {
        canvas.addEventListener("pointermove", pick);
        canvas.addEventListener("pointerdown", pick);
        canvas.addEventListener("pointerleave", () => { if (document.activeElement !== canvas) say(null); });
        canvas.addEventListener("blur", () => say(null));
        canvas.addEventListener("keydown", (e) => {
          const by = { ArrowLeft: -1, ArrowRight: 1, PageUp: -16, PageDown: 16 }[e.key];
          const side = { ArrowUp: false, ArrowDown: true }[e.key];
          if (by === undefined && side === undefined || e.ctrlKey || e.metaKey || e.altKey) return;
          e.preventDefault();
          let next = at ?? { i: -1, b: false };
          if (by !== undefined) next = { i: next.i + by, b: next.b };
          // The other strip is entered at the partner.
          else if (side !== next.b) {
            const m = maps.get(l), partner = next.i < 0 ? 0 : side ? m.to[next.i] : m.from[next.i];
            next = { i: partner >= 0 ? partner : next.i, b: side };
          }
          const n = next.b ? l.b : l.a;
          if (n) say({ i: Math.min(n - 1, Math.max(0, next.i)), b: next.b });
        });
      }
      const list = box.querySelector(".lname"), place = box.querySelector(".flist");
      list.addEventListener("click", () => {
        place.hidden = !place.hidden;
        list.setAttribute("aria-expanded", !place.hidden);
        if (!place.hidden && !place.firstChild) listed(place, l);
      });
      return canvas ? again : () => {};
    }

    // The filters of a layer as a table.
    function listed(place, l) {
      maps.has(l) || maps.set(l, both(l));
      const m = maps.get(l);
      if (l.cut || !l.a && !l.b) { place.append(element("p", "The filters are left out of this page; CSV and JSON hold all.", "note")); return; }
      const grid = element("div", undefined, "grid"), bar = element("div", undefined, "gridbar");
      const label = element("label", undefined, "search"), input = element("input"), found = element("output", "", "found");
      input.type = "search";
      input.placeholder = "search";
      label.append(element("span", "Search the table", "hide"), input);
      found.dataset.what = "filter";
      bar.append(label, found);
      const box = element("div", undefined, "scroll tall"), table = element("table", undefined, "sortable");
      const head = table.createTHead().insertRow();
      [["A", 1], ["B", 1], ["kind", 0], ["similarity", 1], ["scale", 1], ["note", 0]].forEach(([t, num]) => { const th = element("th", undefined, num ? "num" : ""); th.append(element("button", t)); head.append(th); });
      const body = table.createTBody();
      const number = (row, v, text) => { const td = row.insertCell(); td.className = v === null || v < 0 && text === undefined ? "num unknown" : "num"; td.textContent = v === null || v < 0 && text === undefined ? "-" : text ?? v; if (td.className === "num") td.dataset.v = v; };
      const add = (from, to, kind, f) => {
        const row = body.insertRow();
        number(row, from);
        number(row, to);
        const k = row.insertCell();
        k.append(element("i", undefined, `key k-${kinds[kind]}`), kinds[kind]);
        number(row, f?.[3] ?? null, f && f[3] !== null ? f[3].toFixed(4) : undefined);
        number(row, f?.[4] ?? null, f && f[4] !== null ? plain(f[4]) : undefined);
        row.insertCell().textContent = [f && f[5] & 1 ? "another bias" : "", f && f[5] & 2 ? "unclear" : ""].filter(Boolean).join(", ");
      };
      for (let i = 0; i < l.a; i++) add(i, m.to[i], m.kindA[i], m.one.get(i));
      for (const f of [...m.new.values()]) add(-1, f[2], f[0], f);
      box.append(table);
      grid.append(bar, box);
      place.append(grid);
      table.dispatchEvent(new CustomEvent("sortable", { bubbles: true }));
      searchable(grid);
    }

    // Strips are drawn when they come into sight, and all of them to be printed.
    const seen = new Set();
    const strips = new Map(boxes.map((b) => [b, strip(b)]));
    const watch = new IntersectionObserver((list) => list.forEach((e) => { if (e.isIntersecting && !seen.has(e.target)) { seen.add(e.target); strips.get(e.target)(); } }), { rootMargin: "400px" });
    boxes.forEach((b) => {
      // So that nothing moves when they are.
      const canvas = b.querySelector("canvas.strip");
      if (canvas) canvas.style.height = `${2 * tall + gap}px`;
      watch.observe(b);
    });
    drawn.push(() => seen.forEach((b) => strips.get(b)()));
    addEventListener("beforeprint", () => strips.forEach((f, b) => { seen.add(b); f(); }));
    const showQuiet = () => boxes.forEach((b) => { b.hidden = false; });
    find(".showquiet")?.addEventListener("click", (e) => { showQuiet(); e.target.parentNode.remove(); });
    if (boxes.every((b) => b.hidden) && boxes.length <= 12) find(".showquiet")?.click();
    toLayer = (i) => {
      const b = boxes[i];
      if (!b) return;
      if (b.hidden) find(".showquiet")?.click();
      b.scrollIntoView({ block: "center" });
      b.querySelector("canvas, .lname").focus({ preventScroll: true });
    };
  }

  // ---- activations

  function heatMap() {
    const data = read("likeness");
    if (!data) return;
    const canvas = find("canvas.heat"), readout = find(".heated");
    const n = data.cka.length ? data.a.length : 0, w = data.cka[0]?.length ?? 0;
    const rows = Math.min(n, data.cka.length);
    const pairs = new Map(data.layers.map((l) => [`${l.a},${l.b}`, l]));
    let which = "cka", grid = null, at = null;
    const hint = rows ? "Point at a cell for its value." : "";
    const keys = find(".heatkeys");
    if (!rows || !w) {
      find(".heatside").hidden = true;
    } else {
      keys.append(...[["wide", "0 to 1"], ["pair", "layer and its counterpart"], ["missing", "not defined: a layer is constant or not finite"]].map(([k, text]) => {
        const s = element("span");
        s.append(element("i", undefined, `key ${k}`), text);
        return s;
      }));
    }
    function drawHeat() {
      if (!rows || !w) return;
      const box = canvas.parentNode, width = Math.max(200, box.clientWidth);
      const dpr = Math.max(1, devicePixelRatio || 1);
      // Names stand beside cells that are tall enough for them.
      const fits = (side) => Math.floor((width - side - 8) / w);
      const named = fits(108) >= 12 && fits(108) * rows < 4000;
      const left = named ? 108 : 34, top = named ? 96 : 30;
      let size = Math.min(named ? 40 : 24, Math.max(2, fits(left)));
      size = Math.max(2, size);
      const { g } = draw.prepare(canvas, Math.max(width, left + size * w + 8), top + size * rows + 8, colours.card);
      const side = size * dpr, x0 = left * dpr, y0 = top * dpr;
      const shades = draw.scale(colours.card, colours.low, colours.mid, colours.high);
      const rgb = (v) => { const c = shades[Math.round(255 * Math.min(1, Math.max(0, v)))]; return [c & 255, c >> 8 & 255, c >> 16 & 255]; };
      const m = data[which];
      for (let i = 0; i < rows; i++) {
        for (let j = 0; j < w; j++) {
          const v = m[i]?.[j] ?? null, x = x0 + j * side, y = y0 + i * side;
          if (v === null) {
            g.strokeStyle = css(colours.soft);
            g.lineWidth = dpr;
            g.beginPath();
            g.moveTo(x, y + side);
            g.lineTo(x + side, y);
            g.stroke();
            continue;
          }
          const c = rgb(v);
          g.fillStyle = css(c);
          g.fillRect(x, y, side, side);
          if (size >= 30) {
            g.fillStyle = 0.3 * c[0] + 0.59 * c[1] + 0.11 * c[2] > 140 ? "#111" : "#fff";
            g.textAlign = "center";
            g.textBaseline = "middle";
            g.fillText(v.toFixed(2), x + side / 2, y + side / 2);
          }
        }
      }
      g.strokeStyle = css(colours.line);
      g.lineWidth = dpr;
      g.strokeRect(x0 - 0.5, y0 - 0.5, side * w + 1, side * rows + 1);
      g.strokeStyle = g.fillStyle = css(colours.altered);
      for (const l of data.layers) {
        if (l.a >= rows || l.b >= w) continue;
        if (size >= 5) { g.lineWidth = (size >= 12 ? 2 : 1) * dpr; g.strokeRect(x0 + l.b * side + g.lineWidth / 2, y0 + l.a * side + g.lineWidth / 2, side - g.lineWidth, side - g.lineWidth); } else { g.fillRect(x0 + (l.b + 0.3) * side, y0 + (l.a + 0.3) * side, Math.max(1, side * 0.4), Math.max(1, side * 0.4)); }
      }
      g.fillStyle = css(colours.soft);
      g.textBaseline = "middle";
      if (named) {
        g.textAlign = "right";
        for (let i = 0; i < rows; i++) g.fillText(fitted(g, data.a[i].name, (left - 10) * dpr), x0 - 5 * dpr, y0 + (i + 0.5) * side);
        g.textAlign = "left";
        for (let j = 0; j < w; j++) {
          g.save();
          g.translate(x0 + (j + 0.5) * side, y0 - 5 * dpr);
          g.rotate(-Math.PI / 2.6);
          g.fillText(fitted(g, data.b[j].name, 86 * dpr), 0, 0);
          g.restore();
        }
      } else {
        const every = Math.max(1, Math.ceil(26 / size));
        g.textAlign = "right";
        for (let i = 0; i < rows; i += every) g.fillText(i + 1, x0 - 4 * dpr, y0 + (i + 0.5) * side);
        g.textAlign = "center";
        for (let j = 0; j < w; j += every) g.fillText(j + 1, x0 + (j + 0.5) * side, y0 - 9 * dpr);
      }
      g.textAlign = "left";
      g.fillStyle = css(colours.ink);
      g.fillText("A \u2193  B \u2192", 5 * dpr, 11 * dpr);
      if (at) {
        for (const [c, w] of [[colours.card, 5], [colours.ink, 2]]) {
          g.strokeStyle = css(c);
          g.lineWidth = w * dpr;
          g.strokeRect(x0 + at.j * side, y0 + at.i * side, side, side);
        }
      }
      grid = { x0, y0, side, dpr };
      canvas.dataset.grid = JSON.stringify({ ...grid, rows, columns: w });
    }
    const say = (next) => {
      at = next;
      drawHeat();
      if (!at) { readout.textContent = hint; return; }
      const a = data.a[at.i], b = data.b[at.j];
      const value = (k) => { const v = data[k][at.i]?.[at.j] ?? null; return v === null ? "not defined" : v.toFixed(4); };
      const why = [["A", a], ["B", b]].filter(([, t]) => t.note).map(([k, t]) => `${k} has ${t.note}`).join(", ");
      const pair = pairs.get(`${at.i},${at.j}`);
      readout.textContent = `A ${a.full} and B ${b.full}: CKA ${value("cka")}, debiased ${value("debiased")}${why ? `; ${why}` : ""}${pair ? `; counterparts${pair.rel === null ? "" : `, rel L2 ${plain(pair.rel)}`}` : ""}`;
    };
    const pick = (e) => {
      if (!grid) return;
      const r = canvas.getBoundingClientRect();
      const j = Math.floor(((e.clientX - r.left) * grid.dpr - grid.x0) / grid.side), i = Math.floor(((e.clientY - r.top) * grid.dpr - grid.y0) / grid.side);
      const inside = i >= 0 && j >= 0 && i < rows && j < w;
      if (inside ? at?.i !== i || at?.j !== j : at) say(inside ? { i, j } : null);
    };
    canvas.addEventListener("pointermove", pick);
    canvas.addEventListener("pointerdown", pick);
    canvas.addEventListener("pointerleave", () => { if (at && document.activeElement !== canvas) say(null); });
    canvas.addEventListener("keydown", (e) => {
      const by = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[e.key];
      if (!by || e.ctrlKey || e.metaKey || e.altKey) return;
      e.preventDefault();
      const from = at ?? { i: -by[0], j: -by[1] };
      say({ i: Math.min(rows - 1, Math.max(0, from.i + by[0])), j: Math.min(w - 1, Math.max(0, from.j + by[1])) });
    });
    const buttons = [...section.querySelectorAll("[data-cka]")];
    buttons.forEach((b) => b.addEventListener("click", () => {
      which = b.dataset.cka;
      buttons.forEach((o) => o.setAttribute("aria-pressed", o === b));
      drawHeat();
    }));
    drawHeat();
    readout.textContent = hint;
    drawn.push(drawHeat);

    // How far paired layers are apart, along the depth.
    const list = data.layers.filter((l) => data.a[l.a]);
    const box = find(".plots.distance"), told = find(".distanced");
    if (!list.some((l) => l.rel !== null)) {
      find(".distside").hidden = true;
      return;
    }
    if (find(".heatside").hidden || find(".distside").hidden) find(".alike").classList.add("alone");
    function drawDistance() {
      box.replaceChildren(figure("distance", "rel L2 of the activations of paired layers, logarithmic"));
      const parting = data.parting ?? -1;
      const rest = parting >= 0 ? `The first that parts is ${data.a[data.layers[parting].a].full}.` : "No layer's activations part.";
      const hover = (i) => {
        s?.point(i);
        told.textContent = i < 0 ? `Point at a layer for its value. ${rest}` : `${i + 1}. ${data.a[list[i].a].full}: rel L2 ${format(list[i].rel)}${list[i].parts ? ", parts" : ""}${i === parting ? ", the first" : ""}`;
      };
      let s = null;
      s = plot(box.firstChild, { title: "distance of paired layers", height: 250, xs: list.map((_, i) => i), names: list.map((l) => data.a[l.a].name), log: true, hover,
        lines: data.tolerance > 0 ? [{ name: "tolerance", value: data.tolerance }] : [], mark: parting >= 0 ? parting : undefined,
        series: [{ values: list.map((l) => l.rel), on: parting }] });
      hover(-1);
    }
    drawDistance();
    drawn.push(drawDistance);
  }

  // ---- answers

  function pictures() {
    const thumbs = read("thumbs");
    if (!thumbs) return;
    const show = (c) => {
      watch.unobserve(c);
      draw.thumbnail(c, thumbs, c.dataset.sample, `sample ${c.dataset.sample}`);
    };
    const watch = new IntersectionObserver((list) => list.forEach((e) => { if (e.isIntersecting) show(e.target); }), { rootMargin: "300px" });
    section.querySelectorAll("canvas.thumb").forEach((c) => watch.observe(c));
    addEventListener("beforeprint", () => section.querySelectorAll("canvas.thumb:not([data-drawn])").forEach(show));
  }

  // ---- statistics

  function curves() {
    const data = read("bothstats"), box = find(".curves");
    if (!data || !box || !data.measures.length) return;
    const readout = find(".curved"), shown = new Set(data.measures.filter((m) => m.shown).map((m) => m.key));
    function drawCurves() {
      const list = data.measures.filter((m) => shown.has(m.key)), made = [];
      const hover = (i) => {
        made.forEach((s) => s.point(i));
        readout.replaceChildren();
        if (i < 0) {
          readout.append(element("i", undefined, "key line-a"), "A, round ", element("i", undefined, "key line-b"), "B, square and dashed. Point at a layer for its values.");
          return;
        }
        readout.textContent = `${i + 1}. ${data.full[i]}: ` + list.map((m) => `${m.name} ${format(m.a[i], m.share)} \u2192 ${format(m.b[i], m.share)}`).join(", ");
      };
      box.replaceChildren(...list.map((m) => figure(m.name, m.title)));
      list.forEach((m, k) => made.push(plot(box.children[k], { title: `${m.name} of both models by layer`, height: 190, xs: data.names.map((_, i) => i), names: data.names, share: m.share, hover, series: [{ values: m.a }, { values: m.b, other: true }] })));
      hover(-1);
    }
    find(".chips").replaceChildren(...data.measures.map((m) => {
      const b = element("button", m.name);
      b.title = m.title;
      b.setAttribute("aria-pressed", shown.has(m.key));
      b.addEventListener("click", () => {
        shown.has(m.key) ? shown.delete(m.key) : shown.add(m.key);
        b.setAttribute("aria-pressed", shown.has(m.key));
        drawCurves();
      });
      return b;
    }));
    drawCurves();
    drawn.push(drawCurves);
  }

  if (review) reviewed();
  filterMaps();
  heatMap();
  pictures();
  curves();
  section.dataset.ready = "1";

  function redraw() {
    readColours();
    drawn.forEach((f) => f());
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
})();
