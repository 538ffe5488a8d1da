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

// The same with attributes; what is undefined or false is left out, and true stands for itself.
function made(tag, attributes, ...content) {
  const one = element(tag, ...content);
  for (const name of Object.keys(attributes)) {
    const value = attributes[name];
    if (value !== undefined && value !== false) one.setAttribute(name, value === true ? "" : value);
  }
  return one;
}

function button(words, act, style) {
  const one = made("button", { type: "button", class: style }, words);
  one.addEventListener("click", act);
  return one;
}

function row(cells) {
  return element("tr", ...cells.map((cell) => element("td", cell)));
}

function fill(id, parts) {
  part(id).textContent = "";
  for (const one of parts) part(id).appendChild(one);
}

// Loads a part of the page that is not needed at first; once, and again where it failed.
const loading = {};

function load(address) {
  loading[address] = loading[address] || new Promise((resolve, reject) => {
    const script = made("script", { src: address });
    script.onload = resolve;
    script.onerror = () => {
      delete loading[address];
      reject(new Error("offline"));
    };
    document.head.appendChild(script);
  });
  return loading[address];
}
