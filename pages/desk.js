// What the desk keeps: family members to show for, health information, the trip card, appeals, grants, who looked. Asked at a
// tap and never before, since the desk is the first to be shed. What a door does not have is not offered.

// Lists that are read page by page: where, under which name, and how one is told.
const LISTS = {
  health: { path: "v1/health", of: "records", item: healthItem },
  appeals: { path: "v1/appeals", of: "appeals", item: appealItem },
  grants: { path: "v1/grants", of: "grants", item: grantItem },
  accesses: { path: "v1/accesses", of: "accesses", item: accessItem },
};
const FOLDED = ["appeals", "grants", "accesses"];

// The last time that the desk said when to come back; before that it is not asked again.
let away = { from: moment(), after: 0, outcome: null };

function askDesk(path, options) {
  if (since(away.from) < away.after) return Promise.resolve(away.outcome);
  return ask(path, options).then((outcome) => {
    if (outcome.refusal && outcome.refusal.wait) away = { from: moment(), after: outcome.refusal.wait, outcome };
    return outcome;
  });
}

function tellDesk(path, credential, content, once) {
  return askDesk(path, { method: "POST", credential, body: JSON.stringify(content), type: "application/json", once });
}

function whyNot(outcome) {
  const left = Math.ceil((away.after - since(away.from)) / 1000);
  const says = (outcome.refusal && outcome.refusal.title) || say("away");
  return left > 0 ? says + " " + say("wait", left) : says;
}

function openDesk() {
  const open = part("desk").hidden;
  show("desk", open);
  part("more").setAttribute("aria-expanded", String(open));
  return open ? readDesk() : Promise.resolve();
}

// Another is shown: nothing of the one before stays, nor what they were typing.
function closeDesk() {
  show("desk", false);
  part("more").setAttribute("aria-expanded", "false");
  for (const fold of part("desk").querySelectorAll("details")) fold.open = false;
  for (const form of part("desk").querySelectorAll("form")) form.reset();
}

function readDesk() {
  for (const id of ["family", "health", "trip", "requests"]) show(id, false);
  text("desk-says", say("refreshing"));
  const { round, session } = held;
  for (const id of FOLDED) if (part(id).open) read(id);
  return Promise.all([
    askDesk("v1/family", { credential: held.own }),
    read("health"),
    askDesk("v1/trip", { credential: session }),
  ]).then((outcomes) => {
    // Somebody else is shown by now.
    if (round !== held.round) return;
    const [family, health, trip] = outcomes;
    const absent = (outcome) => Boolean(outcome.refusal) && outcome.refusal.status === 404;
    if (outcomes.every(absent)) {
      held.desk = false;
      show("desk", false);
      return;
    }
    const troubled = outcomes.find((outcome) => !outcome.answer && !absent(outcome));
    text("desk-says", troubled ? whyNot(troubled) : "");
    if (family.answer) drawFamily(family.answer.members);
    show("health", Boolean(health.answer));
    if (trip.answer) drawTrip(trip.answer);
    show("requests", true);
    // What concerns the resident's own standing towards others is not a family member's.
    show("grants", !held.member);
    show("accesses", !held.member);
  });
}

// A page of a list. Its last line says what is under way, what went wrong, or leads to the next page.
function read(id, after) {
  const { round } = held;
  const { path, of, item } = LISTS[id];
  const list = part(id + "-list");
  const foot = element("li", say("refreshing"));
  if (after) list.removeChild(list.lastChild);
  else list.textContent = "";
  list.appendChild(foot);
  if (id === "appeals") offerReasons();
  return askDesk(path + (after ? "?after=" + after : ""), { credential: held.session }).then((outcome) => {
    // Another is shown, or the list was read anew meanwhile.
    if (round !== held.round || foot.parentNode !== list) return outcome;
    const { answer } = outcome;
    for (const one of answer ? answer[of] : []) list.insertBefore(item(one), foot);
    foot.textContent = answer ? (list.firstChild === foot ? say("nothing") : "") : whyNot(outcome);
    const further = answer ? answer.next : after;
    if (further) foot.appendChild(button(say("next"), () => read(id, further)));
    if (!foot.textContent) list.removeChild(foot);
    return outcome;
  });
}

function drawFamily(members) {
  const people = [null].concat(members);
  const buttons = people.map((member) => {
    const one = button(member ? member.name : say("myself"), () => showFor(member));
    one.setAttribute("aria-pressed", String((held.member ? held.member.id : null) === (member ? member.id : null)));
    return one;
  });
  fill("family-members", buttons);
  show("family", members.length > 0);
}

function showFor(member) {
  const { round } = held;
  if (!member) return become(held.own, null);
  tellDesk("v1/family/" + encodeURIComponent(member.id) + "/session", held.own, {}).then((outcome) => {
    if (round !== held.round) return;
    if (outcome.answer && outcome.answer.session) become(outcome.answer.session, member);
    else text("desk-says", whyNot(outcome));
  });
}

function drawTrip(trip) {
  const known = trip.state === "known" && trip.places.length;
  text("trip-places", known ? trip.places.map(division).join(language === "en" ? ", " : "、") : say("nothing"));
  text("trip-note", [trip.as_of ? say("as_of", dayInChina(trip.as_of)) : "", trip.note].filter(Boolean).join(" · "));
  show("trip", true);
}

function healthItem(record) {
  return element("li", together([
    dayInChina(record.at),
    say(record.kind) || record.kind,
    say(record.certificate) || record.certificate,
    say(record.result) || record.result,
    record.celsius === undefined ? "" : record.celsius + " ℃",
    (record.symptoms || []).map(say).join(language === "en" ? ", " : "、"),
    record.until ? say("until") + " " + record.until : "",
    record.source ? say("source") + " " + record.source : "",
  ]));
}

function appealItem(appeal) {
  const reason = (held.answer ? held.answer.reasons : []).find((known) => known.reason === appeal.reason);
  const state = say(appeal.state) + (appeal.answered_at ? " " + dayInChina(appeal.answered_at) : "");
  return element("li", together([dayInChina(appeal.at), reason ? reason.text : "", "“" + appeal.text + "”", state, appeal.note]));
}

function grantItem(grant) {
  const back = button(say("withdraw"), () => {
    const { round } = held;
    back.disabled = true;
    askDesk("v1/grants/" + encodeURIComponent(grant.id), { method: "DELETE", credential: held.own }).then((outcome) => {
      if (round !== held.round) return;
      // Taken back elsewhere: the list says so.
      if (outcome.answer || (outcome.refusal && outcome.refusal.status === 404)) return read("grants");
      back.disabled = false;
      text("grants-says", whyNot(outcome));
    });
  });
  back.setAttribute("aria-label", say("withdraw_of", grant.organisation));
  return element("li", together([grant.organisation, say("until") + " " + grant.until]) + " ", back);
}

function accessItem(access) {
  const who = (say(access.role) || access.role) + " " + access.by;
  return element("li", together([inChina(access.at), who, say(access.act) || access.act, say("purpose") + " " + access.purpose]));
}

function together(told) {
  return told.filter(Boolean).join(" · ");
}

function button(words, act) {
  const made = element("button", words);
  made.type = "button";
  made.addEventListener("click", act);
  return made;
}

for (const id of FOLDED) {
  part(id).addEventListener("toggle", () => {
    if (part(id).open) read(id);
  });
}
