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

for (const hear of document.querySelectorAll(".hear")) {
  const moment = hear.querySelector("input");
  const now = hear.nextElementSibling;
  const summary = now.textContent;
  const steps = Number(moment.max) + 1;
  const tell = () => {
    const step = Number(moment.value);
    const here = [...hear.querySelectorAll(".lane li")].filter(({ style }) => (
      parseInt(style.gridColumnStart) - 1 <= step && step < parseInt(style.gridColumnEnd) - 1
    ));
    now.textContent = here.map((part) => part.title).join(" · ");
    moment.setAttribute("aria-valuetext", now.textContent);
    hear.style.setProperty("--at", `${(100 * (step + 0.5)) / steps}%`);
    hear.classList.add("asked");
  };
  const rest = () => {
    if (document.activeElement === moment) return;
    now.textContent = summary;
    hear.classList.remove("asked");
  };
  moment.hidden = false;
  moment.addEventListener("input", tell);
  moment.addEventListener("focus", tell);
  moment.addEventListener("blur", rest);
  moment.addEventListener("pointermove", (event) => {
    if (event.pointerType !== "mouse") return;
    const { left, width } = moment.getBoundingClientRect();
    moment.value = Math.floor((steps * (event.clientX - left)) / width);
    tell();
  });
  moment.addEventListener("pointerleave", rest);
}
