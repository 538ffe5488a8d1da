// One offline code, kept on the phone for the time when a show fails. It carries no colour, so it is no old colour that is shown: the gate
// looks the colour up. It is kept for the session's own holder alone, and goes with the session.

// A new one at most so often, made at a random moment of the minutes after a good show.
const SAVE_EVERY = 12 * 3600000;
const SAVE_WITHIN = 5 * 60000;

const saved = {
  code: readSaved(),
  // When to ask for the next, once a show was good; null where none is issued here.
  next: { from: moment(), after: Math.random() * SAVE_WITHIN },
  asking: false,
  none: keepHere.get("no-offline") === "1",
  drawn: "",
};

function readSaved() {
  try {
    const kept = JSON.parse(keep.get("offline"));
    return kept && kept.code && Date.parse(kept.expires_at) > Date.now() ? kept : null;
  } catch (garbled) {
    return null;
  }
}

function forgetSaved() {
  saved.code = null;
  keep.set("offline", null);
}

/** Called with each look at the page: asks for a code where one is due. Only after a good show, so that nobody who is busy is asked. */
function saveOffline() {
  if (!held.own) return saved.code && forgetSaved();
  if (saved.none || saved.asking || held.member || held.trouble || !held.answer || document.hidden) return undefined;
  // Of another who logged in on this phone nothing is kept.
  if (saved.code && saved.code.cert_no + saved.code.name !== held.answer.cert_no + held.answer.name) forgetSaved();
  const young = saved.code && Date.now() - Date.parse(saved.code.issued_at) < SAVE_EVERY;
  if (young || since(saved.next.from) < saved.next.after) return undefined;
  saved.asking = true;
  const { round } = held;
  return ask("v1/code/offline", { credential: held.own }).then(({ answer, refusal }) => {
    saved.asking = false;
    saved.next = { from: moment(), after: SAVE_WITHIN * (1 + Math.random()) };
    if (refusal && refusal.status === 404) {
      saved.none = true;
      keepHere.set("no-offline", "1");
    }
    if (!answer || !answer.code || round !== held.round) return;
    saved.code = answer;
    keep.set("offline", JSON.stringify(answer));
  });
}

/** The kept code, where there is no live one to show. */
function renderSaved(now) {
  const shows = saved.code && held.own && !held.member && (now === "trouble" || now === "past")
    && Date.parse(saved.code.expires_at) > Date.now();
  if (!part("saved")) {
    if (!shows) return;
    buildSaved();
  }
  show("saved", Boolean(shows));
  if (!shows) return;
  const { code, name, cert_no, issued_at, expires_at } = saved.code;
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
  const { code, name, cert_no, issued_at, expires_at } = saved.code;
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
