// Offline codes, kept on the phone for the time when a show fails: the resident's own and those of the family. They carry no colour, so it is
// no old colour that is shown: the gate looks the colour up. They go with the session.

// A new one at most so often, made at a random moment of the minutes after a good show.
const SAVE_EVERY = 12 * 3600000;
const SAVE_WITHIN = 5 * 60000;

// `mark` tells the session under which they were kept, and `codes` has them by holder: "" the resident, or a member's id.
const saved = Object.assign({
  // When to ask for the next, once a show was good.
  next: { from: moment(), after: Math.random() * SAVE_WITHIN },
  asking: false,
  // Whether none are issued here.
  none: keepHere.get("no-offline") === "1",
  drawn: "",
}, readSaved());

function readSaved() {
  const codes = {};
  let mark = "";
  try {
    const kept = JSON.parse(keep.get("offline"));
    mark = kept.mark;
    for (const holder of Object.keys(kept.codes)) if (isInForce(kept.codes[holder])) codes[holder] = kept.codes[holder];
  } catch (garbled) {
    // As if none were kept.
  }
  return { mark, codes };
}

function isInForce(code) {
  return Boolean(code && code.code) && Date.parse(code.expires_at) > Date.now();
}

function writeSaved() {
  const some = Object.keys(saved.codes).length > 0;
  keep.set("offline", some ? JSON.stringify({ mark: saved.mark, codes: saved.codes }) : null);
}

function forgetSaved() {
  if (!Object.keys(saved.codes).length) return;
  saved.codes = {};
  writeSaved();
}

// Tells sessions apart, and says nothing of one.
function markOf(session) {
  let mark = 0x811c9dc5;
  for (const letter of session) mark = Math.imul(mark ^ letter.charCodeAt(0), 0x01000193);
  return String(mark >>> 0);
}

// After a good show of the resident it is known whose the kept codes are. Of another who logged in on this phone nothing is kept,
// nor of who is no member any more.
function settleSaved() {
  const own = saved.codes[""];
  if (!held.member && saved.mark !== markOf(held.own)) {
    if (!own || own.cert_no + own.name !== held.answer.cert_no + held.answer.name) forgetSaved();
    saved.mark = markOf(held.own);
    writeSaved();
  }
  if (!family.max) return;
  for (const holder of Object.keys(saved.codes)) {
    if (!holder || family.members.some((one) => one.id === holder)) continue;
    delete saved.codes[holder];
    writeSaved();
  }
}

// The first whose code is missing or old: the resident, then the members for whom there is a session.
function dueForSaving() {
  const holders = [{ id: "", session: held.own }].concat(family.members.filter(isGood));
  return holders.find(({ id }) => !isInForce(saved.codes[id]) || Date.now() - Date.parse(saved.codes[id].issued_at) >= SAVE_EVERY);
}

/** Called with each look at the page: asks for a code where one is due. Only after a good show, so that nobody who is busy is asked. */
function saveOffline() {
  if (!held.own) return forgetSaved();
  if (saved.none || saved.asking || held.trouble || !held.answer || document.hidden) return undefined;
  settleSaved();
  const due = since(saved.next.from) < saved.next.after || saved.mark !== markOf(held.own) ? null : dueForSaving();
  if (!due) return undefined;
  saved.asking = true;
  const { own } = held;
  return ask("v1/code/offline", { credential: due.session }).then(({ answer, refusal }) => {
    saved.asking = false;
    // The next holder's soon; after a refusal not so soon.
    saved.next = { from: moment(), after: SAVE_WITHIN * (answer ? Math.random() : 1 + Math.random()) };
    if (refusal && refusal.status === 404) {
      saved.none = true;
      keepHere.set("no-offline", "1");
    }
    if (!answer || !answer.code || own !== held.own) return;
    saved.codes[due.id] = answer;
    writeSaved();
  });
}

// Of whom is shown.
function savedCode() {
  if (!held.own || saved.mark !== markOf(held.own)) return null;
  const code = saved.codes[held.member ? held.member.id : ""];
  return isInForce(code) ? code : null;
}

/** The kept code, where there is no live one to show; below a live one for as long as that may be scanned. */
function renderSaved(now, scannable) {
  const kept = now === "trouble" || now === "past" ? savedCode() : null;
  if (!part("saved")) {
    if (!kept) return;
    buildSaved();
  }
  show("saved", Boolean(kept));
  if (!kept) return;
  const above = part(scannable ? "checked" : "verdict");
  if (above.nextElementSibling !== part("saved")) above.after(part("saved"));
  const { code, name, cert_no, issued_at, expires_at } = kept;
  text("saved-title", say("saved"));
  text("saved-says", say("saved_says", inChina(issued_at), inChina(expires_at)));
  text("saved-who", name + " " + cert_no);
  text("saved-note", say("saved_note"));
  text("saved-print", say("saved_print"));
  part("saved-code").setAttribute("aria-label", say("saved"));
  if (saved.drawn !== code) {
    saved.drawn = code;
    drawCode(part("saved-code"), code, 6);
  }
}

function buildSaved() {
  const named = (tag, id, ...content) => {
    const made = element(tag, ...content);
    made.id = id;
    return made;
  };
  const canvas = named("canvas", "saved-code");
  canvas.setAttribute("role", "img");
  const print = named("button", "saved-print");
  print.type = "button";
  print.addEventListener("click", printSaved);
  const card = named("section", "saved", named("h2", "saved-title"), canvas,
    named("p", "saved-who"), named("p", "saved-says"), named("p", "saved-note"), print);
  part("verdict").after(card);
}

// The page itself is not for print. A card beside it is, for as long as it is being printed.
function printSaved() {
  const kept = savedCode();
  if (!kept) return;
  const { code, name, cert_no, issued_at, expires_at } = kept;
  const picture = element("canvas");
  drawCode(picture, code, 6);
  const card = element("section", picture, element("h2", say("saved_title")), element("p", name + " " + cert_no),
    element("p", say("saved_says", inChina(issued_at), inChina(expires_at))), element("p", say("saved_note")));
  card.id = "saved-card";
  document.body.appendChild(card);
  document.body.dataset.card = "";
  window.addEventListener("afterprint", () => {
    card.remove();
    delete document.body.dataset.card;
  }, { once: true });
  window.print();
}
