// The resident's page: brings up the code, keeps it fresh, and never shows as current what is not.
// What is seen follows from `held` and the time alone; `ask` is the only way to the service.

const brought = broughtBack();
const own = token("s");
const held = {
  own,
  session: own, // of whom is shown: the resident, or a family member
  member: null,
  round: 0, // one more with each change of who is shown: what was asked before is not theirs
  answer: null, // the last code, with `born`, when it was asked for, and `life`, how long it may be scanned (ms)
  trouble: null, // why the last attempt brought none: { code, says }
  asking: false,
  failures: 0,
  next: { from: moment(), after: 0 }, // when to ask again
  drawn: "", // what the canvas shows
  notice: "", // what is said beside a code that is current
};

// Nobody is told to stay away for longer: two minutes, and the spread.
const AWAY_MOST = 240000;
const PASSING = ["busy", "upstream_busy", "warming", "draining", "rate_limited"];

function bringUp() {
  const born = moment();
  const { round } = held;
  held.asking = true;
  ask("v1/code", { credential: held.session }).then((outcome) => {
    if (round !== held.round) return;
    held.asking = false;
    if (outcome.answer && outcome.answer.code) take(outcome.answer, born);
    else if (outcome.refusal && (outcome.refusal.status === 401 || outcome.refusal.status === 403)) leave(outcome.refusal);
    else refused(outcome.refusal);
    render();
  });
}

function take(answer, born) {
  const issued = Date.parse(answer.issued_at);
  held.answer = answer;
  answer.born = born;
  answer.issued = issued;
  answer.life = Math.max(0, Date.parse(answer.expires_at) - issued);
  held.trouble = null;
  held.failures = 0;
  keepHere.set("away", null);
  familyInBackground();
  keepPage();
  // Somewhere in the last third before the time, so that those who came together do not return together.
  const refresh = Math.min(answer.refresh_after_ms || 30000, answer.life * 0.9);
  held.next = { from: born, after: Math.max(1000, refresh * (0.7 + 0.3 * Math.random())) };
}

// The page is kept on the device once it has shown a code, some time after, so that it takes nothing from showing one.
let keeping = false;

function keepPage() {
  if (keeping || !navigator.serviceWorker || window.isSecureContext === false) return;
  keeping = true;
  setTimeout(() => navigator.serviceWorker.register("sw.js").catch(() => {}), 3000 + 7000 * Math.random());
}

function refused(refusal) {
  held.failures += 1;
  const passes = refusal && PASSING.indexOf(refusal.code) >= 0;
  held.trouble = {
    code: refusal ? refusal.code || "away" : "silence",
    says: passes ? refusal.title || say("busy") : "",
  };
  // The service says when; where nothing says it: 2, 4, 8, 16, 30 s, each spread.
  const told = refusal && refusal.wait;
  const guess = Math.min(30000, 1000 * Math.pow(2, Math.min(5, held.failures)));
  held.next = { from: moment(), after: told ? told * (1 + 0.2 * Math.random()) : guess * (0.75 + 0.5 * Math.random()), told: Boolean(told) };
  if (told) keepHere.set("away", String(Date.now() + held.next.after));
}

// Whoever loads the page anew while told to stay away stays away.
function stayAway() {
  const left = Number(keepHere.get("away")) - Date.now();
  if (!(left > 0 && left <= AWAY_MOST)) return;
  held.trouble = { code: "busy", says: say("busy") };
  held.next = { from: moment(), after: left, told: true };
}

// Another is shown: nothing of the one before stays on the screen. Where that was not asked for, it is said first.
function become(session, member, says) {
  held.round += 1;
  held.session = session;
  held.member = member;
  held.asking = false;
  held.answer = null;
  if (!held.next.told || due()) {
    held.trouble = null;
    held.next = { from: moment(), after: 0 };
  }
  if (says) {
    held.trouble = { code: "member", says };
    held.next = { from: moment(), after: 5000 };
  }
  held.notice = "";
  closeDetails();
  leaveSheets();
  tick();
}

// The session is over; that of a member gives way to the own.
function leave(refusal) {
  if (held.member) return memberRefused(refusal);
  keepHere.set("s", null);
  keepHere.set("family", null);
  family.members = [];
  held.own = null;
  become(null, null);
}

function due() {
  return since(held.next.from) >= held.next.after;
}

function tick() {
  if (held.session && !held.asking && !document.hidden && due()) bringUp();
  render();
}

// Back from another page or from sleep, or the network is back: at once where the answer is old, unless told to stay away.
function back() {
  if (held.next.told && held.trouble) return tick();
  const old = held.trouble || !held.answer || since(held.answer.born) > 15000;
  if (old && !document.hidden) held.next = { from: moment(), after: 300 + 1200 * Math.random() * (held.trouble ? 1 : 0) };
  tick();
}

function view() {
  if (!held.session) return "login";
  const { answer, trouble } = held;
  if (!answer) return trouble ? "trouble" : "loading";
  if (trouble || since(answer.born) >= answer.life) return "past";
  return answer.state;
}

// What the colour of the browser's own bar says: the same.
const BAR = { green: "#0b7a3b", yellow: "#ffd21f", red: "#b4121d" };
const MARKS = { green: "✓", yellow: "!", red: "✕" };

function render() {
  const now = view();
  const { answer, trouble } = held;
  const elapsed = answer ? since(answer.born) : 0;
  const live = Boolean(MARKS[now]);
  set(document.body, "view", now);
  set(document.body, "assurance", answer && now !== "past" ? answer.assurance : "");
  if (live) document.body.dataset.live = "";
  else delete document.body.dataset.live;
  document.querySelector("[name=theme-color]").content = BAR[now] || "#4a5560";
  // A clock that runs says that what is under it is of now; where nobody is logged in there is nothing to say that of.
  show("clock", now !== "login");
  show("day", now !== "login");
  const clock = answer ? answer.issued + elapsed : Date.now();
  text("clock", clockTime(clock));
  const [day, zone] = dayOf(clock);
  text("date", day);
  text("zone", zone);
  renderVerdict(now, answer, elapsed);
  renderTrouble(now, trouble);
  const scannable = Boolean(answer) && elapsed < answer.life;
  show("card", Boolean(answer) && now !== "login");
  show("code", scannable);
  show("hint", scannable);
  show("code-over", Boolean(answer) && !scannable);
  text("code-left", now === "past" && scannable ? say("still", Math.ceil((answer.life - elapsed) / 1000)) : "");
  if (scannable && held.drawn !== answer.code) {
    held.drawn = answer.code;
    drawCode(part("code"), answer.code, 10);
  }
  show("who", Boolean(answer));
  show("checked", Boolean(answer) && now !== "past");
  show("for-whom", Boolean(held.member) && Boolean(answer));
  if (answer) {
    const tail = tailOf(answer.cert_no);
    text("name", answer.name);
    text("number", tail && tail !== answer.cert_no ? say("tail", tail) : answer.cert_no);
    text("assurance", say(answer.assurance) || "");
    text("as-of", "· " + say("as_of", clockTime(answer.as_of)) + (answer.stale ? " · " + say("stale") : ""));
    text("sheet-who", answer.name + " " + tail);
  }
  renderReasons(now, answer);
  saveOffline();
  renderSaved(now, scannable);
  show("sole", now !== "loading");
  show("family", Boolean(held.own) && (Boolean(answer) || family.members.length > 0));
  drawTabs();
  show("desk", Boolean(answer) && held.desk !== false);
  drawTiles();
  show("appeal-open", held.desk !== false);
}

function dayOf(time) {
  const tag = language === "en" ? "en-GB" : language;
  const day = new Date(time).toLocaleDateString(tag, { timeZone: "Asia/Shanghai", month: "long", day: "numeric", weekday: "long" });
  return [day, isElsewhere() ? say("beijing_time") : ""];
}

function renderVerdict(now, answer, elapsed) {
  show("mark", Boolean(MARKS[now]));
  text("mark", MARKS[now] || "");
  if (now === "past") {
    text("word", say("past"));
    text("sentence", say("past_says", say(answer.state), age(elapsed)));
  } else if (now === "login" || now === "loading" || now === "trouble") {
    text("word", now === "login" ? say("login") : now === "trouble" ? say("too_old") : "");
    text("sentence", now === "login" ? say("login_says") : now === "loading" ? say("loading") : "");
  } else {
    text("word", say(now));
    text("sentence", say(now + "_says"));
  }
}

function renderTrouble(now, trouble) {
  const refreshing = now === "past" && !trouble;
  show("trouble", Boolean(trouble) || refreshing || Boolean(held.notice));
  const offline = trouble && trouble.code === "silence";
  const says = trouble && (trouble.says || (offline && navigator.onLine === false ? say("offline") : say("away")));
  text("trouble-says", refreshing ? say("refreshing") : says || held.notice || "");
  const left = Math.ceil((held.next.after - since(held.next.from)) / 1000);
  text("trouble-wait", trouble ? (held.asking || left <= 0 ? say("refreshing") : say("again", left)) : "");
  // After a silence whoever holds the phone may try; after a refusal that named a time nobody may.
  show("again", Boolean(offline) && !held.asking && !held.next.told);
}

// At most once in three seconds.
function again() {
  if (held.asking || held.next.told || (held.pressed && since(held.pressed) < 3000)) return;
  held.pressed = moment();
  held.next = { from: moment(), after: 0 };
  tick();
}

function renderReasons(now, answer) {
  const reasons = answer && now !== "past" ? answer.reasons : [];
  show("why", reasons.length > 0);
  const key = language + JSON.stringify(reasons);
  const list = part("reasons");
  if (list.dataset.key === key) return;
  list.dataset.key = key;
  fill("reasons", reasons.map((reason) => element("li", element("strong", reason.text), calling(reason.guidance || ""))));
  closeDetails();
  show("details-open", held.explains !== false);
}

// A sentence in which the number to call is a link.
function calling(words) {
  const said = element("span");
  words.split("12345").forEach((piece, nth) => {
    if (nth) said.appendChild(made("a", { href: "tel:12345" }, "12345"));
    said.appendChild(document.createTextNode(piece));
  });
  return said;
}

function closeDetails() {
  show("details", false);
  part("details-open").setAttribute("aria-expanded", "false");
}

// What the desk adds is in a part of its own: since when, until when, where, and who said so.
function explain() {
  if (!part("details").hidden) return closeDetails();
  return load("{desk.js}").then(() => window.liangma.explain(), () => {
    text("details", say("away"));
    show("details", true);
  });
}

// What there is beside the code. The last ones concern the resident's own standing towards others, and are not a member's.
const TILES = ["health", "declare", "trip", "entry", "appeals", "family", "grants", "accesses"];
const OWN_TILES = ["family", "grants", "accesses"];

function drawTiles() {
  const key = language + (held.member ? "member" : "");
  const tiles = part("tiles");
  if (tiles.dataset.key === key) return;
  tiles.dataset.key = key;
  fill("tiles", TILES.filter((id) => !held.member || OWN_TILES.indexOf(id) < 0).map((id) => {
    const tile = button("", () => openTile(id), "tile");
    tile.dataset.sheet = id;
    tile.appendChild(made("i", { "aria-hidden": "true" }, say("glyph_" + id)));
    tile.appendChild(document.createTextNode(say("tile_" + id)));
    return tile;
  }));
}

function openTile(id) {
  return openSheet(id, say("tile_" + id), "{desk.js}");
}

function age(elapsed) {
  const seconds = Math.floor(elapsed / 1000);
  if (seconds < 60) return say("seconds", seconds);
  if (seconds < 3600) return say("minutes", Math.floor(seconds / 60));
  return say("hours", Math.floor(seconds / 3600));
}

function large(on) {
  if (on) document.documentElement.dataset.large = "";
  else delete document.documentElement.dataset.large;
  keep.set("large", on ? "1" : null);
}

// The network has gone: what is shown is not current from now on, and nobody waits for the next refresh to hear it.
function cut() {
  if (!held.session || held.asking || held.next.told) return;
  refused(null);
  render();
}

SHEETS.settings = (body) => {
  const languages = made("div", { class: "row", role: "group", "aria-label": say("languages") });
  for (const [tag, name] of [["zh-Hans", "简体中文"], ["zh-Hant", "繁體中文"], ["en", "English"]]) {
    languages.appendChild(made("button", { type: "button", "data-language": tag, lang: tag }, name));
  }
  const size = made("button", { type: "button", id: "large", "aria-pressed": String("large" in document.documentElement.dataset) }, say("large"));
  size.addEventListener("click", () => {
    large(!("large" in document.documentElement.dataset));
    press("large", "large" in document.documentElement.dataset);
  });
  body.appendChild(element("h2", say("languages")));
  body.appendChild(languages);
  body.appendChild(element("h2", say("text_size")));
  body.appendChild(made("div", { class: "row" }, size));
  if (held.own && held.desk !== false) {
    body.appendChild(element("h2", say("lost")));
    body.appendChild(made("p", { class: "quiet" }, say("lost_says")));
    body.appendChild(button(say("lost_open"), () => openSheet("lost", say("lost"), "{desk.js}")));
  }
  offerLanguages(() => {
    body.textContent = "";
    SHEETS.settings(body);
    text("sheet-title", say("tile_settings"));
    document.body.dataset.print = say("no_print");
    render();
  });
};

family.members = held.own ? keptFamily() : [];
offerLanguages(render);
offerSheets();
large(keep.get("large") === "1");
document.body.dataset.print = say("no_print");
part("settings").addEventListener("click", () => openTile("settings"));
part("details-open").addEventListener("click", explain);
part("again").addEventListener("click", again);
part("appeal-open").addEventListener("click", () => openTile("appeals"));
document.addEventListener("visibilitychange", back);
window.addEventListener("pageshow", back);
window.addEventListener("online", back);
window.addEventListener("offline", cut);
// Another link opened in this tab is another session.
window.addEventListener("hashchange", () => {
  if (!location.hash) return;
  const before = held.own;
  held.own = token("s");
  if (held.own === before) return;
  keepFamily([]);
  become(held.own, null);
});
// What the other parts of this page use.
window.liangma = {
  part, text, show, set, press, element, made, button, row, fill, load, say, learn, ask, askDesk, tellDesk, whyNot, sayWhyNot,
  moment, since, clockTime, inChina, dayInChina, keep, keepHere, tailOf, calling,
  language: () => language,
  held, family, readFamily, keepFamily, showFor, become, openSheet, SHEETS, sheets, closeDetails, render,
};
stayAway();
setInterval(tick, 250);
tick();
if (brought && held.own) openSheet("added", say("tile_family"), "{desk.js}", brought);
