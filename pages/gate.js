// The gate's page: a code in, a verdict that fills the screen, the next one. A verdict is of one code and one moment: it
// says how old it is and goes by itself, and whatever could not be checked has no colour.

const COLOURS = ["green", "yellow", "red"];
// How long a verdict stays in continuous mode, and at most otherwise (ms).
const SHOWN = { green: 2000, other: 4000, most: 20000 };
// The same code before the camera is one scan for so long after it was last seen.
const SAME_FOR = 4000;
// A code lives a minute; past this a retry would only hear that it has expired.
const RETRY_FOR = 50000;
const SCAN_WAIT = 5000;

const gate = {
  scanner: null,
  site: null,
  continuous: keep.get("continuous") === "1",
  // What is on the screen: { view, state, answer, says, code, at, retry: { from, after } }
  now: { view: "ready", at: moment() },
  pending: null,
  last: { code: "", at: moment() },
  shift: readShift(),
  failures: 0,
};

// The scanner's token, and what its link calls the place.
function admit() {
  const { t, n } = tokens({ t: "t" });
  gate.scanner = t;
  gate.site = n;
}

function seen(code) {
  if (sheets.length) return;
  const same = gate.last.code === code && since(gate.last.at) < SAME_FOR;
  gate.last = { code, at: moment() };
  const free = gate.now.view === "ready" || (gate.continuous && gate.now.view !== "checking");
  if (!same && free) scan(code);
}

function read(code) {
  gate.last = { code, at: moment() };
  if (gate.now.view === "checking") gate.pending = code;
  else scan(code);
}

function scan(code, from) {
  if (!gate.scanner) return;
  const begun = from || moment();
  if (!from) {
    gate.failures = 0;
    leaveSheets();
  }
  gate.now = { view: "checking", code, at: moment(), begun };
  render();
  ask("v1/scan", { method: "POST", credential: gate.scanner, body: code, type: "text/plain", wait: doorWait(code, SCAN_WAIT) }).then((outcome) => withoutDoor(code, outcome)).then((outcome) => {
    tell(code, begun, outcome);
    if (gate.pending) {
      const next = gate.pending;
      gate.pending = null;
      scan(next);
    }
  });
}

function tell(code, begun, { answer, refusal, silence, here }) {
  const now = { code, begun, at: moment() };
  if (here) {
    gate.now = Object.assign(now, here);
    gate.failures = 0;
    count(COLOURS.indexOf(here.view) === -1 ? "other" : here.view, code);
  } else if (answer && WORDS[language][answer.state + "_says"]) {
    gate.now = Object.assign(now, { view: answer.state, answer });
    gate.failures = 0;
    count(answer.state === "pass" ? "other" : answer.state, code);
  } else if (refusal && (refusal.status === 401 || refusal.status === 403)) {
    keepHere.set("t", null);
    gate.scanner = null;
    gate.now = Object.assign(now, { view: "login" });
  } else if (refusal && refusal.status < 500 && refusal.status !== 429) {
    const known = ["code_expired", "code_revoked", "grant_revoked", "grant_expired", "issuer_unknown", "signature_invalid", "issuer_not_entitled"].find((one) => one === refusal.code) || "code_invalid";
    gate.now = Object.assign(now, { view: "refused", known });
    gate.failures = 0;
    count("other", code);
  } else {
    gate.failures += 1;
    const told = refusal && refusal.wait;
    const guess = Math.min(8000, 1000 * Math.pow(2, Math.min(3, gate.failures)));
    gate.now = Object.assign(now, {
      view: "trouble",
      known: silence || !refusal.code ? silentWord() : refusal.code === "issuer_unreachable" ? "issuer_unreachable" : "busy",
      says: refusal && refusal.title,
      retry: { from: moment(), after: told || guess },
    });
  }
  if (gate.failures < 2) sing(gate.now.answer && checks(gate.now.answer) && gate.now.view === "green" ? "check" : gate.now.view); // once, not with each attempt
  render();
}

function ready() {
  gate.now = { view: "ready", at: moment() };
  gate.failures = 0;
  render();
}

// Time passes: verdicts go, what could not be checked is tried again for as long as the code may live.
function tick() {
  const { view, at, retry, code, begun } = gate.now;
  const shown = since(at);
  if (view === "trouble" && since(begun) < RETRY_FOR) {
    if (since(retry.from) >= retry.after) return scan(code, begun);
  } else if (view === "trouble" && !gate.now.counted) {
    // Given up: now it is one who was not checked, and not one for each attempt.
    gate.now.counted = true;
    count("other", code);
  } else if (view !== "ready" && view !== "checking" && view !== "login") {
    const stays = gate.continuous ? SHOWN[view] || SHOWN.other : SHOWN.most;
    if (shown >= stays) return ready();
  }
  render();
}

const MARKS = { green: "✓", yellow: "!", red: "✕" };

// Whether a document must be looked at before anybody passes: nobody checked the face, or the code may be a copy.
function checks(answer) {
  return answer.assurance === "unverified" || Boolean(answer.check_document);
}

function settled(view) {
  return view !== "ready" && view !== "checking" && view !== "login";
}

function mark(name, on) {
  if (on) document.body.dataset[name] = "";
  else delete document.body.dataset[name];
}

function render() {
  const { view, answer, known, says, at, retry, begun } = gate.now;
  const shown = gate.scanner ? view : "login";
  set(document.body, "view", shown);
  mark("colour", Boolean(MARKS[shown]));
  mark("checks", Boolean(MARKS[shown]) && checks(answer));
  text("clock", clockTime(Date.now()));
  if (gate.site) text("site", gate.site + " · " + say("title"));
  const filming = "camera" in document.body.dataset;
  const word = known || (shown === "ready" && !filming ? "ready_off" : shown);
  show("mark", Boolean(MARKS[shown]));
  text("mark", MARKS[shown] || "");
  text("word", say(word));
  const looks = shown === "green" && checks(answer);
  text("sentence", shown === "checking" ? "" : looks ? say("look") : (word === "busy" && says) || say(word + "_says"));
  show("person", Boolean(answer));
  if (answer) renderPerson(answer);
  show("next", settled(shown));
  show("camera-open", shown === "ready" && !filming);
  show("lens", shown === "ready" && filming);
  let wait = "";
  if (shown === "trouble" && since(begun) < RETRY_FOR) {
    wait = say("again", Math.max(0, Math.ceil((retry.after - since(retry.from)) / 1000)));
  } else if (answer) {
    wait = say("ago", Math.floor(since(at) / 1000));
  }
  text("wait", wait);
  renderOffline();
  renderShift();
}

function renderPerson(answer) {
  if (answer.pass) return renderPass(answer);
  text("name", answer.name);
  text("number", answer.cert_no);
  fill("reasons", answer.reasons.map((reason) => element("li", reason.text)));
  text("assurance", [
    answer.issuer ? answer.issuer.name : "",
    answer.class === "offline" ? say("offline_code") : "",
    say(answer.assurance) || "",
  ].filter(Boolean).join(" · "));
  text("checked", [
    say("as_of", clockTime(answer.as_of)),
    answer.age_ms >= 1000 ? say("late", Math.round(answer.age_ms / 1000)) : "",
    answer.stale ? say("stale") : "",
    // A code that was made to be kept says nothing of when it is shown.
    answer.class === "offline" || answer.class === "grant" ? say("issued_on", inChina(answer.issued_at).slice(5)) : say("issued", clockTime(answer.issued_at)),
  ].filter(Boolean).join(" · "));
}

// The day in China of a time; a day stays what it is.
const passDay = (time) => (time.length > 10 ? inChina(time).slice(0, 10) : time);

// What another issuer says of somebody: in words, and without a colour.
function renderPass(answer) {
  const { pass } = answer;
  text("name", answer.name);
  text("number", answer.birth ? say("birth", answer.birth.slice(2)) : "");
  const facts = [
    say("pass_" + pass.kind) + (pass.result ? " · " + say("pass_" + pass.result) : ""),
    pass.dose ? say("dose", pass.dose, pass.doses) : "",
    pass.at ? say("pass_at", passDay(pass.at)) : "",
    say("policy_" + pass.policy) + (pass.policy_reason ? say("policy_reason_" + pass.policy_reason) : ""),
  ];
  fill("reasons", facts.filter(Boolean).map((fact) => element("li", fact)));
  text("assurance", say("pass_issuer", (pass.issuer_name || pass.issuer) + (pass.issuer_name ? " (" + pass.issuer + ")" : "")));
  text("checked", [
    say("signature_good"),
    say(pass.revocation === "good" ? "revocation_good" : "revocation_not_checked"),
    pass.expires_at ? say("pass_until", passDay(pass.expires_at)) : "",
  ].filter(Boolean).join(" · "));
}

// The shift: counts and nothing else.
function readShift() {
  try {
    const kept = JSON.parse(keep.get("shift"));
    if (kept && kept.since) return kept;
  } catch (garbled) {
    // A new one.
  }
  return { since: Date.now(), green: 0, yellow: 0, red: 0, unknown: 0, too_old: 0, other: 0 };
}

// One code counts once, as what it was found to be last.
const counted = [];

function count(what, code) {
  const before = counted.find((one) => one.code === code);
  if (before && before.what === what) return;
  if (before) {
    gate.shift[before.what] -= 1;
    before.what = what;
  } else {
    counted.push({ code, what });
    if (counted.length > 500) counted.shift();
  }
  gate.shift[what] = (gate.shift[what] || 0) + 1;
  keep.set("shift", JSON.stringify(gate.shift));
}

function renderShift() {
  const { shift } = gate;
  const names = ["green", "yellow", "red", "unknown", "too_old", "other"];
  const total = names.reduce((sum, name) => sum + (shift[name] || 0), 0);
  const rows = [[say("shift"), total]];
  for (const name of names) if (shift[name] || COLOURS.indexOf(name) !== -1 && name !== "yellow") rows.push([say(name), shift[name] || 0]);
  const key = JSON.stringify(rows);
  const list = part("shift");
  if (list.dataset.key === key) return;
  list.dataset.key = key;
  list.title = say("shift_since", clockTime(shift.since));
  fill("shift", rows.map(([name, number]) => element("div", element("dt", name + " "), element("dd", number))));
}

function endShift() {
  if (!window.confirm(say("shift_sure"))) return;
  keep.set("shift", null);
  counted.length = 0;
  gate.shift = readShift();
  render();
}

function switchCamera(on, device) {
  const video = part("video");
  keep.set("camera", on ? "1" : null);
  press("camera", on);
  mark("camera", on);
  show("view", on);
  show("camera-says", false);
  render();
  if (!on) return closeCamera(video);
  const lost = (why) => {
    closeCamera(video);
    press("camera", false);
    mark("camera", false);
    show("view", false);
    show("camera-says", true);
    text("camera-says", say(why.message === "camera_secure" || why.message === "offline" ? why.message : "camera_none"));
    render();
  };
  openCamera(video, seen, lost, device).then(() => {
    show("torch", hasTorch());
    press("torch", false);
    lenses().then((all) => show("lens-next", all.length > 1));
  }).catch(lost);
}

function nextLens() {
  lenses().then((all) => {
    const at = all.indexOf(lensNow());
    if (all.length) switchCamera(true, all[(at + 1) % all.length]);
  });
}

function pressed(id) {
  return part(id).getAttribute("aria-pressed") === "true";
}

function submit() {
  // An input method for Chinese may type full-width letters.
  const code = part("typed").value.normalize("NFKC").trim();
  part("typed").value = "";
  if (code) read(code);
}

// What is in the page already, moved onto a sheet for as long as that is open.
function panel(id) {
  return (body) => {
    body.appendChild(part(id));
    return () => part("panels").appendChild(part(id));
  };
}

admit();
SHEETS.more = panel("more-panel");
SHEETS.roster = panel("roster");
offerLanguages(() => {
  if (sheets.length) text("sheet-title", say("more"));
  render();
});
offerSheets();
sound.on = keep.get("sound") !== "0";
press("sound", sound.on);
press("continuous", gate.continuous);
part("camera-open").addEventListener("click", () => switchCamera(true));
part("camera").addEventListener("click", () => {
  leaveSheets();
  switchCamera(!pressed("camera"));
});
part("torch").addEventListener("click", () => {
  lightTorch(!pressed("torch")).then((on) => press("torch", on));
});
part("lens-next").addEventListener("click", nextLens);
part("more").addEventListener("click", () => openSheet("more", say("more")));
part("roster-open").addEventListener("click", () => openSheet("roster", say("roster")));
part("continuous").addEventListener("click", () => {
  gate.continuous = !gate.continuous;
  keep.set("continuous", gate.continuous ? "1" : null);
  press("continuous", gate.continuous);
});
part("sound").addEventListener("click", () => {
  sound.on = !sound.on;
  keep.set("sound", sound.on ? null : "0");
  press("sound", sound.on);
});
// A glove need not aim: a tap anywhere on a verdict brings the next person.
part("stage").addEventListener("click", (event) => {
  if (settled(gate.now.view) && gate.scanner && !event.target.closest("#lens, #camera-open")) ready();
});
part("shift-end").addEventListener("click", endShift);
part("check").addEventListener("click", submit);
part("typed").addEventListener("keydown", (event) => {
  if (event.key === "Enter") submit();
});
for (const touch of ["pointerdown", "keydown"]) document.addEventListener(touch, wakeSound);
window.addEventListener("hashchange", () => {
  if (!location.hash) return;
  admit();
  ready();
});
document.addEventListener("visibilitychange", stayAwake);
listenToKeys(read, part("typed"), submit);
offerRoster(() => gate.scanner);
setInterval(tick, 200);
render();
startOffline();
if (keep.get("camera") === "1" && gate.scanner) switchCamera(true);
