// The parts of a page by their names, and new ones. Only what changes is written: a screen reader says what is written again.

const part = (id) => document.getElementById(id);

function text(id, words) {
  const element = part(id);
  if (element.textContent !== words) element.textContent = words;
}

function show(id, visible) {
  part(id).hidden = !visible;
}

function set(element, name, value) {
  if (element.dataset[name] !== value) element.dataset[name] = value;
}

function press(id, on) {
  part(id).setAttribute("aria-pressed", String(on));
}

// A new part, of words and of other parts.
function element(tag, ...content) {
  const made = document.createElement(tag);
  for (const one of content) made.appendChild(one instanceof Node ? one : document.createTextNode(one));
  return made;
}

function row(cells) {
  return element("tr", ...cells.map((cell) => element("td", cell)));
}

function fill(id, parts) {
  part(id).textContent = "";
  for (const one of parts) part(id).appendChild(one);
}
