// What the desk keeps: family members to show for, health information, the trip card. Asked at a tap and never before, since
// the desk is the first to be shed. What a door does not have is not offered.

const RECORDS_SHOWN = 20;

function openDesk() {
  const open = part("desk").hidden;
  show("desk", open);
  part("more").setAttribute("aria-expanded", String(open));
  if (!open) return;
  for (const id of ["family", "health", "trip"]) show(id, false);
  text("desk-says", say("refreshing"));
  const { round, session } = held;
  Promise.all([
    ask("v1/family", { credential: held.own }),
    ask("v1/health?limit=" + RECORDS_SHOWN, { credential: session }),
    ask("v1/trip", { credential: session }),
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
    text("desk-says", troubled ? (troubled.refusal && troubled.refusal.title) || say("away") : "");
    if (family.answer) drawFamily(family.answer.members);
    if (health.answer) drawHealth(health.answer.records);
    if (trip.answer) drawTrip(trip.answer);
  });
}

function drawFamily(members) {
  const people = [null].concat(members);
  const buttons = people.map((member) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = member ? member.name : say("myself");
    button.setAttribute("aria-pressed", String((held.member ? held.member.id : null) === (member ? member.id : null)));
    button.addEventListener("click", () => showFor(member));
    return button;
  });
  fill("family-members", buttons);
  show("family", members.length > 0);
}

function showFor(member) {
  const { round } = held;
  if (!member) return become(held.own, null);
  const path = "v1/family/" + encodeURIComponent(member.id) + "/session";
  ask(path, { method: "POST", credential: held.own, body: "{}", type: "application/json" }).then((outcome) => {
    if (round !== held.round) return;
    if (outcome.answer && outcome.answer.session) become(outcome.answer.session, member);
    else text("desk-says", (outcome.refusal && outcome.refusal.title) || say("away"));
  });
}

function drawHealth(records) {
  const lines = records.map((record) => {
    const told = [
      record.at ? record.at.slice(0, 10) : "",
      say(record.kind) || record.kind,
      say(record.certificate) || record.certificate,
      say(record.result) || record.result,
      record.celsius === undefined ? "" : record.celsius + " ℃",
      record.until ? say("until") + " " + record.until : "",
      record.source ? say("source") + " " + record.source : "",
    ];
    return line("li", told.filter(Boolean).join(" · "));
  });
  fill("health-records", lines.length ? lines : [line("li", say("nothing"))]);
  show("health", true);
}

function drawTrip(trip) {
  const known = trip.state === "known" && trip.places.length;
  text("trip-places", known ? trip.places.join(", ") : say("nothing"));
  text("trip-note", [trip.as_of ? say("as_of", trip.as_of.slice(0, 10)) : "", trip.note].filter(Boolean).join(" · "));
  show("trip", true);
}

function line(tag, words) {
  const element = document.createElement(tag);
  element.textContent = words;
  return element;
}

function fill(id, parts) {
  part(id).textContent = "";
  for (const one of parts) part(id).appendChild(one);
}
