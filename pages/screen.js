// The parts of a page by their names. Only what changes is written: a screen reader says what is written again.

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
