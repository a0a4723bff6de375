// The methods as ticks, grouped; props.value is { keys, by_hand }.
const search = element.querySelector("input[type=search]");
const onlyReady = element.querySelector(".ready");
const groups = element.querySelector(".groups");

const selected = () => new Set((props.value || { keys: [] }).keys);

function select(keys, byHand) {
  props.value = { keys: [...keys], by_hand: byHand };
  tick();
  trigger("input");
}

function build() {
  groups.replaceChildren(...props.groups.map(buildGroup));
  // With nothing ready, the reasons are what there is to see.
  const some = props.groups.some((group) => group.methods.some((one) => !one.problem));
  if (!some) onlyReady.checked = false;
  tick();
  filter();
}

function buildGroup(group) {
  const box = document.createElement("fieldset");
  const legend = document.createElement("legend");
  const all = checkbox();
  all.className = "all";
  all.onchange = () => {
    const keys = selected();
    for (const { key, problem } of group.methods) {
      if (all.checked && !problem) keys.add(key);
      else keys.delete(key);
    }
    select(keys, true);
  };
  legend.append(labelled(all, group.title));
  box.append(legend, ...group.methods.map(buildMethod));
  return box;
}

function buildMethod({ key, title, summary, problem }) {
  const tickBox = checkbox();
  tickBox.dataset.key = key;
  tickBox.disabled = Boolean(problem);
  tickBox.onchange = () => {
    const keys = selected();
    if (tickBox.checked) keys.add(key);
    else keys.delete(key);
    select(keys, true);
  };
  const line = labelled(tickBox, title);
  line.className = "method";
  line.title = problem ? `Not available: ${problem}.` : summary;
  if (problem) {
    const reason = document.createElement("small");
    reason.textContent = problem;
    line.append(reason);
  }
  return line;
}

function checkbox() {
  const box = document.createElement("input");
  box.type = "checkbox";
  return box;
}

function labelled(box, text) {
  const label = document.createElement("label");
  const words = document.createElement("span");
  words.textContent = text;
  label.append(box, words);
  return label;
}

function tick() {
  const keys = selected();
  const chosen = [];
  for (const group of groups.children) {
    const boxes = [...group.querySelectorAll(".method input")];
    for (const box of boxes) {
      box.checked = keys.has(box.dataset.key);
      if (box.checked) chosen.push(box.nextSibling.textContent);
    }
    const all = group.querySelector(".all");
    const ticked = boxes.filter((box) => box.checked).length;
    all.checked = ticked > 0 && ticked === boxes.filter((box) => !box.disabled).length;
    all.indeterminate = ticked > 0 && !all.checked;
  }
  const fold = document.querySelector("#methods-titles");
  if (!fold) return setTimeout(tick, 50); // The page is still being put together.
  fold.textContent = short(chosen).join(", ") || "None selected";
  fold.title = chosen.join("\n");
}

// Names without the mode, unless a method is chosen in several modes.
function short(titles) {
  const names = titles.map((title) => title.split(" · ")[0]);
  return titles.map((title, index) =>
    names.filter((name) => name === names[index]).length > 1 ? title : names[index],
  );
}

function filter() {
  const words = search.value.trim().toLowerCase().split(/\s+/);
  for (const group of groups.children) {
    let some = false;
    for (const line of group.querySelectorAll(".method")) {
      const text = `${line.textContent} ${line.title}`.toLowerCase();
      const box = line.querySelector("input");
      const shown =
        (!onlyReady.checked || !box.disabled) && words.every((word) => text.includes(word));
      line.hidden = !shown;
      some ||= shown;
    }
    group.hidden = !some;
  }
}

search.oninput = filter;
onlyReady.onchange = filter;
element.querySelector("[data-do=default]").onclick = () => select(props.defaults, false);

watch("groups", build);
watch("value", tick);
build();
