// Comparing by eye: the same place in all results, enlarged results, and keyboard shortcuts.
const enlarged = element.querySelector(".enlarged");
const keys = element.querySelector(".keys");
const space = element.querySelector(".space");
const sheet = element.querySelector(".sheet");
const beside = element.querySelector("select");
const split = element.querySelector(".split");
const page = (selector) => document.querySelector(selector);

// ---- the same place in all results and in the image ----

function point(event) {
  const desk = page("#desk");
  const picture = event.target.closest?.("#results .overlay, #annotator .stage.filled");
  desk?.classList.toggle("pointing", Boolean(picture));
  if (!picture) return;
  const frame = picture.getBoundingClientRect();
  desk.style.setProperty("--px", (event.clientX - frame.left) / frame.width);
  desk.style.setProperty("--py", (event.clientY - frame.top) / frame.height);
}
document.addEventListener("pointermove", point);
document.addEventListener("pointerdown", point);

// ---- one result, enlarged ----

let shown = null; // the card
let zoom = 1;
let move = [0, 0]; // pixels from the middle

const cards = () =>
  [...document.querySelectorAll("#results .card")].filter(
    (card) => card.offsetParent && card.querySelector(".overlay"),
  );
const title = (card) => card.querySelector("h3").textContent;

// Layers that are switched off in the card stay off: its rules do not reach a copy elsewhere.
function copy(card, side) {
  const source = card.querySelector(".overlay");
  const picture = source.cloneNode(true);
  const layers = picture.querySelectorAll("*");
  source.querySelectorAll("*").forEach((layer, index) => {
    if (getComputedStyle(layer).display === "none") layers[index].remove();
  });
  for (const name of ["tabindex", "role", "aria-label"]) picture.removeAttribute(name);
  picture.classList.add(side);
  picture.style.maxWidth = "none";
  return picture;
}

function draw() {
  const all = cards();
  if (!all.includes(shown)) return enlarged.close();
  element.querySelector(".enlarged h3").textContent = title(shown);
  const chosen = beside.value;
  const none = new Option("nothing", "");
  beside.replaceChildren(
    none,
    ...all.filter((card) => card !== shown).map((card) => new Option(title(card), title(card))),
  );
  beside.value = chosen;
  const other = all.find((card) => card !== shown && title(card) === chosen);
  if (!other) beside.value = "";
  split.hidden = !other;
  const [width, height] = shown
    .querySelector(".overlay")
    .style.aspectRatio.split("/")
    .map(Number);
  const fit = Math.min(space.clientWidth / width, space.clientHeight / height);
  sheet.style.width = `${fit * width}px`;
  sheet.style.height = `${fit * height}px`;
  sheet.replaceChildren(
    ...(other ? [copy(shown, "left"), copy(other, "right")] : [copy(shown, "whole")]),
  );
  place();
}

function place() {
  sheet.style.transform = `translate(${move[0]}px, ${move[1]}px) scale(${zoom})`;
}

// Zoom by a factor around a place, in pixels from the middle.
function zoomBy(factor, [x, y] = [0, 0]) {
  const before = zoom;
  zoom = Math.min(32, Math.max(1, zoom * factor));
  const change = zoom / before;
  move = zoom === 1 ? [0, 0] : [x - (x - move[0]) * change, y - (y - move[1]) * change];
  place();
}

function enlarge(card) {
  shown = card;
  zoom = 1;
  move = [0, 0];
  if (!enlarged.open) enlarged.showModal();
  draw();
}

function go(steps) {
  const all = cards();
  shown = all[(all.indexOf(shown) + steps + all.length) % all.length];
  draw();
}

const actions = {
  previous: () => go(-1),
  next: () => go(1),
  in: () => zoomBy(1.5),
  out: () => zoomBy(1 / 1.5),
  fit: () => zoomBy(0),
  close: () => enlarged.close(),
};
for (const button of element.querySelectorAll("[data-do]")) {
  button.onclick = actions[button.dataset.do];
}
beside.onchange = draw;
split.oninput = () => sheet.style.setProperty("--split", `${split.value}%`);
space.onwheel = (event) => {
  event.preventDefault();
  const frame = space.getBoundingClientRect();
  const middle = [frame.left + frame.width / 2, frame.top + frame.height / 2];
  zoomBy(event.deltaY < 0 ? 1.2 : 1 / 1.2, [event.clientX - middle[0], event.clientY - middle[1]]);
};
space.onpointerdown = (event) => space.setPointerCapture(event.pointerId);
space.onpointermove = (event) => {
  if (!space.hasPointerCapture(event.pointerId) || zoom === 1) return;
  move = [move[0] + event.movementX, move[1] + event.movementY];
  place();
};
document.addEventListener("click", (event) => {
  const picture = event.target.closest?.("#results .overlay");
  if (picture && !picture.closest("button")) enlarge(picture.closest(".card"));
});
new ResizeObserver(() => enlarged.open && draw()).observe(space);

// Another threshold or view redraws the cards, and so what is enlarged.
function followCards() {
  const results = page("#results");
  if (!results) return setTimeout(followCards, 50); // The page is still being put together.
  new MutationObserver(() => enlarged.open && draw()).observe(results, {
    childList: true,
    subtree: true,
    attributes: true,
    attributeFilter: ["src"],
  });
}
followCards();

// ---- keys ----

const press = (selector) => () => page(selector)?.click();
const shortcuts = {
  r: press("#run"),
  "+": press("#annotator [data-tool=foreground]"),
  "=": press("#annotator [data-tool=foreground]"),
  "-": press("#annotator [data-tool=background]"),
  "−": press("#annotator [data-tool=background]"),
  z: press("#annotator [data-do=undo]"),
  "?": () => keys.showModal(),
};
const whenEnlarged = {
  ArrowLeft: actions.previous,
  ArrowRight: actions.next,
  "+": actions.in,
  "=": actions.in,
  "-": actions.out,
  "−": actions.out,
  0: actions.fit,
};
const TYPED = "input:not([type=checkbox], [type=radio]), textarea, select, [contenteditable=true]";

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || keys.open) return;
  if (!page("#desk")?.offsetParent || event.target.closest?.(TYPED)) return;
  const onPicture = event.target.matches?.("#results .overlay");
  if (onPicture && ["Enter", " "].includes(event.key)) {
    event.preventDefault();
    return enlarge(event.target.closest(".card"));
  }
  const table = enlarged.open ? whenEnlarged : shortcuts;
  const view = page(`#view label:nth-child(${Number(event.key) || 0}) input`);
  const act = view ? () => view.click() : (table[event.key.toLowerCase()] ?? table[event.key]);
  if (!act) return;
  event.preventDefault();
  act();
});
element.querySelector(".help").onclick = shortcuts["?"];
