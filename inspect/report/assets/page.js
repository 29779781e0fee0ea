"use strict";
(() => {
  const collator = new Intl.Collator("en", { numeric: true });

  // Tables: a click on a header sorts, numbers from the largest at first, what
  // is unknown last either way.
  function sortable(table) {
    const heads = [...table.tHead.rows[0].cells];
    const body = table.tBodies[0];
    heads.forEach((th, column) => {
      const button = th.querySelector("button");
      if (!button) return;
      if (!th.hasAttribute("aria-sort")) th.setAttribute("aria-sort", "none");
      button.addEventListener("click", () => {
        const numeric = th.classList.contains("num");
        const was = th.getAttribute("aria-sort");
        const down = was === "none" ? numeric : was === "ascending";
        heads.forEach((h) => h.querySelector("button") && h.setAttribute("aria-sort", "none"));
        th.setAttribute("aria-sort", down ? "descending" : "ascending");
        const rows = [...body.rows].map((row, i) => {
          const cell = row.cells[column];
          const unknown = cell.classList.contains("unknown");
          const raw = cell.dataset.v ?? cell.textContent;
          const n = Number(raw);
          return { row, i, unknown, key: !unknown && raw !== "" && !Number.isNaN(n) ? n : raw };
        });
        rows.sort((a, b) => {
          if (a.unknown !== b.unknown) return a.unknown ? 1 : -1;
          let c;
          if (typeof a.key === "number" && typeof b.key === "number") c = a.key - b.key;
          else c = collator.compare(String(a.key), String(b.key));
          return (down ? -c : c) || a.i - b.i;
        });
        body.append(...rows.map((r) => r.row));
      });
    });
  }

  function element(tag, text, className) {
    const e = document.createElement(tag);
    if (text !== undefined) e.textContent = text;
    if (className) e.className = className;
    return e;
  }

  const count = (n, word) => `${n.toLocaleString("en")} ${word}${n === 1 ? "" : "s"}`;

  // The drawing: a window (x, y and units per pixel) on the current view.
  class Drawing {
    constructor(section) {
      this.section = section;
      this.svg = section.querySelector(".net");
      this.panel = section.querySelector(".panel");
      this.data = JSON.parse(section.querySelector(".data").textContent);
      this.views = [...this.svg.querySelectorAll(".view")];
      this.nodes = new Map();
      this.views.forEach((v) => v.querySelectorAll(".n").forEach((n) => {
        if (!n.dataset.n) return;
        if (!this.nodes.has(n.dataset.n)) this.nodes.set(n.dataset.n, []);
        this.nodes.get(n.dataset.n).push({ view: v, g: n });
      }));
      this.back = section.querySelector(".back");
      this.parts = new Map(this.views.map((v) => [v, this.measure(v)]));
      this.show(this.views[0]);
      this.listen();
      new ResizeObserver(() => this.resized()).observe(this.svg);
    }

    // A browser lays out every text of a drawing whenever the window on it moves,
    // so of a large drawing only what is in sight is left in.
    measure(view) {
      const parts = [];
      if (view.children.length < 400) return parts;
      for (const e of view.children) {
        const n = (e.getAttribute("transform") ?? e.getAttribute("d")).match(/-?[\d.]+/g).map(Number);
        const top = n[1], bottom = e.tagName === "g" ? top + 60 : n[n.length - 1];
        parts.push({ e, top: Math.min(top, bottom), bottom: Math.max(top, bottom), shown: true });
      }
      this.cull(parts, 0, 2000);
      return parts;
    }

    cull(parts, top, bottom) {
      for (const p of parts) {
        const shown = p.bottom >= top && p.top <= bottom;
        if (shown === p.shown) continue;
        p.shown = shown;
        p.e.style.display = shown ? "" : "none";
      }
    }

    size() { const r = this.svg.getBoundingClientRect(); return { w: Math.max(r.width, 1), h: Math.max(r.height, 1), left: r.left, top: r.top }; }

    show(view) {
      this.view = view;
      this.w = Number(view.dataset.w);
      this.h = Number(view.dataset.h);
      this.views.forEach((v) => v.classList.toggle("off", v !== view));
      this.back.hidden = view === this.views[0];
      this.start();
    }

    // At first the top of the graph is shown, as large as is legible.
    start() {
      const s = this.size();
      this.scale = Math.min(1.15, Math.max(0.5, (s.w - 24) / this.w));
      const first = this.view.querySelector(".n");
      const x = first && this.w * this.scale > s.w ? this.center(first).x : this.w / 2;
      this.x = x - s.w / this.scale / 2;
      this.y = -12 / this.scale;
      if (this.h * this.scale < s.h - 24) this.y = (this.h - s.h / this.scale) / 2;
      this.last = s;
      this.apply();
    }

    fit() {
      const s = this.size();
      this.scale = Math.min(1.5, (s.w - 24) / this.w, (s.h - 24) / this.h);
      this.x = (this.w - s.w / this.scale) / 2;
      this.y = (this.h - s.h / this.scale) / 2;
      this.apply();
    }

    resized() {
      const s = this.size();
      if (s.w === this.last.w && s.h === this.last.h) return;
      this.x += (this.last.w - s.w) / this.scale / 2;
      this.last = s;
      this.apply();
    }

    apply() {
      const s = this.size();
      const w = s.w / this.scale, h = s.h / this.scale;
      // Some of the drawing stays in sight.
      this.x = Math.min(Math.max(this.x, 40 - w), this.w - 40);
      this.y = Math.min(Math.max(this.y, 40 - h), this.h - 40);
      this.cull(this.parts.get(this.view), this.y - 100, this.y + h + 100);
      this.svg.setAttribute("viewBox", `${this.x.toFixed(2)} ${this.y.toFixed(2)} ${w.toFixed(2)} ${h.toFixed(2)}`);
      this.svg.classList.toggle("far", this.scale < 0.3);
    }

    zoom(factor, px, py) {
      const s = this.size();
      px ??= s.w / 2; py ??= s.h / 2;
      const next = Math.min(4, Math.max(Math.min(0.02, (s.h - 24) / this.h), this.scale * factor));
      this.x += px / this.scale - px / next;
      this.y += py / this.scale - py / next;
      this.scale = next;
      this.apply();
    }

    pan(dx, dy) { this.x += dx / this.scale; this.y += dy / this.scale; this.apply(); }

    center(g) {
      const t = g.getAttribute("transform").match(/-?[\d.]+/g).map(Number);
      const r = g.querySelector("rect");
      return { x: t[0] + r.getAttribute("width") / 2, y: t[1] + r.getAttribute("height") / 2 };
    }

    centre(g) {
      const s = this.size(), c = this.center(g);
      if (this.scale < 0.5) this.scale = Math.min(1, Math.max(0.5, (s.w - 24) / this.w));
      this.x = c.x - s.w / this.scale / 2;
      this.y = c.y - s.h / this.scale / 2;
      this.apply();
    }

    listen() {
      const svg = this.svg;
      this.section.querySelector(".zin").addEventListener("click", () => this.zoom(1.3));
      this.section.querySelector(".zout").addEventListener("click", () => this.zoom(1 / 1.3));
      this.section.querySelector(".fit").addEventListener("click", () => this.fit());
      this.back.addEventListener("click", () => { const id = this.view.dataset.view; this.show(this.views[0]); this.select(id, true); });
      svg.addEventListener("wheel", (e) => {
        const unit = e.deltaMode === 1 ? 30 : e.deltaMode === 2 ? 400 : 1;
        if (e.ctrlKey || e.metaKey) {
          e.preventDefault();
          const s = this.size();
          this.zoom(Math.exp(-Math.max(-120, Math.min(120, e.deltaY * unit)) / 240), e.clientX - s.left, e.clientY - s.top);
          return;
        }
        let dx = e.deltaX * unit, dy = e.deltaY * unit;
        if (e.shiftKey && !dx) { dx = dy; dy = 0; }
        // At its ends the wheel scrolls the page again.
        const h = this.size().h / this.scale;
        const stuck = !dx && (dy < 0 ? this.y <= -14 / this.scale : this.y + h >= this.h + 14 / this.scale);
        if (stuck) return;
        e.preventDefault();
        this.pan(dx, dy);
      }, { passive: false });
      const held = new Map();
      let moved = 0, spread = 0;
      svg.addEventListener("pointerdown", (e) => {
        if (e.button) return;
        held.set(e.pointerId, { x: e.clientX, y: e.clientY });
        if (held.size === 1) moved = 0;
        spread = 0;
      });
      svg.addEventListener("pointermove", (e) => {
        const p = held.get(e.pointerId);
        if (!p) return;
        const dx = e.clientX - p.x, dy = e.clientY - p.y;
        moved += Math.abs(dx) + Math.abs(dy);
        p.x = e.clientX; p.y = e.clientY;
        if (moved < 5) return;
        if (!svg.hasPointerCapture(e.pointerId)) svg.setPointerCapture(e.pointerId);
        svg.classList.add("drag");
        this.pan(-dx / held.size, -dy / held.size);
        if (held.size === 2) {
          const [a, b] = [...held.values()];
          const d = Math.hypot(a.x - b.x, a.y - b.y), s = this.size();
          if (spread && d) this.zoom(d / spread, (a.x + b.x) / 2 - s.left, (a.y + b.y) / 2 - s.top);
          spread = d;
        }
      });
      const release = (e) => { held.delete(e.pointerId); spread = 0; if (!held.size) svg.classList.remove("drag"); };
      svg.addEventListener("pointerup", release);
      svg.addEventListener("pointercancel", release);
      svg.addEventListener("click", (e) => {
        if (moved >= 5) return;
        const n = e.target.closest(".n");
        if (n) this.select(n.dataset.n, false);
      });
      svg.addEventListener("dblclick", (e) => {
        const n = e.target.closest(".n.block");
        if (n) this.open(n.dataset.n);
      });
      svg.addEventListener("keydown", (e) => {
        const s = this.size();
        const act = {
          "+": () => this.zoom(1.25), "=": () => this.zoom(1.25), "-": () => this.zoom(0.8), 0: () => this.fit(),
          ArrowLeft: () => this.pan(-60, 0), ArrowRight: () => this.pan(60, 0), ArrowUp: () => this.pan(0, -60), ArrowDown: () => this.pan(0, 60),
          PageUp: () => this.pan(0, -s.h * 0.9), PageDown: () => this.pan(0, s.h * 0.9), Home: () => this.start(), Escape: () => this.select(null),
        }[e.key];
        if (!act || e.ctrlKey || e.metaKey || e.altKey) return;
        e.preventDefault();
        act();
      });
      this.panel.addEventListener("keydown", (e) => { if (e.key === "Escape") { this.select(null); svg.focus(); } });
      addEventListener("beforeprint", () => { this.cull(this.parts.get(this.view), 0, this.h); this.svg.setAttribute("viewBox", `0 0 ${this.w} ${this.h}`); this.svg.classList.remove("far"); });
      addEventListener("afterprint", () => this.apply());
    }

    open(id) {
      const view = this.views.find((v) => v.dataset.view === id);
      if (view && id) this.show(view);
    }

    // A node may be drawn in the current view, in another one, or nowhere: then
    // the block that holds it stands for it.
    select(id, centre) {
      this.section.querySelectorAll(".n.on, .e.on, tr.on").forEach((e) => e.classList.remove("on"));
      const d = id ? this.data[id] : null;
      this.panel.hidden = !d;
      this.section.querySelector(".legend").hidden = !!d;
      if (!d) return;
      let at = this.nodes.get(id);
      let drawn = id;
      if (!at && d.block) { drawn = d.block; at = this.nodes.get(drawn); }
      this.describe(id, d);
      if (at) {
        const here = at.find((p) => p.view === this.view) ?? at[0];
        if (here.view !== this.view) { this.show(here.view); centre = true; }
        here.g.classList.add("on");
        here.view.querySelectorAll(`.e[data-a="${drawn}"], .e[data-b="${drawn}"]`).forEach((e) => e.classList.add("on"));
        if (centre) this.centre(here.g);
        else this.reveal(here.g);
      }
      const rows = this.section.querySelectorAll(`.layers tr[data-n="${id}"]`);
      rows.forEach((r) => r.classList.add("on"));
      if (rows.length && !centre) rows[0].scrollIntoView({ block: "nearest", inline: "nearest" });
    }

    // The panel that opens takes some of the height; what was clicked on stays in
    // sight.
    reveal(g) {
      const s = this.size(), c = this.center(g);
      this.last = s;
      const bottom = this.y + s.h / this.scale - 40;
      if (c.y > bottom) this.y += c.y - bottom;
      this.apply();
    }

    describe(id, d) {
      const p = this.panel;
      p.replaceChildren();
      const close = element("button", "\u00d7", "close");
      close.title = "close (Escape)";
      close.setAttribute("aria-label", "close");
      close.addEventListener("click", () => this.select(null));
      p.append(close, element("h3", d.op), element("p", d.name));
      if (d.facts) {
        const dl = element("dl");
        d.facts.forEach(([k, v]) => dl.append(element("dt", k), element("dd", v)));
        p.append(dl);
      }
      if (d.block && !this.nodes.has(id)) p.append(this.list("drawn in block", [{ n: this.data[d.block].name, to: [d.block] }]));
      if (this.views.some((v) => v.dataset.view === id)) {
        const open = element("button", "open this block", "open");
        open.addEventListener("click", () => this.open(id));
        p.append(open);
      }
      [["inputs", d.in], ["outputs", d.out], ["attributes", d.attr], ["nested graphs", d.sub], ["nodes", d.nodes]].forEach(([title, items]) => {
        if (items) p.append(this.list(title, items));
      });
      p.scrollTop = 0;
    }

    // An item has a name n, a text t beside it, and nodes that it leads to.
    list(title, items) {
      const box = element("div");
      box.append(element("h4", title));
      const ul = element("ul");
      items.forEach((item) => {
        const li = element("li");
        const to = (item.to ?? []).filter((id) => this.data[id]);
        if (to.length === 1) {
          const b = element("button", undefined, "go");
          b.append(element("bdi", item.n));
          b.addEventListener("click", () => this.select(to[0], true));
          li.append(b);
        } else {
          li.append(element("bdi", item.n));
        }
        if (item.t) li.append(" ", element("small", item.t));
        if (item.h) {
          const ns = "http://www.w3.org/2000/svg";
          const s = document.createElementNS(ns, "svg"), path = document.createElementNS(ns, "path");
          s.setAttribute("class", "spark");
          s.setAttribute("viewBox", "0 0 100 100");
          s.setAttribute("preserveAspectRatio", "none");
          path.setAttribute("d", item.h);
          s.append(path);
          li.append(s);
        }
        if (to.length > 1) {
          to.forEach((id, i) => {
            const b = element("button", this.data[id].short ?? this.data[id].op, "go");
            b.title = this.data[id].name;
            b.addEventListener("click", () => this.select(id, true));
            li.append(i ? ", " : " to ", b);
          });
        }
        ul.append(li);
      });
      box.append(ul);
      return box;
    }

    search(text) {
      const hits = [];
      this.section.classList.toggle("searching", text !== "");
      this.matches = hits;
      if (!text) {
        this.svg.querySelectorAll(".hit").forEach((n) => n.classList.remove("hit"));
        return null;
      }
      const blocks = new Set();
      let found = 0, all = 0;
      for (const [id, d] of Object.entries(this.data)) {
        if (!id.startsWith("n")) continue;
        all++;
        if (!(d.op + " " + d.name + " " + (d.out ?? []).map((o) => o.n).join(" ")).toLowerCase().includes(text)) continue;
        found++;
        hits.push(id);
        if (d.block) blocks.add(d.block);
      }
      const marked = new Set([...hits, ...blocks]);
      this.nodes.forEach((at, id) => at.forEach((p) => p.g.classList.toggle("hit", marked.has(id))));
      return { found, all };
    }
  }

  function model(section) {
    const drawing = section.querySelector(".net") ? new Drawing(section) : null;
    const table = section.querySelector("table.layers");
    const rows = table ? [...table.tBodies[0].rows] : [];
    const texts = rows.map((r) => (r.textContent + " " + (r.querySelector("th")?.title ?? "")).toLowerCase());
    const input = section.querySelector(".search input");
    const found = section.querySelector(".found");
    const all = found.textContent;
    let next = 0;
    input.addEventListener("input", () => {
      const text = input.value.trim().toLowerCase();
      let shown = 0;
      rows.forEach((r, i) => { const ok = texts[i].includes(text); r.hidden = !ok; if (ok) shown++; });
      const nodes = drawing?.search(text);
      found.textContent = text === "" ? all : `${shown.toLocaleString("en")} of ${count(rows.length, "layer")}` + (nodes ? `, ${nodes.found.toLocaleString("en")} of ${count(nodes.all, "node")}` : "");
      next = 0;
    });
    input.addEventListener("keydown", (e) => {
      if (e.key !== "Enter" || !drawing?.matches?.length) return;
      e.preventDefault();
      drawing.select(drawing.matches[next % drawing.matches.length], true);
      next++;
    });
    if (drawing) {
      section.querySelector(".main").addEventListener("click", (e) => {
        const at = e.target.closest(".layers tbody tr[data-n], .findings [data-n]");
        if (at) drawing.select(at.dataset.n, true);
      });
    }
    const byIndex = new Map(rows.map((r) => [r.dataset.x, r]));
    const readout = section.querySelector(".readout");
    const rest = readout?.textContent;
    const charts = [...section.querySelectorAll(".chart")];
    const ordered = [...rows].sort((a, b) => a.dataset.x - b.dataset.x);
    const column = (svg, e) => {
      const r = svg.getBoundingClientRect();
      const n = svg.viewBox.baseVal.width;
      return Math.min(n - 1, Math.max(0, Math.floor((e.clientX - r.left) / r.width * n)));
    };
    charts.forEach((svg) => {
      svg.addEventListener("pointermove", (e) => {
        const i = column(svg, e), row = byIndex.get(String(ordered[i]?.dataset.x));
        charts.forEach((c) => c.querySelector(".cursor").setAttribute("d", `M${i} 0h1v100h-1z`));
        if (!row) return;
        const cell = (k) => row.cells[k].textContent.trim();
        readout.textContent = `${cell(1)} (${cell(2)}): ${cell(5)} parameters, ${cell(6)} MACs, output ${cell(4)}, ${cell(8)}`;
      });
      svg.addEventListener("pointerleave", () => {
        charts.forEach((c) => c.querySelector(".cursor").setAttribute("d", ""));
        readout.textContent = rest;
      });
      svg.addEventListener("click", (e) => {
        const row = ordered[column(svg, e)];
        if (row?.dataset.n) drawing?.select(row.dataset.n, true);
      });
    });
  }

  document.querySelectorAll("table.sortable").forEach(sortable);
  // Tables that other sections make later.
  document.addEventListener("sortable", (e) => sortable(e.target));
  document.querySelectorAll("section.model").forEach(model);
  document.querySelectorAll("section.document .bar").forEach((bar) => {
    const input = bar.querySelector("input"), found = bar.querySelector(".found");
    const rows = [...bar.nextElementSibling.querySelectorAll("tbody tr")];
    const update = () => {
      const text = input.value.trim().toLowerCase();
      let shown = 0;
      rows.forEach((r) => { r.hidden = !r.textContent.toLowerCase().includes(text); if (!r.hidden) shown++; });
      found.textContent = text ? `${shown.toLocaleString("en")} of ${count(rows.length, "row")}` : count(rows.length, "row");
    };
    input.addEventListener("input", update);
    update();
  });
})();
