// Small bar charts of the last minutes.

import { make, number, setText, svg } from "./dom.js";

const MINUTES = 60;
const HEIGHT = 40;

/** A chart with its title and total; `draw(values)` shows one value for each minute. */
export function chart(title, className) {
  const total = make("strong", { class: "figure" }, "0");
  const recent = make("span", { class: "quiet" });
  const bars = Array.from({ length: MINUTES }, (_, index) => svg("rect", { x: index * 4, width: 3, y: HEIGHT, height: 0 }));
  const baseline = svg("line", { x1: 0, x2: MINUTES * 4, y1: HEIGHT + 0.5, y2: HEIGHT + 0.5 });
  const picture = svg("svg", { viewBox: `0 0 ${MINUTES * 4} ${HEIGHT + 1}`, preserveAspectRatio: "none", "aria-hidden": "true" }, baseline, bars);
  const element = make("div", { class: `chart ${className}` },
    make("h3", {}, title), make("p", { class: "figures" }, total, " ", recent), picture);
  function draw(values) {
    const shown = values.slice(-MINUTES);
    const most = Math.max(1, ...shown);
    const start = MINUTES - shown.length;
    bars.forEach((bar, index) => {
      const value = shown[index - start] ?? 0;
      // A single request is visible beside thousands.
      const height = value ? Math.max(2, (value / most) * HEIGHT) : 0;
      bar.setAttribute("height", height.toFixed(1));
      bar.setAttribute("y", (HEIGHT - height).toFixed(1));
    });
    const sum = shown.reduce((a, b) => a + b, 0);
    element.classList.toggle("none", sum === 0);
    setText(total, number(sum));
    // The page has nothing older than the process.
    setText(recent, shown.length < 2 ? "this minute" : `in ${shown.length} minutes · ${number(shown.at(-1))} this minute`);
  }
  return { element, draw };
}
