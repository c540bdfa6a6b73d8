"use strict";
// What a mark tells is the text of its <title>: shown in a box of the page's own when it is pointed at, tapped or focused.
const tip = document.getElementById("tip");
let shown = null;

function show(mark) {
  if (shown) shown.classList.remove("shown");
  shown = mark;
  tip.hidden = !mark;
  if (!mark) return;
  mark.classList.add("shown");
  tip.textContent = mark.getAttribute("aria-label");
  const at = mark.querySelector(".spot").getBoundingClientRect();
  const left = Math.min(at.right + 8, document.documentElement.clientWidth - tip.offsetWidth - 8);
  const above = at.top - tip.offsetHeight - 8;
  tip.style.left = `${Math.max(8, left) + scrollX}px`;
  tip.style.top = `${(above > 0 ? above : at.bottom + 8) + scrollY}px`;
}

// Of the marks under the pointer the one whose middle is nearest: they may lie over one another.
function pointed(marks, event) {
  let best = null, least = Infinity;
  for (const mark of marks) {
    for (const spot of mark.querySelectorAll(".spot")) {
      const box = spot.getBoundingClientRect();
      const x = event.clientX - (box.left + box.right) / 2, y = event.clientY - (box.top + box.bottom) / 2;
      const inside = Math.abs(x) <= box.width / 2 && Math.abs(y) <= box.height / 2;
      if (inside && Math.hypot(x, y) < least) [best, least] = [mark, Math.hypot(x, y)];
    }
  }
  return best;
}

for (const chart of document.querySelectorAll("svg.chart")) {
  const marks = Array.from(chart.querySelectorAll(".mark"));
  marks.forEach((mark, at) => {
    const title = mark.querySelector("title");
    mark.setAttribute("aria-label", title.textContent);
    title.remove(); // or the browser would show it a second time
    mark.setAttribute("tabindex", at ? "-1" : "0");
    mark.addEventListener("focus", () => show(mark));
    mark.addEventListener("blur", () => show(null));
  });
  for (const name of ["pointermove", "click"]) chart.addEventListener(name, (event) => show(pointed(marks, event)));
  chart.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && show(null));
  chart.addEventListener("keydown", (event) => {
    const last = marks.length - 1, here = marks.indexOf(document.activeElement);
    const next = Math.min(here + 1, last), before = Math.max(here - 1, 0);
    const to = { ArrowRight: next, ArrowDown: next, ArrowLeft: before, ArrowUp: before, Home: 0, End: last }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    marks[here].setAttribute("tabindex", "-1");
    marks[to].setAttribute("tabindex", "0");
    marks[to].focus();
  });
}
document.addEventListener("keydown", (event) => event.key === "Escape" && show(null));
document.addEventListener("pointerdown", (event) => event.target.closest("svg.chart") || show(null));
document.getElementById("hint").hidden = false;

const download = document.getElementById("download");
download.hidden = false;
download.addEventListener("click", () => {
  const text = document.getElementById("profile").textContent + "\n";
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "application/json" }));
  link.download = "profile.json";
  link.click();
  URL.revokeObjectURL(link.href);
});
