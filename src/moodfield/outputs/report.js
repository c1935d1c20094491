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
