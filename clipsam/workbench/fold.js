// A button that opens the panel named by its aria-controls, over the page.
const button = element.querySelector("button");
const panel = () => document.getElementById(button.getAttribute("aria-controls"));

function unfold(open) {
  button.ariaExpanded = String(open);
  panel()?.classList.toggle("open", open);
  if (open) panel()?.querySelector("input[type=search]")?.focus();
}

button.onclick = () => unfold(button.ariaExpanded !== "true");
document.addEventListener("pointerdown", (event) => {
  const inside = panel()?.contains(event.target) || element.contains(event.target);
  if (button.ariaExpanded === "true" && !inside) unfold(false);
});
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape" || button.ariaExpanded !== "true") return;
  unfold(false);
  button.focus();
});
