"use strict";
const find = document.getElementById("find");
if (find) {
  const lines = [...document.querySelectorAll(".contents > li")].map((line) => {
    const card = document.getElementById(line.querySelector("a").hash.slice(1));
    const words = [...card.querySelectorAll(".head bdi, .head li, .head details p")].map((part) => part.textContent);
    return { line, card, text: words.join(" ").toLowerCase() };
  });
  find.hidden = false;
  find.querySelector("input").addEventListener("input", (event) => {
    const words = event.target.value.toLowerCase().split(/\s+/);
    let count = 0;
    for (const { line, card, text } of lines) {
      line.hidden = card.hidden = !words.every((word) => text.includes(word));
      count += !line.hidden;
    }
    find.querySelector("[role=status]").textContent = event.target.value.trim() ? `${count} of ${lines.length}` : "";
  });
}

for (const timeline of document.querySelectorAll(".timeline")) {
  const slider = timeline.querySelector("input");
  const label = timeline.nextElementSibling;
  const summary = label.textContent;
  const steps = Number(slider.max) + 1;
  const update = () => {
    const step = Number(slider.value);
    const segments = [...timeline.querySelectorAll(".lane li")].filter(({ style }) => (
      parseInt(style.gridColumnStart) - 1 <= step && step < parseInt(style.gridColumnEnd) - 1
    ));
    label.textContent = segments.map((part) => part.title).join(" · ");
    slider.setAttribute("aria-valuetext", label.textContent);
    timeline.style.setProperty("--at", `${(100 * (step + 0.5)) / steps}%`);
    timeline.classList.add("active");
  };
  const reset = () => {
    if (document.activeElement === slider) return;
    label.textContent = summary;
    timeline.classList.remove("active");
  };
  slider.hidden = false;
  slider.addEventListener("input", update);
  slider.addEventListener("focus", update);
  slider.addEventListener("blur", reset);
  slider.addEventListener("pointermove", (event) => {
    if (event.pointerType !== "mouse") return;
    const { left, width } = slider.getBoundingClientRect();
    slider.value = Math.floor((steps * (event.clientX - left)) / width);
    update();
  });
  slider.addEventListener("pointerleave", reset);
}
