// What the layout needs to know: the bar's height, and where a run's first answer is.
function start() {
  const bar = document.querySelector("#bar");
  const run = document.querySelector("#run");
  if (!bar || !run) return setTimeout(start, 50); // The page is still being put together.
  new ResizeObserver(() => {
    document.documentElement.style.setProperty("--bar", `${bar.offsetHeight}px`);
  }).observe(bar);
  run.addEventListener("click", showFirstAnswer);
}

// In one column the answers are below everything else: go there once the first has come.
const oneColumn = matchMedia("(max-width: 999px)");
function showFirstAnswer() {
  if (!oneColumn.matches) return;
  const last = performance.now() + 60000;
  const before = document.querySelector("#results .overlay");
  const look = () => {
    const answer = document.querySelector("#results .overlay");
    if (answer && answer !== before) answer.closest(".card").scrollIntoView({ block: "start" });
    else if (performance.now() < last) setTimeout(look, 100);
  };
  look();
}

start();
