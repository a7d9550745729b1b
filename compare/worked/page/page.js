"use strict";
// One sheet, one row of its data and one step are shown; without this script all of them are.
document.documentElement.classList.add("js");

document.addEventListener("DOMContentLoaded", () => {
  const sheets = [...document.querySelectorAll(".sheet")].map((element) => ({
    element,
    row: 0,
    step: 0,
    last: element.querySelectorAll(".track button").length - 1,
    rows: [...element.querySelectorAll("[data-row]")],
    lit: [...element.querySelectorAll("[data-on], [data-lit]")].map((item) => ({
      item,
      on: item.dataset.on === undefined ? -1 : Number(item.dataset.on),
      off: item.dataset.off === undefined ? Infinity : Number(item.dataset.off),
      steps: (item.dataset.lit ?? item.dataset.on).split(" ").map(Number),
    })),
    track: [...element.querySelectorAll(".track button")],
    sections: [...element.querySelectorAll(".step")],
    live: element.querySelector(".live"),
    select: element.querySelector("select"),
  }));
  let shown = sheets[0];

  function section(sheet) {
    const row = `.row[data-row="${sheet.row}"] .step[data-step="${sheet.step}"]`;
    return sheet.element.querySelector(row);
  }

  function show(announce) {
    const { element, row, step, last } = shown;
    for (const sheet of sheets) sheet.element.hidden = sheet !== shown;
    for (const link of document.querySelectorAll(".menu a")) {
      const current = link.hash === `#${element.id}`;
      current ? link.setAttribute("aria-current", "page") : link.removeAttribute("aria-current");
      if (current) link.closest("ul").scrollLeft = link.offsetLeft - 12;
    }
    for (const item of shown.rows) item.classList.toggle("other", Number(item.dataset.row) !== row);
    for (const { item, on, off, steps } of shown.lit) {
      item.classList.toggle("off", step < on || step >= off);
      item.classList.toggle("new", step > 0 && steps.includes(step));
    }
    const current = section(shown);
    for (const item of shown.sections) item.classList.toggle("current", item === current);
    const inside = shown.track.includes(document.activeElement);
    shown.track.forEach((button, n) => {
      button.tabIndex = n === step ? 0 : -1;
      n === step ? button.setAttribute("aria-current", "step") : button.removeAttribute("aria-current");
      button.classList.toggle("done", n < step);
    });
    if (inside) shown.track[step].focus();
    for (const button of element.querySelectorAll("[data-go]")) {
      const end = ["first", "back"].includes(button.dataset.go) ? step === 0 : step === last;
      button.setAttribute("aria-disabled", end);
    }
    if (shown.select) shown.select.value = row;
    follow();
    if (announce) shown.live.textContent = spoken(current);
    const anchor = step || row ? current.id : element.id;
    if (announce) history.replaceState(null, "", `#${anchor}`);
  }

  // What a screen reader says of a step: its title and the new figures.
  function spoken(current) {
    const text = (item) => item.textContent.trim().replace(/\s+/g, " ");
    const lines = [...current.querySelectorAll(".line")].slice(0, 12).map((line) => {
      const said = [...line.querySelectorAll(".said")].map((item) => `, ${text(item)}`).join("");
      return `${text(line.querySelector(".left"))} = ${text(line.querySelector(".figure"))}${said}`;
    });
    return [text(current.querySelector(".count")), text(current.querySelector("h2")), ...lines].join(". ");
  }

  // A drawing wider than its box moves to where it is lit.
  function follow() {
    const box = shown.element.querySelector("figure .sideways");
    if (!box || box.scrollWidth <= box.clientWidth) return;
    const lit = [...box.querySelectorAll("text.new, circle.new")].filter((t) => t.getClientRects().length);
    if (!lit.length) return;
    const rects = lit.map((t) => t.getBoundingClientRect());
    const middle = (Math.min(...rects.map((r) => r.left)) + Math.max(...rects.map((r) => r.right))) / 2;
    const frame = box.getBoundingClientRect();
    box.scrollLeft += middle - (frame.left + frame.width / 2);
  }

  function go(step) {
    shown.step = Math.max(0, Math.min(shown.last, step));
    show(true);
  }

  const moves = {
    first: () => go(0),
    back: () => go(shown.step - 1),
    next: () => go(shown.step + 1),
    last: () => go(shown.last),
  };
  const keys = { ArrowLeft: "back", ArrowRight: "next", Home: "first", End: "last" };

  document.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    if (button.dataset.go) moves[button.dataset.go]();
    else if (button.dataset.step) go(Number(button.dataset.step));
  });

  document.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
    if (!(event.key in keys) || event.target.closest("select, input, textarea")) return;
    const box = event.target.closest(".sideways");
    if (box && box.scrollWidth > box.clientWidth) return; // these keys move what is in it
    event.preventDefault();
    moves[keys[event.key]]();
  });

  document.addEventListener("change", (event) => {
    if (event.target !== shown.select) return;
    shown.row = Number(event.target.value);
    show(true);
  });

  // #sheet-2, #sheet-2-step-5, #sheet-2-row-3-step-5
  function arrive() {
    const found = /^#sheet-(\d+)(?:-row-(\d+))?(?:-step-(\d+))?$/.exec(location.hash);
    const sheet = found && sheets[Number(found[1]) - 1];
    if (!sheet) return false;
    shown = sheet;
    if (found[3] !== undefined) {
      const rows = sheet.select ? sheet.select.options.length : 1;
      sheet.row = Math.min(Number(found[2] ?? 1), rows) - 1;
      sheet.step = Math.min(Number(found[3]), sheet.last);
    }
    return found[3] !== undefined;
  }

  window.addEventListener("hashchange", () => {
    const step = arrive();
    show(true);
    if (!step) return window.scrollTo(0, 0);
    section(shown).focus({ preventScroll: true });
    shown.element.querySelector(".stage").scrollIntoView({ block: "start" });
  });

  let opened = [];
  window.addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll("details:not([open])")];
    for (const item of opened) item.open = true;
  });
  window.addEventListener("afterprint", () => {
    for (const item of opened) item.open = false;
  });
  window.addEventListener("resize", follow);

  const step = arrive();
  show(false);
  if (step) shown.element.querySelector(".stage").scrollIntoView({ block: "start" });
});
