// Sheets: one matter at a time over the page, each under the one before. A sheet is left by its button, by Escape, or by going
// back, and focus and place return to where it was opened.

// How each sheet is drawn: a function of its body, which may return what is to be done when it is left. Those that come with a
// part of the page are put here by that part.
const SHEETS = {};
const sheets = []; // those that are open, the last one seen: { id, title, body, from, scroll }

// `title` is in the page's language; `address` is that of the part that draws it, where it may not be here yet.
function openSheet(id, title, address, argument) {
  const body = element("div", element("p", say("loading_part")));
  // Some browsers give no focus to what is tapped.
  const opens = '[data-sheet="' + id + '"]';
  const tapped = document.activeElement.matches(opens) || sheets.length
    ? document.activeElement
    : Array.from(document.querySelectorAll(opens)).find((one) => one.getClientRects().length) || document.activeElement;
  sheets.push({ id, title, body, from: tapped, scroll: window.pageYOffset });
  history.pushState({ depth: sheets.length }, "");
  part("sheet-body").appendChild(body);
  drawSheet();
  const open = sheets[sheets.length - 1];
  const draw = () => {
    if (sheets.indexOf(open) < 0) return;
    body.textContent = "";
    open.end = SHEETS[id](body, argument);
  };
  const fetchPart = () => (SHEETS[id] ? Promise.resolve() : load(address)).then(draw, () => {
    body.textContent = "";
    body.appendChild(element("p", say("away")));
    body.appendChild(button(say("again_now"), fetchPart, "primary"));
  });
  return fetchPart();
}

function drawSheet() {
  const top = sheets[sheets.length - 1];
  show("front", !top);
  show("sheet", Boolean(top));
  if (!top) return;
  text("sheet-title", top.title);
  for (const one of sheets) one.body.hidden = one !== top;
  window.scrollTo(0, 0);
  part("sheet-title").focus();
}

function closeSheets(depth) {
  if (sheets.length <= depth) return;
  let last;
  while (sheets.length > depth) {
    last = sheets.pop();
    if (typeof last.end === "function") last.end();
    part("sheet-body").removeChild(last.body);
  }
  drawSheet();
  window.scrollTo(0, last.scroll);
  if (last.from && document.contains(last.from)) last.from.focus();
}

// Closes them all at once, without waiting for the browser to go back.
function leaveSheets() {
  const depth = sheets.length;
  closeSheets(0);
  if (depth) history.go(-depth);
}

function offerSheets() {
  part("sheet-back").addEventListener("click", () => history.back());
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && sheets.length) history.back();
  });
  window.addEventListener("popstate", (event) => {
    // A link with another token is no way back.
    if (!location.hash) closeSheets(event.state && event.state.depth ? event.state.depth : 0);
  });
}
