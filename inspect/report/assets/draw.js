"use strict";
// What the scripts of several sections draw with.
const draw = (() => {
  function element(tag, text, className) {
    const e = document.createElement(tag);
    if (text !== undefined) e.textContent = text;
    if (className) e.className = className;
    return e;
  }

  function svg(tag, attributes, text) {
    const e = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [k, v] of Object.entries(attributes)) e.setAttribute(k, v);
    if (text !== undefined) e.textContent = text;
    return e;
  }

  const short = (text, n) => text.length > n ? text.slice(0, n - 1) + "\u2026" : text;
  const percent = (v, n = 1) => `${(100 * v).toFixed(n)} %`;
  const plain = (v) => Math.abs(v) >= 1000 ? Math.round(v).toLocaleString("en") : String(Number(v.toPrecision(3)));
  const format = (v, share) => v === null || v === undefined ? "none" : share ? percent(v, Math.abs(v) < 0.1 ? 2 : 1) : plain(v);

  // colours reads custom properties of the style sheet, light or dark, as red,
  // green and blue.
  function colours(section, names) {
    const style = getComputedStyle(section), out = {};
    for (const n of names) {
      const v = style.getPropertyValue("--" + n).trim();
      const hex = v.length === 4 ? v.replace(/[0-9a-f]/gi, "$&$&") : v;
      out[n] = [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
    }
    return out;
  }
  const css = (c) => `rgb(${c.join()})`;
  const mix = (a, b, t) => [0, 1, 2].map((i) => Math.round(a[i] + (b[i] - a[i]) * t));
  // A scale is a table of 256 colours between stops.
  function scale(...stops) {
    const out = new Uint32Array(256);
    const n = stops.length - 1;
    for (let i = 0; i < 256; i++) {
      const t = i / 255 * n, k = Math.min(n - 1, Math.floor(t));
      const c = mix(stops[k], stops[k + 1], t - k);
      out[i] = 0xff000000 | c[2] << 16 | c[1] << 8 | c[0];
    }
    return out;
  }
  const pixel = (c) => (0xff000000 | c[2] << 16 | c[1] << 8 | c[0]) >>> 0;

  function bytes(base64) {
    const text = atob(base64);
    const out = new Uint8Array(text.length);
    for (let i = 0; i < out.length; i++) out[i] = text.charCodeAt(i);
    return out;
  }

  function ticks(low, high, n) {
    const step = 10 ** Math.floor(Math.log10((high - low) / n || 1));
    const by = [1, 2, 2.5, 5, 10].map((f) => f * step).find((s) => (high - low) / s <= n) ?? step * 10;
    const out = [];
    for (let v = Math.ceil(low / by - 1e-9) * by; v <= high + by * 1e-9; v += by) out.push(Math.abs(v) < by * 1e-9 ? 0 : v);
    return out;
  }

  // A logarithmic axis has a place for 0 below its lowest decade.
  function decades(values) {
    const positive = values.filter((v) => v > 0);
    const low = positive.length ? Math.floor(Math.log10(Math.min(...positive))) : -1;
    const high = Math.max(low + 1, positive.length ? Math.ceil(Math.log10(Math.max(...positive)) - 1e-9) : 0);
    const zero = values.some((v) => v <= 0);
    const every = Math.ceil((high - low) / 6);
    const at = [];
    for (let d = high; d >= low; d -= every) at.push(10 ** d);
    return { at: zero ? [...at, 0] : at, low: zero ? low - 1 : low, high, of: (v) => v > 0 ? Math.log10(v) : low - 1 };
  }

  // A plot of lines over x: series are {values, on, faint, other}, lines {name,
  // value} across. hover is told the number of the nearest point, or -1. With log
  // the values stand on a logarithmic axis.
  function plot(figure, o) {
    const width = Math.max(220, figure.clientWidth), left = 46, right = 10, top = 10;
    const angled = o.names ? Math.max(...o.names.map((n) => short(n, 16).length)) : 0;
    const room = width - left - right;
    const step = o.names ? room / Math.max(1, o.xs.length) : 0;
    const named = o.names && step >= 15;
    const bottom = named ? Math.min(86, 16 + angled * 4.4) : 22;
    const height = o.height + bottom;
    const all = [...o.series.flatMap((s) => s.values), ...(o.lines ?? []).map((l) => l.value)].filter((v) => v !== null);
    let low = Math.min(0, ...all), high = Math.max(...all);
    if (!(high > low)) high = low + 1;
    high += (high - low) * 0.06;
    let marks = ticks(low, high, 5), of = (v) => v;
    if (o.log) {
      const axis = decades(all);
      ({ at: marks, low, high, of } = axis);
      high += 0.15;
    }
    const x0 = Math.min(...o.xs), x1 = Math.max(...o.xs);
    const X = (x) => o.names ? left + (x + 0.5) * step : left + 6 + (x - x0) / (x1 - x0 || 1) * (room - 12);
    const Y = (y) => top + (high - of(y)) / (high - low) * (o.height - top);
    const s = svg("svg", { class: "plot", width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": o.title });
    for (const t of marks) {
      s.append(svg("path", { class: "grid", d: `M${left} ${Y(t)}H${width - right}` }), svg("text", { class: "tick r", x: left - 6, y: Y(t) + 4 }, o.share ? `${Number((100 * t).toPrecision(3))} %` : o.log && t > 0 && (t < 0.01 || t > 1000) ? t.toExponential(0) : plain(t)));
    }
    (o.lines ?? []).forEach((l) => {
      s.append(svg("path", { class: "across", d: `M${left} ${Y(l.value)}H${width - right}` }));
      const above = Y(l.value) > top + 16;
      s.append(svg("text", { class: o.log ? "tick r" : "tick", x: o.log ? width - right - 4 : left + 4, y: Y(l.value) + (above ? -4 : 12) }, `${l.name} ${format(l.value, o.share)}`));
    });
    if (o.mark !== undefined) s.append(svg("path", { class: "across", d: `M${X(o.mark)} ${top}V${o.height}` }));
    if (named) {
      o.names.forEach((n, i) => s.append(svg("text", { class: "tick r", transform: `translate(${X(i) + 4} ${o.height + 14}) rotate(-38)` }, short(n, 16))));
    } else if (o.names) {
      const every = Math.ceil(o.names.length / Math.floor(room / 34));
      o.names.forEach((n, i) => { if (i % every === 0) s.append(svg("text", { class: "tick m", x: X(i), y: o.height + 16 }, i + 1)); });
    } else {
      for (const t of ticks(x0, x1, 6)) s.append(svg("text", { class: "tick m", x: X(t), y: o.height + 16 }, plain(t)));
    }
    const cursor = svg("path", { class: "cursor", d: "" });
    s.append(cursor);
    for (const line of o.series) {
      let d = "", pen = false;
      line.values.forEach((v, i) => {
        if (line.apart?.[i]) return;
        if (v !== null) d += `${pen ? "L" : "M"}${X(o.xs[i]).toFixed(1)} ${Y(v).toFixed(1)}`;
        pen = v !== null;
      });
      const other = line.other ? " other" : "";
      s.append(svg("path", { class: (line.faint ? "line faint" : "line") + other, d }));
      for (const [a, b] of line.falls ?? []) s.append(svg("path", { class: "line fall", d: `M${X(o.xs[a])} ${Y(line.values[a])}L${X(o.xs[b])} ${Y(line.values[b])}` }));
      if (line.faint) continue;
      line.values.forEach((v, i) => {
        if (v === null) return;
        const on = i === line.on, r = on ? 5 : o.xs.length > 60 ? 2 : 3, x = X(o.xs[i]), y = Y(v);
        const name = (on ? "point on" : "point") + (line.own?.[i] ? " own" : "") + (line.apart?.[i] ? " apart" : "") + other;
        s.append(line.other ? svg("rect", { class: name, x: (x - r).toFixed(1), y: (y - r).toFixed(1), width: 2 * r, height: 2 * r }) : svg("circle", { class: name, cx: x.toFixed(1), cy: y.toFixed(1), r }));
      });
    }
    const nearest = (e) => {
      const x = e.clientX - s.getBoundingClientRect().left;
      let best = 0;
      o.xs.forEach((v, i) => { if (Math.abs(X(v) - x) < Math.abs(X(o.xs[best]) - x)) best = i; });
      return best;
    };
    s.addEventListener("pointermove", (e) => { const i = nearest(e); o.hover(i); });
    s.addEventListener("pointerleave", () => o.hover(-1));
    if (o.click) s.addEventListener("click", (e) => o.click(nearest(e)));
    s.point = (i) => cursor.setAttribute("d", i < 0 ? "" : `M${X(o.xs[i]).toFixed(1)} ${top}V${o.height}`);
    figure.querySelector("svg")?.remove();
    figure.append(s);
    return s;
  }

  function figure(name, title) {
    const f = element("figure"), c = element("figcaption");
    const b = element("b", name);
    c.append(b, element("span", title));
    c.title = title;
    f.append(c);
    return f;
  }

  // A canvas of w x h CSS pixels, sharp on every screen.
  function prepare(canvas, w, h, background) {
    const dpr = Math.max(1, devicePixelRatio || 1);
    canvas.width = Math.round(w * dpr);
    canvas.height = Math.round(h * dpr);
    canvas.style.width = `${w}px`;
    canvas.style.height = `${h}px`;
    const g = canvas.getContext("2d");
    g.fillStyle = css(background);
    g.fillRect(0, 0, canvas.width, canvas.height);
    g.font = `${11 * dpr}px system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif`;
    return { g, dpr };
  }

  // A text no wider than room.
  function fitted(g, text, room) {
    if (g.measureText(text).width <= room) return text;
    let n = text.length;
    while (n > 1 && g.measureText(text.slice(0, n) + "\u2026").width > room) n = Math.min(n - 1, Math.floor(n * 0.9));
    return text.slice(0, n) + "\u2026";
  }

  // Device pixels for each cell, or cells for each pixel where there are more.
  function spread(n, room) {
    return n <= room ? { size: Math.floor(room / n), per: 1, cells: n } : { size: 1, per: Math.ceil(n / room), cells: Math.ceil(n / Math.ceil(n / room)) };
  }

  // blit draws an image with pixels of w x h, sharp.
  function blit(g, image, x, y, w, h) {
    if (w === 1 && h === 1) { g.putImageData(image, x, y); return; }
    const c = new OffscreenCanvas(image.width, image.height);
    c.getContext("2d").putImageData(image, 0, 0);
    g.imageSmoothingEnabled = false;
    g.drawImage(c, x, y, image.width * w, image.height * h);
  }

  // thumbnail draws the picture of a sample, one of those given as base64, on a
  // canvas.
  function thumbnail(canvas, pictures, sample, name) {
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", name);
    if (!pictures[sample]) { canvas.classList.add("missing"); return; }
    createImageBitmap(new Blob([bytes(pictures[sample])])).then((b) => {
      canvas.width = b.width;
      canvas.height = b.height;
      canvas.getContext("2d").drawImage(b, 0, 0);
      canvas.dataset.drawn = sample;
    }, () => canvas.classList.add("missing"));
  }

  return { element, svg, short, percent, plain, format, colours, css, mix, scale, pixel, bytes, plot, figure, prepare, fitted, spread, blit, thumbnail };
})();
