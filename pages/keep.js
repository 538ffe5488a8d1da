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
  const found = new RegExp("[#&]" + name + "=([A-Za-z0-9_.~-]{1,1024})").exec(location.hash);
  if (location.hash) history.replaceState(null, "", location.pathname + location.search);
  const had = keepHere.get(name);
  if (found && (!had || had === found[1] || window.confirm(say("replace")))) keepHere.set(name, found[1]);
  return keepHere.get(name);
}
