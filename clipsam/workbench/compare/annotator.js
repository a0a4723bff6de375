// The canvas: marks live in props.value, in pixels of the original image.
const stage = element.querySelector(".stage");
const picture = element.querySelector(".picture");
const canvas = element.querySelector("canvas");
const chips = element.querySelector(".classes");
const pen = canvas.getContext("2d");
let tool = "foreground";
let dragged = null; // [x0, y0, x1, y1] while a box is being drawn
let cursor = null; // [x, y] that the keyboard moves, while it does

const marked = () => props.value || { active: null, marks: [] };
// As clipsam/marks.py: the class shown under a name, else the first with such a synonym.
const folded = (name) => String(name ?? "").normalize("NFC").trim().split(/\s+/).join(" ").toLowerCase();
const classNamed = (name) =>
  props.classes.find((one) => one.names[0] === folded(name)) ??
  props.classes.find((one) => one.names.includes(folded(name)));

function commit(change, event) {
  props.value = { ...marked(), ...change };
  draw();
  trigger(event);
}

// ---- the picture ----

function showPicture() {
  const [width, height] = props.size;
  stage.classList.toggle("filled", Boolean(props.picture));
  if (!props.picture) return;
  element.querySelector(".size").textContent = `${width} × ${height} pixels`;
  stage.style.aspectRatio = `${width} / ${height}`;
  stage.style.maxWidth = `calc(var(--tallest, 60vh) * ${width / height})`;
  // Few pixels are shown as squares, not as a blur.
  document.documentElement.style.setProperty("--rendering", width < 64 ? "pixelated" : "auto");
  picture.src = props.picture;
  // The result cards lay their masks over the same picture, without it being sent again.
  fetch(props.picture)
    .then((answer) => answer.blob())
    .then((blob) => {
      URL.revokeObjectURL(stage.dataset.url || "");
      stage.dataset.url = URL.createObjectURL(blob);
      document.documentElement.style.setProperty("--picture", `url(${stage.dataset.url})`);
    });
}

// ---- the toolbar ----

function showClasses() {
  if (!classNamed(marked().active) && props.classes.length) {
    props.value = { ...marked(), active: props.classes[0].name };
  }
  chips.replaceChildren(
    ...props.classes.map(({ name, colour }) => {
      const chip = document.createElement("button");
      chip.type = "button";
      chip.role = "radio";
      chip.className = "chip";
      chip.title = `Points and boxes belong to “${name}”`;
      chip.textContent = name;
      chip.style.setProperty("--c", colour);
      chip.ariaChecked = String(name === classNamed(marked().active)?.name);
      chip.onclick = () => {
        commit({ active: name }, "select");
        showClasses();
      };
      return chip;
    }),
  );
}

function showTool() {
  for (const button of element.querySelectorAll("[data-tool]")) {
    button.ariaChecked = String(button.dataset.tool === tool);
  }
}

for (const button of element.querySelectorAll("[data-tool]")) {
  button.onclick = () => {
    tool = button.dataset.tool;
    showTool();
  };
}
element.querySelector("[data-do=undo]").onclick = () => {
  if (marked().marks.length) commit({ marks: marked().marks.slice(0, -1) }, "input");
};
element.querySelector("[data-do=clear]").onclick = () => {
  if (marked().marks.length) commit({ marks: [] }, "input");
};

// ---- points and boxes ----

function position(event) {
  const frame = canvas.getBoundingClientRect();
  const inside = (value, size) => Math.min(size, Math.max(0, value * size));
  return [
    inside((event.clientX - frame.left) / frame.width, props.size[0]),
    inside((event.clientY - frame.top) / frame.height, props.size[1]),
  ];
}

function add(mark) {
  commit({ marks: [...marked().marks, { class: marked().active, ...mark }] }, "input");
}

canvas.onpointerdown = (event) => {
  cursor = null;
  if (event.button !== 0 || !classNamed(marked().active)) return;
  const [x, y] = position(event);
  if (tool === "box") {
    canvas.setPointerCapture(event.pointerId);
    dragged = [x, y, x, y];
  }
};
canvas.onpointermove = (event) => {
  if (!dragged) return;
  dragged.splice(2, 2, ...position(event));
  draw();
};
canvas.onpointerup = endBox;

function endBox() {
  if (!dragged) return;
  const [xa, ya, xb, yb] = dragged;
  dragged = null;
  const box = [Math.min(xa, xb), Math.min(ya, yb), Math.max(xa, xb), Math.max(ya, yb)];
  const scale = canvas.clientWidth / props.size[0];
  const wide = (box[2] - box[0]) * scale > 3 && (box[3] - box[1]) * scale > 3;
  if (wide) add({ box });
  else draw();
}

canvas.onpointercancel = () => {
  dragged = null;
  draw();
};
canvas.onclick = (event) => {
  if (tool === "box" || !classNamed(marked().active)) return;
  const [x, y] = position(event);
  add({ x, y, label: tool === "foreground" ? 1 : 0 });
};

// ---- the same by keyboard ----

const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

canvas.onkeydown = (event) => {
  if (!props.picture || !classNamed(marked().active)) return;
  const [width, height] = props.size;
  cursor ??= [width / 2, height / 2];
  if (event.key in steps) {
    const far = Math.max(width, height) / (event.shiftKey ? 200 : 40);
    const inside = (value, size) => Math.min(size, Math.max(0, value));
    cursor = [
      inside(cursor[0] + far * steps[event.key][0], width),
      inside(cursor[1] + far * steps[event.key][1], height),
    ];
    if (dragged) dragged.splice(2, 2, ...cursor);
    draw();
  } else if (event.key === "Enter" || event.key === " ") {
    if (tool !== "box") add({ x: cursor[0], y: cursor[1], label: tool === "foreground" ? 1 : 0 });
    else if (dragged) endBox();
    else dragged = [...cursor, ...cursor];
  } else if (event.key === "Escape") {
    dragged = cursor = null;
    draw();
  } else return;
  event.preventDefault();
};
canvas.onblur = () => {
  dragged = cursor = null;
  draw();
};

function draw() {
  const ratio = window.devicePixelRatio || 1;
  canvas.width = canvas.clientWidth * ratio;
  canvas.height = canvas.clientHeight * ratio;
  const scale = canvas.width / (props.size[0] || 1);
  const { active, marks } = marked();
  const lastBox = {};
  for (const mark of marks) if (mark.box) lastBox[classNamed(mark.class)?.name] = mark;
  for (const mark of marks) {
    const owner = classNamed(mark.class);
    if (!owner || (mark.box && lastBox[owner.name] !== mark)) continue;
    pen.globalAlpha = owner === classNamed(active) ? 1 : 0.55;
    if (mark.box) drawBox(mark.box, owner.colour, scale, ratio);
    else drawPoint(mark, owner.colour, scale, ratio);
  }
  pen.globalAlpha = 1;
  if (dragged) drawBox(dragged, classNamed(active).colour, scale, ratio);
  if (cursor) drawCursor(cursor, scale, ratio);
}

function drawCursor([x, y], scale, ratio) {
  for (const [style, width] of [["#000", 3], ["#fff", 1]]) {
    pen.beginPath();
    pen.moveTo(x * scale, 0);
    pen.lineTo(x * scale, canvas.height);
    pen.moveTo(0, y * scale);
    pen.lineTo(canvas.width, y * scale);
    pen.strokeStyle = style;
    pen.lineWidth = width * ratio;
    pen.stroke();
  }
}

function drawBox([x0, y0, x1, y1], colour, scale, ratio) {
  const frame = [x0 * scale, y0 * scale, (x1 - x0) * scale, (y1 - y0) * scale];
  for (const [style, width] of [["#000", 4], [colour, 2.5]]) {
    pen.strokeStyle = style;
    pen.lineWidth = width * ratio;
    pen.strokeRect(...frame);
  }
}

function drawPoint({ x, y, label }, colour, scale, ratio) {
  const r = 7 * ratio;
  pen.beginPath();
  pen.arc(x * scale, y * scale, r, 0, 2 * Math.PI);
  pen.fillStyle = label ? colour : "#111";
  pen.fill();
  pen.lineWidth = 2 * ratio;
  pen.strokeStyle = label ? "#fff" : colour;
  pen.stroke();
  pen.beginPath();
  pen.moveTo(x * scale - r / 2, y * scale);
  pen.lineTo(x * scale + r / 2, y * scale);
  if (label) {
    pen.moveTo(x * scale, y * scale - r / 2);
    pen.lineTo(x * scale, y * scale + r / 2);
  }
  pen.strokeStyle = label ? "#000" : "#fff";
  pen.stroke();
}

// ---- choosing, dropping and pasting images: all go through the upload button ----

const chooser = () => document.querySelector("#picture-upload input[type=file]");

function upload(chosen) {
  const input = chooser();
  if (!input) return setTimeout(upload, 50, chosen); // The page is still being put together.
  const files = new DataTransfer();
  for (const file of chosen) files.items.add(file);
  input.files = files.files;
  input.dispatchEvent(new Event("change", { bubbles: true }));
}

element.querySelector(".empty").onclick = () => chooser()?.click();
stage.ondragover = (event) => event.preventDefault();
stage.ondrop = (event) => {
  event.preventDefault();
  if (event.dataTransfer.files.length) upload([...event.dataTransfer.files]);
};
document.addEventListener("paste", (event) => {
  if (event.clipboardData.files.length) upload([...event.clipboardData.files]);
});

watch(["picture", "size"], showPicture);
watch(["classes", "value"], showClasses);
watch(["picture", "size", "classes", "value"], draw);
new ResizeObserver(draw).observe(canvas);
showPicture();
showClasses();
showTool();
