// The page works without this; here come the theme button, the slice sliders and the sorting of tables.
"use strict";
(() => {
  const root = document.documentElement;
  const KEY = "unetq-theme";
  const remember = (value) => { try { localStorage.setItem(KEY, value); } catch { /* a page that may not keep anything */ } };
  const remembered = () => { try { return localStorage.getItem(KEY); } catch { return null; } };

  // Theme: the system's until the button is used.
  const button = document.getElementById("theme");
  const system = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);
  const show = () => {
    button.setAttribute("aria-pressed", String(isDark()));
    button.setAttribute("aria-label", isDark() ? "Dark theme, press for light" : "Light theme, press for dark");
    button.textContent = isDark() ? "Light" : "Dark";
  };
  const kept = remembered();
  if (kept === "dark" || kept === "light") root.dataset.theme = kept;
  button.hidden = false;
  show();
  system.addEventListener("change", show);
  button.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    remember(root.dataset.theme);
    show();
  });

  // A viewer: one slider moves all panels; masks fade or go; a panel can fill the viewer.
  const HREF = "href";
  for (const viewer of document.querySelectorAll(".viewer")) {
    const frames = JSON.parse(viewer.querySelector("script").textContent);
    const figures = [...viewer.querySelectorAll("figure")];
    const controls = viewer.querySelector(".controls");
    const slider = controls.querySelector(".slices");
    const name = viewer.querySelector(".slice-name");
    const text = viewer.querySelector(".slice-text");
    const jumps = [...controls.querySelectorAll(".jump")];
    const masks = () => viewer.querySelectorAll(".mask");

    const draw = () => {
      const index = Number(slider.value);
      const frame = frames[index];
      figures.forEach((figure, place) => {
        const [image, mask, note] = frame.p[place];
        figure.querySelector(".base").setAttribute(HREF, "#" + image);
        if (mask) figure.querySelector(".mask").setAttribute(HREF, "#" + mask);
        figure.querySelector(".counts").textContent = note;
      });
      const label = frame.n >= 0 ? `slice ${frame.n}` : `picture ${index + 1}`;
      name.textContent = frames.length > 1 ? `${label} (${index + 1} of ${frames.length})` : label;
      text.textContent = frame.c;
      slider.setAttribute("aria-valuetext", frame.c ? `${label}, ${frame.c}` : label);
      jumps.forEach((jump) => jump.setAttribute("aria-pressed", String(Number(jump.dataset.frame) === index)));
    };
    slider.addEventListener("input", draw);
    slider.parentElement.hidden = frames.length < 2;
    jumps.forEach((jump) => jump.addEventListener("click", () => { slider.value = jump.dataset.frame; draw(); }));

    const shown = controls.querySelector(".masks");
    const opacity = controls.querySelector(".opacity");
    const fade = () => masks().forEach((mask) => { mask.style.opacity = shown.checked ? Number(opacity.value) / 100 : 0; });
    shown.addEventListener("change", fade);
    opacity.addEventListener("input", fade);

    const panels = viewer.querySelector(".panels");
    const close = () => {
      panels.classList.remove("solo");
      figures.forEach((figure) => figure.classList.remove("big"));
      figures.forEach((figure) => figure.querySelector("button").setAttribute("aria-pressed", "false"));
    };
    figures.forEach((figure) => {
      const picture = figure.querySelector(".picture");
      const enlarge = document.createElement("button");
      enlarge.type = "button";
      enlarge.className = picture.className;
      enlarge.setAttribute("aria-pressed", "false");
      enlarge.setAttribute("aria-label", `Enlarge: ${figure.querySelector("b").textContent}`);
      enlarge.append(...picture.childNodes);
      picture.replaceWith(enlarge);
      enlarge.addEventListener("click", () => {
        const big = figure.classList.contains("big");
        close();
        if (big) return;
        panels.classList.add("solo");
        figure.classList.add("big");
        enlarge.setAttribute("aria-pressed", "true");
      });
    });
    viewer.addEventListener("keydown", (event) => { if (event.key === "Escape") close(); });
    // Arrow keys on an enlarged or focused picture move through the slices too.
    panels.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1 }[event.key];
      if (!step || frames.length < 2) return;
      event.preventDefault();
      slider.value = Number(slider.value) + step;
      draw();
    });
    draw();
    controls.hidden = false;
  }

  // Tables: a heading is a button; numbers by value, texts as people order them, nothing known last.
  const order = new Intl.Collator(undefined, { numeric: true, sensitivity: "base" });
  const entry = (row, column) => {
    const cell = row.cells[column];
    if (!cell.classList.contains("number")) return cell.textContent.trim();
    return cell.dataset.value === undefined ? null : Number(cell.dataset.value);
  };
  const compare = (one, two, sign) => {
    const none = (value) => value === null || value === "";
    if (none(one) || none(two)) return none(one) - none(two);
    return sign * (typeof one === "number" ? one - two : order.compare(one, two));
  };
  for (const table of document.querySelectorAll("table[data-sortable]")) {
    const headings = [...table.querySelectorAll("th[data-column]")];
    const body = table.tBodies[0];
    if (body.rows.length < 2) continue;
    table.querySelectorAll(".hint").forEach((hint) => { hint.hidden = false; });
    for (const heading of headings) {
      const sorter = document.createElement("button");
      sorter.type = "button";
      sorter.className = "sorter";
      sorter.append(...heading.childNodes);
      heading.append(sorter);
      heading.setAttribute("aria-sort", "none");
      sorter.addEventListener("click", () => {
        const column = Number(heading.dataset.column);
        const sign = heading.getAttribute("aria-sort") === "ascending" ? -1 : 1;
        headings.forEach((other) => other.setAttribute("aria-sort", "none"));
        heading.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
        const rows = [...body.rows].map((row, place) => [entry(row, column), place, row]);
        rows.sort((a, b) => compare(a[0], b[0], sign) || a[1] - b[1]);
        body.append(...rows.map(([, , row]) => row));
      });
    }
  }

  // A link to something inside a folded part opens it; printing opens all (browsers without ::details-content).
  const folded = () => [...document.querySelectorAll("details:not([open])")];
  let opened = [];
  addEventListener("beforeprint", () => { opened = folded(); opened.forEach((part) => { part.open = true; }); });
  addEventListener("afterprint", () => { opened.forEach((part) => { part.open = false; }); opened = []; });
})();
