// What is on record, as cards: health information, the trip card, who looked, appeals, grants. Lists are read page by page.

const LISTS = {
  health: { path: "v1/health?limit=100", of: "records" },
  entries: { path: "v1/entries", of: "entries", item: entryCard, hasPlaces: true },
  appeals: { path: "v1/appeals", of: "appeals", item: appealCard },
  grants: { path: "v1/grants", of: "grants", item: grantCard },
  accesses: { path: "v1/accesses", of: "accesses", item: accessCard },
};
const FEVER = 37.3;

const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

const together = (told) => told.filter(Boolean).join(" · ");
const listed = (words) => words.filter(Boolean).join(languageNow() === "en" ? ", " : "、");

// A source, an organisation or a caller: by its name in print, or by its identifier where the node has none.
function named(told, member) {
  return told[member + "_name"] || told[member] || "";
}

// 11月28日 10:33, in one piece.
function whenOf(time, withHour) {
  const [, month, day] = /^\d+-(\d\d)-(\d\d)/.exec(inChina(time));
  const [m, d] = [Number(month), Number(day)];
  const date = languageNow() === "en" ? d + " " + MONTHS[m - 1] : m + "月" + d + "日";
  return withHour ? date + " " + inChina(time).slice(11) : date;
}

function dayWords(day) {
  const [year, month, date] = day.split("-").map(Number);
  return languageNow() === "en" ? date + " " + MONTHS[month - 1] + " " + year : year + "年" + month + "月" + date + "日";
}

// Told one beside the other, each in one piece where it fits.
function pieces(told) {
  const said = made("span", { class: "pieces" });
  for (const one of told.filter(Boolean)) {
    said.appendChild(made("span", { class: "keep" }, one));
    said.appendChild(document.createTextNode(" "));
  }
  return said;
}

function card(title, lines, ...more) {
  const words = lines.filter((line) => line.some(Boolean)).map((line) => element("small", pieces(line)));
  return made("li", { class: "card" }, element("div", element("b", title), ...words), ...more.filter(Boolean));
}

function pill(words, mood) {
  return made("span", { class: "pill", "data-mood": mood }, words);
}

// A desk that is not behind this door is nowhere else either.
function isAbsent(outcome) {
  if (!outcome.refusal || outcome.refusal.status !== 404 || outcome.refusal.code !== "not_found") return false;
  held.desk = false;
  return true;
}

function sayTrouble(place, outcome) {
  if (isAbsent(outcome)) place.textContent = say("no_desk");
  else sayWhyNot(place, outcome);
}

// What the names of the places in an answer need, in records of any kind; without them a place is shown by its digits.
function placesNamed(records) {
  const codes = records.reduce((all, { region, residence, destination, from, places }) => all.concat(region, residence, destination, from, places), []);
  return load("{divisions.js}").then(() => window.liangma.divisions.named(codes.filter((code) => /^\d{6}$/.test(code)))).catch(() => {});
}

// Asks the desk, and loads the names of the places in what `recordsOf` finds in its answer.
function askPlaced(path, recordsOf) {
  return askDesk(path, { credential: held.session })
    .then((outcome) => placesNamed(outcome.answer ? recordsOf(outcome.answer) : []).then(() => outcome));
}

// A page of a list, below what is there. The last line says what is under way, what went wrong, or leads to the next page.
function readList(id, list, after) {
  const { round } = held;
  const { path, of, item, hasPlaces } = LISTS[id];
  const foot = element("li", made("span", { role: "status" }, say("loading_part")));
  if (after) list.removeChild(list.lastChild);
  else list.textContent = "";
  list.appendChild(foot);
  const separator = path.indexOf("?") < 0 ? "?" : "&";
  const page = path + (after ? separator + "after=" + after : "");
  const asked = hasPlaces ? askPlaced(page, (answer) => answer[of]) : askDesk(page, { credential: held.session });
  return asked.then((outcome) => {
    // Another is shown, or the list was read anew meanwhile.
    if (round !== held.round || foot.parentNode !== list) return outcome;
    const { answer } = outcome;
    for (const one of answer && item ? answer[of] : []) list.insertBefore(item(one, list), foot);
    if (answer) foot.firstChild.textContent = list.firstChild === foot && item ? say("nothing") : "";
    else sayTrouble(foot.firstChild, outcome);
    const further = answer ? answer.next : after;
    if (further) foot.appendChild(button(say("next"), () => readList(id, list, further)));
    if (!foot.textContent) list.removeChild(foot);
    return outcome;
  });
}

function listOf(id) {
  return made("ul", { id: id + "-list", class: "cards" });
}

SHEETS.health = (body) => {
  const records = [];
  const [recent, warm, foot] = [listOf("health"), listOf("temperatures"), made("p", { role: "status" }, say("loading_part"))];
  const warmTitle = element("h2");
  let unfolded = false;
  body.appendChild(element("h2", say("recent")));
  for (const one of [recent, warmTitle, warm, foot, made("p", { class: "quiet" }, calling(say("call")))]) body.appendChild(one);
  const draw = (withheld) => {
    const own = records.find((record) => record.kind === "declaration" && record.by !== "other");
    recent.textContent = "";
    const rest = records.filter((record) => record.kind !== "temperature");
    for (const record of rest) recent.appendChild(recordCard(record, record === own));
    if (!rest.length) recent.appendChild(made("li", {}, say("nothing")));
    const degrees = records.filter((record) => record.kind === "temperature");
    warmTitle.textContent = withheld ? say("temperature") : say("temperatures", degrees.length);
    warm.textContent = "";
    if (withheld) warm.appendChild(made("li", { class: "card" }, say("withheld")));
    for (const record of unfolded ? degrees : degrees.slice(0, 2)) warm.appendChild(recordCard(record, false));
    if (!unfolded && degrees.length > 2) {
      warm.appendChild(made("li", {}, button(say("unfold", degrees.length - 2), () => {
        unfolded = true;
        draw(withheld);
      }, "plain wide")));
    }
  };
  const readOn = (after) => {
    const { round } = held;
    foot.textContent = say("loading_part");
    askPlaced(LISTS.health.path + (after ? "&after=" + after : ""), (answer) => answer.records).then((outcome) => {
      if (round !== held.round || !document.contains(foot)) return;
      foot.textContent = "";
      const { answer } = outcome;
      if (!answer) return sayTrouble(foot, outcome);
      for (const record of answer.records) records.push(record);
      draw((answer.withheld || []).indexOf("temperature") >= 0);
      if (answer.next) foot.appendChild(button(say("next"), () => readOn(answer.next)));
    });
  };
  readOn();
};

function regionName(code) {
  const { divisions } = window.liangma;
  return code ? (divisions ? divisions.division(code) : code) : "";
}

function recordCard(record, current) {
  const where = regionName(record.region);
  switch (record.kind) {
    case "certificate":
      return card(
        say(record.certificate) || record.certificate,
        [[whenOf(record.at), named(record, "source"), where], [record.number && say("number", record.number), record.until && say("valid_until", dayWords(record.until))]],
        record.result && pill(say(record.result) || record.result, record.result === "negative" ? "good" : "bad")
      );
    case "notice": {
      const open = button(say("present") + " ›", () => openSheet("notice", say("notice"), "", record), "plain");
      return card(say("notice"), [[say(record.reason) || record.reason, span(record)], [record.number, named(record, "source"), where]], open);
    }
    case "temperature":
      return card(record.celsius.toFixed(1) + " ℃", [[whenOf(record.at, true), named(record, "source"), where]], pill(say(record.celsius >= FEVER ? "fever" : "normal"), record.celsius >= FEVER ? "bad" : "good"));
    default:
      return card(say(record.kind) || record.kind, [
        [whenOf(record.at, true), record.celsius === undefined ? "" : record.celsius + " ℃", listed((record.symptoms || []).map(say))],
        [record.contact && say("contact_" + record.contact), record.high_risk_area === undefined ? "" : say(record.high_risk_area ? "risk_yes" : "risk_no")],
        [record.residence && say("residence") + " " + regionName(record.residence), listed((record.places || []).map(regionName)), record.by !== "self" && say("by_" + record.by)],
      ], current && pill(say("current"), "good"));
  }
}

function span({ from, until }) {
  return [from, until].filter(Boolean).map(dayWords).join(" — ");
}

// The notice alone, to be held out to somebody.
SHEETS.notice = (body, record) => {
  const rows = [
    ["person_name", held.answer ? held.answer.name : ""], ["cert_no", held.answer ? held.answer.cert_no : ""], ["why_set", say(record.reason) || record.reason],
    ["observed", span(record)], ["issued_by", named(record, "source")], ["where", regionName(record.region)], ["at_time", dayWords(dayInChina(record.at)) + " " + inChina(record.at).slice(11)],
  ];
  const list = element("dl");
  for (const [name, value] of rows) {
    // Each day and each time in one piece.
    const told = value && String(value).split(" ").map((word) => made("span", { class: "keep" }, word));
    if (told) list.appendChild(element("div", element("dt", say(name)), element("dd", ...told.reduce((all, word) => all.concat(" ", word), []))));
  }
  body.appendChild(made("article", { class: "paper", id: "notice-paper" },
    element("h2", say("notice_title")), element("p", record.number ? say("number", record.number) : ""),
    element("p", say("notice_says", held.answer ? held.answer.name : "")), list));
};

SHEETS.trip = (body) => {
  const { round } = held;
  const place = made("p", { role: "status" }, say("loading_part"));
  const list = made("ul", { class: "cards", id: "trip-places" });
  const note = made("p", { class: "quiet", id: "trip-note" });
  for (const one of [element("h2", say("trip")), place, list, note]) body.appendChild(one);
  askPlaced("v1/trip", (answer) => [answer]).then((outcome) => {
    if (round !== held.round) return;
    place.textContent = "";
    const trip = outcome.answer;
    if (!trip) return sayTrouble(place, outcome);
    for (const code of trip.places) list.appendChild(card(regionName(code), []));
    if (!trip.places.length) place.textContent = say(trip.state === "too_old" ? "trip_old" : "trip_none");
    note.textContent = together([trip.as_of ? say("as_of", dayWords(dayInChina(trip.as_of))) : "", trip.note]);
  });
};

SHEETS.accesses = (body) => {
  const list = listOf("accesses");
  body.appendChild(list);
  readList("accesses", list);
};

function accessCard(access) {
  const who = (say(access.role) || access.role) + " " + named(access, "by");
  const purpose = access.purpose === "grant" && access.grant ? say("purpose_grant") : say("purpose") + " " + (say("purpose_" + access.purpose) || access.purpose);
  return card(say("act_" + access.act) || access.act, [[whenOf(access.at, true), who], [purpose]]);
}

function appealCard(appeal) {
  const state = say(appeal.state) + (appeal.answered_at ? " " + whenOf(appeal.answered_at) : "");
  const mood = { upheld: "good", rejected: "bad" }[appeal.state] || "look";
  return card(say(appeal.reason) || appeal.reason, [[whenOf(appeal.at, true)], ["“" + appeal.text + "”"], [appeal.note, appeal.by && say("answered_by", named(appeal, "by"))]], pill(state, mood));
}

function entryCard(entry) {
  const test = entry.nucleic_test ? say("test") + " " + say(entry.nucleic_test.result) + " " + whenOf(entry.nucleic_test.at) : say("test") + " " + say("test_none");
  return card(say("to_place", regionName(entry.destination), dayWords(entry.arrives)), [
    [entry.from && say("from") + " " + regionName(entry.from), say(entry.transport === "other" ? "other_way" : entry.transport), entry.number], [test], [whenOf(entry.at, true)],
  ]);
}

function grantCard(grant, list) {
  const back = button(say("withdraw"), () => {
    const { round } = held;
    back.disabled = true;
    askDesk("v1/grants/" + encodeURIComponent(grant.id), { method: "DELETE", credential: held.own }).then((outcome) => {
      if (round !== held.round) return;
      // Taken back elsewhere: the list says so.
      if (outcome.answer || (outcome.refusal && outcome.refusal.status === 404)) return readList("grants", list);
      back.disabled = false;
      sayTrouble(part("grants-says"), outcome);
    });
  });
  back.setAttribute("aria-label", say("withdraw_of", named(grant, "organisation")));
  return card(named(grant, "organisation"), [[grant.organisation_name && grant.organisation, say("until") + " " + dayWords(grant.until)]], back);
}

// Why a code has its colour: since when, until when, where, and who said so; and what was cleared.
window.liangma.explain = () => {
  const { round } = held;
  const details = part("details");
  askPlaced("v1/status", (answer) => answer.reasons.concat(answer.released)).then((outcome) => {
    if (round !== held.round) return;
    if (isAbsent(outcome)) {
      held.explains = false;
      return show("details-open", false);
    }
    const told = outcome.answer;
    details.textContent = told ? "" : outcome.refusal ? whyNot(outcome) : say("no_details");
    for (const reason of told ? told.reasons : []) {
      details.appendChild(element("p", pieces([
        reason.text, reason.since && say("since") + " " + dayWords(dayInChina(reason.since)), reason.until && say("until") + " " + dayWords(reason.until),
        reason.region && say("where") + " " + regionName(reason.region), reason.source && say("source") + " " + named(reason, "source"),
      ])));
    }
    for (const one of told ? told.released : []) details.appendChild(element("p", pieces([say("released"), one.text, dayWords(dayInChina(one.at)), named(one, "source")])));
    show("details", true);
    part("details-open").setAttribute("aria-expanded", "true");
  });
};
