// What a page keeps: choices on the device, a token for as long as the tab lives. Where the browser keeps nothing
// (private windows of some), memory does.

const keep = kept(() => window.localStorage);
const keepHere = kept(() => window.sessionStorage);

function kept(storage) {
  const memory = {};
  return {
    get(name) {
      try {
        return storage().getItem("liangma." + name);
      } catch (refused) {
        return name in memory ? memory[name] : null;
      }
    },
    set(name, value) {
      memory[name] = value;
      try {
        if (value === null) storage().removeItem("liangma." + name);
        else storage().setItem("liangma." + name, value);
      } catch (refused) {
        // Memory has it.
      }
    },
  };
}

// The token behind the # of the address, which no server ever sees; it leaves the address bar, and so the history and
// every screenshot, before anything else happens. Where the tab has another already, whoever holds the device is asked: a link that
// somebody sent must not take the place of the own session unseen.
function token(name) {
  return tokens({ [name]: name })[name];
}

// The same for some tokens of one link: by their names in it, the names under which the tab keeps them. A link with any of them
// takes the place of all. `n` is what the link calls the place or office; it is printed and nothing else.
function tokens(names) {
  const found = {};
  for (const name of Object.keys(names)) {
    const one = new RegExp("[#&]" + name + "=([A-Za-z0-9_.~-]{1,1024})").exec(location.hash);
    if (one) found[name] = one[1];
  }
  const called = /[#&]n=([^&]{1,192})/.exec(location.hash);
  if (location.hash) history.replaceState(null, "", location.pathname + location.search);
  const had = {};
  for (const name of Object.keys(names)) had[name] = keepHere.get(names[name]);
  const label = Object.keys(names).map((name) => names[name])[0] + "_called";
  const others = Object.keys(found).some((name) => had[name] && had[name] !== found[name]);
  if (Object.keys(found).length && (!others || window.confirm(say("replace")))) {
    for (const name of Object.keys(names)) keepHere.set(names[name], found[name] || null);
    if (called) keepHere.set(label, decoded(called[1]));
    else if (others) keepHere.set(label, null);
  }
  const kept = { n: keepHere.get(label) };
  for (const name of Object.keys(names)) kept[name] = keepHere.get(names[name]);
  return kept;
}

function decoded(words) {
  try {
    return decodeURIComponent(words).slice(0, 48);
  } catch (garbled) {
    return null;
  }
}

// What the identity platform sent back: an assertion, for whoever was sent there from this tab and for nobody else. Read before
// the token is, which cleans the address.
function broughtBack() {
  const found = /^#a=([A-Za-z0-9_.-]{1,8192})&state=([0-9a-f]{32})$/.exec(location.hash);
  if (!found) return null;
  history.replaceState(null, "", location.pathname + location.search);
  let sent = null;
  try {
    sent = JSON.parse(keepHere.get("adding"));
  } catch (garbled) {
    // Nobody was sent.
  }
  keepHere.set("adding", null);
  return sent && sent.word === found[2] ? { assertion: found[1], student: Boolean(sent.student) } : null;
}
