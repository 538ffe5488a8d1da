// An organisation's page: its roster checked by what members share, its own columns kept beside the verdicts, and declarations
// for members from a table. It reads its roster with its own token and scans with a scanner's; both stand in its link.

const ROWS_SHOWN = 500;
const SOON_DAYS = 7;
const FILE_BYTES_MOST = 20e6;
const DECLARED_AT_ONCE = 5000;

const office = Object.assign({ rows: [], heads: [], checked: null, busy: false }, tokens({ t: "organisation", g: "organisation_scanner" }));

function lost() {
  show("login", true);
  text("login", say("login_says"));
}

// Reads the whole roster, page by page. Out: its members, or null where it could not be read, which is said.
function readRoster(says) {
  const members = [];
  const step = (after) => askDesk("v1/roster?limit=200" + (after ? "&after=" + after : ""), { credential: office.t }).then((outcome) => {
    if (!outcome.answer) {
      const { refusal } = outcome;
      if (refusal && (refusal.status === 401 || refusal.status === 403)) lost();
      sayWhyNot(part(says), outcome);
      return null;
    }
    for (const member of outcome.answer.members) members.push(member);
    text(says, say("reading", members.length));
    return outcome.answer.next ? step(outcome.answer.next) : members;
  });
  return step();
}

function check() {
  if (office.busy) return;
  begin();
  readRoster("check-says").then((members) => {
    if (!members) return undefined;
    if (!members.length) return text("check-says", say("none"));
    return scanRows([], members.map((member) => ({ own: [], member, code: member.code })));
  }).then(end, end);
}

function begin() {
  office.busy = true;
  part("check").disabled = true;
  for (const id of ["sums", "check-tools", "check-scroll"]) show(id, false);
  text("check-shown", "");
}

function end() {
  office.busy = false;
  part("check").disabled = false;
}

// Asks for the verdicts of rows, each with a code; those that have none stay unchecked.
function scanRows(heads, rows) {
  const asked = rows.filter((one) => one.code);
  const told = (count) => text("check-says", say("working", count, rows.length));
  told(0);
  return bulkScan(asked.map((one) => one.code), office.g, told).then(({ verdicts, whole, refusal }) => {
    asked.forEach((one, nth) => (one.verdict = verdicts[nth]));
    Object.assign(office, { heads, rows, checked: clockTime(Date.now()) });
    if (refusal) {
      if (refusal.status === 401 || refusal.status === 403) lost();
      return text("check-says", refusal.title || say("away"));
    }
    text("check-says", whole ? say("done", rows.length, office.checked) : say("cut", verdicts.length, rows.length));
    draw();
  });
}

function stateOf(one) {
  return one.verdict ? one.verdict.state || one.verdict.error : "unchecked";
}

function daysLeft(one) {
  if (!one.member || !one.member.until) return null;
  return Math.round((Date.parse(one.member.until) - Date.parse(dayInChina(Date.now()))) / 86400000);
}

function isSoon(one) {
  const days = daysLeft(one);
  return days !== null && days <= SOON_DAYS;
}

// Who is not green comes first; who could not be checked before all.
const ORDER = ["unchecked", "red", "yellow"];

function inOrder() {
  const place = (one) => {
    const state = stateOf(one);
    const at = ORDER.indexOf(state);
    return state === "green" ? (isSoon(one) ? 8 : 9) : at < 0 ? 3 : at;
  };
  return office.rows.map((one, nth) => ({ one, nth, at: place(one) })).sort((a, b) => a.at - b.at || a.nth - b.nth);
}

function draw() {
  const counts = {};
  for (const one of office.rows) counts[stateOf(one)] = (counts[stateOf(one)] || 0) + 1;
  const soon = office.rows.filter(isSoon).length;
  const states = Object.keys(counts).sort((a, b) => (a === "green") - (b === "green"));
  const sums = states.map((state) => made("div", { "data-state": state }, element("b", counts[state]), say(state) || state));
  if (soon) sums.push(element("div", element("b", soon), say("soon_head")));
  fill("sums", sums);
  for (const id of ["sums", "check-tools", "check-scroll"]) show(id, true);
  const heads = [say("line")].concat(office.heads, ["state", "name", "cert_no", "reasons", "until"].map((name) => say(name)));
  fill("check-head", heads.map((words) => made("th", { scope: "col" }, words || "\u00a0")));
  const only = part("only").checked;
  const wanted = inOrder().filter(({ at }) => !only || at < 9);
  fill("check-rows", wanted.slice(0, ROWS_SHOWN).map(({ one, nth }) => {
    const cells = cellsOf(one, nth);
    const line = row(cells);
    line.children[1 + office.heads.length].dataset.state = stateOf(one);
    if (isSoon(one)) line.lastChild.className = "soon";
    return line;
  }));
  text("check-shown", wanted.length > ROWS_SHOWN ? say("shown", ROWS_SHOWN) : "");
}

function cellsOf(one, nth) {
  const verdict = one.verdict || {};
  const member = one.member || {};
  const days = daysLeft(one);
  const until = (member.until || "") + (isSoon(one) ? " · " + (days > 0 ? say("soon", days) : say("soon_today")) : "");
  return [String(nth + 1)].concat(office.heads.map((head, column) => one.own[column] || ""), [
    say(stateOf(one)) || stateOf(one), verdict.name || member.name || "", verdict.cert_no || member.cert_no || "",
    (verdict.reasons || []).map((reason) => reason.text).join(", "), until,
  ]);
}

function saveResult() {
  const heads = [say("line")].concat(office.heads, ["state", "name", "cert_no", "reasons", "until", "as_of_head"].map((name) => say(name)));
  save("check", [heads].concat(inOrder().map(({ one, nth }) => cellsOf(one, nth).concat(one.verdict ? one.verdict.as_of || "" : ""))));
}

const MEMBER_ID = /^[A-Z2-7]{26}$/;

function saveRoster() {
  readRoster("check-says").then((members) => {
    if (!members) return;
    text("check-says", "");
    save("members", [["id", "name", "no"].map((name) => say("column_" + name))].concat(members.map((member) => [member.id, member.name, member.cert_no])));
  });
}

// A table of one's own: rows are matched by the id of a member, or have a code themselves.
function ownFile(file) {
  if (office.busy) return;
  if (file.size > FILE_BYTES_MOST) return text("check-says", say("own_large"));
  begin();
  textOf(file).then(rowsOf).then((rows) => {
    const ids = columnOf(rows, MEMBER_ID);
    const codes = columnOf(rows, A_CODE);
    const column = ids === null ? codes : ids;
    if (column === null) return text("check-says", say("own_none"));
    const form = ids === null ? A_CODE : MEMBER_ID;
    const headed = !form.test(rows[0][column] || "");
    const body = headed ? rows.slice(1) : rows;
    const width = rows.reduce((most, one) => Math.max(most, one.length), 0);
    const others = Array.from({ length: width }, (none, nth) => nth).filter((nth) => nth !== column);
    const heads = others.map((nth) => (headed ? rows[0][nth] || "" : ""));
    return readRoster("check-says").then((members) => {
      if (!members) return undefined;
      const known = {};
      for (const member of members) known[member.id] = member;
      return scanRows(heads, body.map((one) => {
        const key = one[column] || "";
        const member = ids === null ? null : known[key];
        return { own: others.map((nth) => one[nth] || ""), member, code: ids === null ? key.replace(/\s+/g, "") : member && member.code };
      }));
    });
  }).catch(() => text("check-says", say("unread"))).then(end);
}

// The template's columns, in the order in which they are read.
const COLUMNS = ["id", "name", "no", "celsius", "symptoms", "contact", "risk", "residence"];
const SYMPTOM_NAMES = ["cold_like", "short_breath", "nausea", "palpitation", "conjunctivitis"];

function saveTemplate() {
  readRoster("declare-says").then((members) => {
    if (!members) return;
    text("declare-says", "");
    save("declarations", [COLUMNS.map((name) => say("column_" + name))].concat(members.map((member) => [member.id, member.name, member.cert_no, "", say("none_symptom"), say("no"), say("no"), ""])));
  });
}

// A word of a table, in any of the three languages, as the service has it; what is none of them stays as it is, and is rejected.
function meaning(words, names) {
  const said = words.trim().toLowerCase();
  return names.find(([, key]) => LANGUAGES.some((tag) => WORDS[tag][key].toLowerCase() === said)) || null;
}

function declarationOf(cells, heads) {
  const cell = (name) => (cells[heads[name]] || "").trim();
  const contact = meaning(cell("contact"), [["yes", "yes"], ["no", "no"], ["unsure", "unsure"]]);
  const risk = meaning(cell("risk"), [[true, "yes"], [false, "no"]]);
  const symptoms = cell("symptoms").split(/[、,;^/]+/).map((words) => words.trim()).filter(Boolean).map((words) => {
    const known = meaning(words, [["none", "none_symptom"]].concat(SYMPTOM_NAMES.map((name) => [name, name])));
    return known ? known[0] : words;
  });
  const celsius = cell("celsius").replace(/℃|°C/, "");
  return {
    member: cell("id"),
    celsius: celsius === "" ? undefined : /^\d+(\.\d+)?$/.test(celsius) ? Number(celsius) : 0,
    symptoms: symptoms.length ? symptoms : undefined,
    contact: contact ? contact[0] : cell("contact") || undefined,
    high_risk_area: risk ? risk[0] : undefined,
    riskSaid: cell("risk"),
    residence: cell("residence") || undefined,
  };
}

// The same declaration again is filed once: its key is of the day and of what it says.
function keyOf(day, words) {
  let hash = 0x811c9dc5;
  for (let at = 0; at < words.length; at += 1) hash = Math.imul(hash ^ words.charCodeAt(at), 0x01000193) >>> 0;
  return day + "-" + hash.toString(36) + "-" + words.length;
}

function declareFile(file) {
  if (file.size > FILE_BYTES_MOST) return text("declare-says", say("own_large"));
  show("rejected-scroll", false);
  text("declare-says", say("declaring"));
  const rejected = [];
  const sum = { applied: 0, unchanged: 0 };
  textOf(file).then(rowsOf).then((rows) => {
    const heads = headsOf(rows[0] || []);
    const lines = [];
    const places = [];
    rows.forEach((cells, nth) => {
      if (nth === 0 && heads.named) return;
      const one = declarationOf(cells, heads.at);
      const reject = one.high_risk_area === undefined && one.riskSaid ? "risk" : !one.member ? "missing_field" : "";
      delete one.riskSaid;
      if (reject) return rejected.push({ nth, cells, code: reject });
      one.key = keyOf(dayInChina(Date.now()), JSON.stringify(one));
      lines.push(JSON.stringify(one));
      places.push({ nth, cells });
      return undefined;
    });
    const send = (from) => {
      if (from >= lines.length) return undefined;
      const some = lines.slice(from, from + DECLARED_AT_ONCE);
      return askDesk("v1/declarations/bulk", { method: "POST", credential: office.t, type: "application/x-ndjson", body: some.join("\n") + "\n", wait: 60000 }).then((outcome) => {
        const { answer, refusal } = outcome;
        if (!answer) {
          if (refusal && (refusal.status === 401 || refusal.status === 403)) lost();
          throw outcome;
        }
        sum.applied += answer.applied;
        sum.unchanged += answer.unchanged;
        for (const one of answer.rejected) rejected.push(Object.assign({ code: one.code }, places[from + one.line - 1]));
        return send(from + DECLARED_AT_ONCE);
      });
    };
    return send(0);
  }).then(() => {
    text("declare-says", say("declared", sum.applied, sum.unchanged, rejected.length));
    drawRejected(rejected);
  }, (outcome) => {
    if (outcome instanceof Error) return text("declare-says", say("unread"));
    sayWhyNot(part("declare-says"), outcome);
    return drawRejected(rejected);
  });
}

// Columns by their names in any of the languages; a table without names has the template's order.
function headsOf(first) {
  const at = {};
  first.forEach((cell, nth) => {
    const name = COLUMNS.find((one) => LANGUAGES.some((tag) => WORDS[tag]["column_" + one] === cell));
    if (name && !(name in at)) at[name] = nth;
  });
  const named = "id" in at;
  if (!named) COLUMNS.forEach((name, nth) => (at[name] = nth));
  return { at, named };
}

function drawRejected(rejected) {
  show("rejected-scroll", rejected.length > 0);
  fill("rejected-head", [say("row"), say("why"), say("name")].map((words) => made("th", { scope: "col" }, words)));
  const whys = (code) => say("reject_" + code) || say("reject_other") + code;
  fill("rejected-rows", rejected.sort((a, b) => a.nth - b.nth).slice(0, ROWS_SHOWN).map(({ nth, cells, code }) => row([String(nth + 1), whys(code), (cells || []).slice(1, 2).join("")])));
}

offerLanguages(() => {
  if (office.checked) draw();
  if (!office.g) text("check-says", say("no_scanner"));
});
if (office.n) text("office", office.n);
if (!office.t) lost();
part("check").disabled = !office.g;
part("own-file").disabled = !office.g;
if (office.t && !office.g) text("check-says", say("no_scanner"));
part("check").addEventListener("click", check);
part("only").addEventListener("change", draw);
part("save").addEventListener("click", saveResult);
part("roster-save").addEventListener("click", saveRoster);
part("template").addEventListener("click", saveTemplate);
for (const [id, act] of [["own-file", ownFile], ["declare-file", declareFile]]) {
  part(id).addEventListener("change", (event) => {
    const file = event.target.files[0];
    event.target.value = "";
    if (file) act(file);
  });
}
