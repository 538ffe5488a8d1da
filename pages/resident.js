// The resident's page: brings up the code, keeps it fresh, and never shows as current what is not.
// What is seen follows from `held` and the time alone; `ask` is the only way to the service.

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
    else if (outcome.refusal && (outcome.refusal.status === 401 || outcome.refusal.status === 403)) leave();
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
  // Somewhere in the last third before the time, so that those who came together do not return together.
  const refresh = Math.min(answer.refresh_after_ms || 30000, answer.life * 0.9);
  held.next = { from: born, after: Math.max(1000, refresh * (0.7 + 0.3 * Math.random())) };
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
  closeDetails();
  closeDesk();
  tick();
}

// The session is over; that of a member gives way to the own.
function leave() {
  if (held.member) return become(held.own, null, say("member_gone"));
  keepHere.set("s", null);
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

function render() {
  const now = view();
  const { answer, trouble } = held;
  const elapsed = answer ? since(answer.born) : 0;
  set(document.body, "view", now);
  set(document.body, "assurance", answer && now !== "past" ? answer.assurance : "");
  const clock = answer ? new Date(answer.issued + elapsed) : new Date();
  text("clock", clockTime(clock));
  text("day", clock.toLocaleDateString(language === "en" ? "en-GB" : language, { year: "numeric", month: "long", day: "numeric", weekday: "long" }));
  renderVerdict(now, answer, elapsed);
  renderTrouble(now, trouble);
  const scannable = Boolean(answer) && elapsed < answer.life;
  show("card", Boolean(answer) && now !== "login");
  show("code", scannable);
  show("code-over", Boolean(answer) && !scannable);
  text("code-left", now === "past" && scannable ? say("still", Math.ceil((answer.life - elapsed) / 1000)) : "");
  if (scannable) draw(answer.code);
  show("who", Boolean(answer));
  show("checked", Boolean(answer) && now !== "past");
  if (answer) {
    text("name", answer.name);
    text("number", answer.cert_no);
    text("assurance", say(answer.assurance) || "");
    text("as-of", "· " + say("as_of", clockTime(new Date(answer.as_of))) + (answer.stale ? " · " + say("stale") : ""));
  }
  renderReasons(now, answer);
  show("more", Boolean(answer) && held.desk !== false);
  show("appeal-open", held.desk !== false);
}

function renderVerdict(now, answer, elapsed) {
  if (now === "past") {
    text("word", say("past"));
    text("sentence", say("past_says", say(answer.state), age(elapsed)));
  } else if (now === "login" || now === "loading" || now === "trouble") {
    text("word", now === "login" ? say("login") : "");
    text("sentence", now === "login" ? say("login_says") : now === "loading" ? say("loading") : "");
  } else {
    text("word", say(now));
    text("sentence", say(now + "_says"));
  }
}

function renderTrouble(now, trouble) {
  const refreshing = now === "past" && !trouble;
  show("trouble", Boolean(trouble) || refreshing);
  const offline = trouble && trouble.code === "silence";
  const says = trouble && (trouble.says || (offline && navigator.onLine === false ? say("offline") : say("away")));
  text("trouble-says", refreshing ? say("refreshing") : says || "");
  const left = Math.ceil((held.next.after - since(held.next.from)) / 1000);
  text("trouble-wait", trouble ? (held.asking || left <= 0 ? say("refreshing") : say("again", left)) : "");
}

function renderReasons(now, answer) {
  const reasons = answer && now !== "past" ? answer.reasons : [];
  show("why", reasons.length > 0);
  const key = language + JSON.stringify(reasons);
  const list = part("reasons");
  if (list.dataset.key === key) return;
  list.dataset.key = key;
  fill("reasons", reasons.map((reason) => element("li", element("strong", reason.text), reason.guidance || "")));
  show("details", false);
  show("details-open", held.explains !== false);
  part("details-open").setAttribute("aria-expanded", "false");
}

// What the desk adds: since when, until when, who said so. Where this door has no desk behind it, the button goes.
function explain() {
  const details = part("details");
  if (!details.hidden) return closeDetails();
  const { round } = held;
  askDesk("v1/status", { credential: held.session }).then((outcome) => {
    if (round !== held.round) return;
    if (outcome.refusal && outcome.refusal.status === 404) {
      held.explains = false;
      return show("details-open", false);
    }
    const explained = outcome.answer;
    details.textContent = explained ? "" : outcome.refusal ? whyNot(outcome) : say("no_details");
    for (const reason of explained ? explained.reasons : []) {
      details.appendChild(element("p", together([
        reason.text,
        reason.since ? say("since") + " " + dayInChina(reason.since) : "",
        reason.until ? say("until") + " " + reason.until : "",
        reason.source ? say("source") + " " + reason.source : "",
      ])));
    }
    show("details", true);
    part("details-open").setAttribute("aria-expanded", "true");
  });
}

function closeDetails() {
  show("details", false);
  part("details-open").setAttribute("aria-expanded", "false");
}

function draw(code) {
  if (held.drawn === code) return;
  const symbol = qr(code) || { size: 0 }; // longer than the contract allows: nothing is drawn, least of all the one before
  held.drawn = code;
  const canvas = part("code");
  const quiet = 2; // and the card around it
  const scale = 10;
  canvas.width = canvas.height = (symbol.size + 2 * quiet) * scale;
  const pen = canvas.getContext("2d");
  pen.fillStyle = "#ffffff";
  pen.fillRect(0, 0, canvas.width, canvas.height);
  pen.fillStyle = "#000000";
  for (let y = 0; y < symbol.size; y += 1) {
    for (let x = 0; x < symbol.size; x += 1) {
      if (symbol.dark(x, y)) pen.fillRect((x + quiet) * scale, (y + quiet) * scale, scale, scale);
    }
  }
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
  press("large", on);
  keep.set("large", on ? "1" : null);
}

offerLanguages(() => {
  render();
  if (!part("desk").hidden) readDesk();
});
large(keep.get("large") === "1");
part("large").addEventListener("click", () => large(!("large" in document.documentElement.dataset)));
part("details-open").addEventListener("click", explain);
part("more").addEventListener("click", openDesk);
part("appeal-open").addEventListener("click", () => {
  const opened = part("desk").hidden ? openDesk() : Promise.resolve();
  opened.then(() => {
    if (held.desk === false) return;
    part("appeals").open = true;
    part("appeals").scrollIntoView();
    part("appeals-title").focus();
  });
});
document.addEventListener("visibilitychange", back);
window.addEventListener("pageshow", back);
window.addEventListener("online", back);
// Another link opened in this tab is another session.
window.addEventListener("hashchange", () => {
  if (!location.hash) return;
  const before = held.own;
  held.own = token("s");
  if (held.own !== before) become(held.own, null);
});
stayAway();
setInterval(tick, 250);
tick();
