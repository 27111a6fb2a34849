// Elements, text and tables. All text goes through `textContent`: what a request, a config or a browser's message
// says is never read as HTML.

const SVG = "http://www.w3.org/2000/svg";

export const byId = (id) => document.getElementById(id);

/** An element with attributes and children; text stays text. */
export function make(name, attributes, ...children) {
  return build(document.createElement(name), attributes, children);
}

/** The same for SVG. */
export function svg(name, attributes, ...children) {
  return build(document.createElementNS(SVG, name), attributes, children);
}

function build(element, attributes, children) {
  for (const [key, value] of Object.entries(attributes || {})) {
    if (value === false || value === null || value === undefined) continue;
    if (key === "onclick") element.addEventListener("click", value);
    else element.setAttribute(key, value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

// Control, bidirectional and invisible characters: they could hide or reorder what stands around them.
const UNSEEN = /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g;

const escaped = (character) => "\\u" + character.charCodeAt(0).toString(16).padStart(4, "0");

/** Text from outside: invisible characters as escapes, at most `most` characters. */
export function clean(text, most = 400) {
  const whole = String(text ?? "");
  const cut = whole.length > most ? whole.slice(0, most) + "…" : whole;
  return cut.replace(UNSEEN, escaped);
}

/** Text from outside in its own direction and in the font of code. */
export const code = (text, most) => make("code", { dir: "ltr" }, clean(text, most));

/** Text whose code stands between backticks. */
export const prose = (text) => clean(text, 2000).split("`").map((part, index) => (index % 2 ? make("code", {}, part) : part));

/** Errors and reasons start in lower case and have no full stop; on the page they are sentences. */
export const sentence = (text) => text.charAt(0).toUpperCase() + text.slice(1) + (/[.!?:]$|^$/.test(text) ? "" : ".");

/** Changes an element's text only where it differs, so that nothing flickers or is read again. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Makes the children of `parent` those of `items`, in order, and reuses elements with the same key. */
export function reconcile(parent, items, keyOf, create, update) {
  const focused = document.activeElement;
  const known = new Map(Array.from(parent.children, (child) => [child.dataset.key, child]));
  items.forEach((item, index) => {
    const key = keyOf(item);
    let element = known.get(key);
    known.delete(key);
    if (!element) {
      element = create(item);
      element.dataset.key = key;
    }
    update?.(element, item);
    if (parent.children[index] !== element) parent.insertBefore(element, parent.children[index] ?? null);
  });
  for (const stale of known.values()) stale.remove();
  if (focused && focused !== document.activeElement && parent.contains(focused)) focused.focus({ preventScroll: true });
}

/** A table in a box that scrolls if it must. `rows` goes into the body. */
export function table(className, caption, columns, rows) {
  const head = columns.map((name) => make("th", { scope: "col" }, name));
  return make("div", { class: "scroll" }, make("table", { class: className },
    make("caption", {}, caption), make("thead", {}, make("tr", {}, head)), make("tbody", {}, rows)));
}

/** A list of names and values. */
export function definitions(rows) {
  const shown = rows.filter(([, value]) => value !== null && value !== undefined && value !== "");
  return make("dl", {}, shown.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]));
}

/** Text to copy, with its button. */
export function copyable(text, label = "Copy") {
  const block = make("pre", { tabindex: "0" }, clean(text, 20000).replaceAll("\\u000a", "\n").replaceAll("\\u0009", "\t"));
  const button = make("button", { type: "button", class: "copy" }, label);
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
    } catch {
      // Over plain HTTP a page may not write to the clipboard: select the text instead.
      const range = document.createRange();
      range.selectNodeContents(block);
      getSelection().removeAllRanges();
      getSelection().addRange(range);
      button.textContent = "Selected";
    }
    setTimeout(() => { button.textContent = label; }, 2000);
  });
  return make("div", { class: "code" }, block, button);
}

/** A time as people read it, to the second. */
export const moment = (time) => clean(time).replace("T", " ").replace(/(\.\d+)?Z$/, " UTC");

/** The time of day alone. */
export const clock = (time) => clean(time).slice(11, 19);

/** A duration in its largest unit. */
export function duration(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  const [unit, size] = [["day", 86400], ["hour", 3600], ["minute", 60]].find(([, size]) => whole >= size) ?? ["second", 1];
  const count = Math.floor(whole / size);
  return `${count} ${unit}${count === 1 ? "" : "s"}`;
}

export const number = (count) => Number(count).toLocaleString("en");
