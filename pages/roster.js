// A roster at the gate: a file of codes, alone or beside names of one's own, through the bulk scan; its verdicts as a table and as
// a file.

const ROSTER_BYTES_MOST = 60e6;
const ROSTER_ROWS_SHOWN = 500;

const roster = { rows: [], own: [], verdicts: [], busy: false };

function offerRoster(credential) {
  part("roster-only").addEventListener("change", rosterTable);
  part("roster-download").addEventListener("click", rosterDownload);
  part("roster-file").addEventListener("change", (event) => {
    const file = event.target.files[0];
    event.target.value = "";
    if (file) rosterCheck(file, credential());
  });
}

function rosterCheck(file, credential) {
  if (roster.busy) return;
  if (file.size > ROSTER_BYTES_MOST) return rosterSays(say("roster_large"));
  roster.busy = true;
  roster.verdicts = [];
  show("roster-tools", false);
  show("roster-scroll", false);
  rosterSays(say("roster_working", 0));
  textOf(file).then((text) => {
    const rows = rowsOf(text);
    const column = columnOf(rows, A_CODE);
    // A first row without a code is the names of the columns.
    const headed = column !== null && rows.length > 1 && !A_CODE.test(rows[0][column] || "");
    roster.own = headed ? rows[0].filter((cell, nth) => nth !== column) : [];
    roster.rows = (headed ? rows.slice(1) : rows).map((row) => ({
      code: row[column === null ? 0 : column] || "", own: row.filter((cell, nth) => nth !== (column === null ? 0 : column)),
    }));
    const width = roster.rows.reduce((most, row) => Math.max(most, row.own.length), 0);
    while (roster.own.length < width) roster.own.push("");
    // A code has no blanks, and a line that has none of a code is asked for as what it is: not valid.
    const lines = roster.rows.map((row) => row.code.replace(/\s+/g, "") || "-");
    return bulkScan(lines, credential, (count) => rosterSays(say("roster_working", count)));
  }).then(({ verdicts, whole, refusal }) => {
    roster.verdicts = verdicts;
    rosterDone(refusal ? refusal.title || say("away") : say(whole ? "roster_done" : "roster_cut", verdicts.length));
  }, () => rosterSays(say("roster_unread"))).then(() => {
    roster.busy = false;
  });
}

function rosterDone(words) {
  rosterSays(words);
  text("roster-counts", sumsOf(roster.verdicts));
  show("roster-tools", roster.verdicts.length > 0);
  show("roster-scroll", roster.verdicts.length > 0);
  rosterTable();
}

// 绿码 3 · 红码 1, the least usual states first named.
function sumsOf(verdicts) {
  const counts = {};
  for (const verdict of verdicts) {
    const state = verdict.state || verdict.error;
    counts[state] = (counts[state] || 0) + 1;
  }
  return Object.keys(counts).sort().map((state) => rosterWord(state) + " " + counts[state]).join(" · ");
}

function rosterTable() {
  const only = part("roster-only").checked;
  const heads = [say("line")].concat(roster.own, ["state", "name", "cert_no", "assurance", "reasons"].map((name) => say(name)));
  fill("roster-head", heads.map((words) => made("th", { scope: "col" }, words || "\u00a0")));
  const rows = document.createDocumentFragment();
  let shown = 0;
  let left = 0;
  roster.verdicts.forEach((verdict, nth) => {
    if (only && verdict.state === "green") return;
    if (shown >= ROSTER_ROWS_SHOWN) {
      left += 1;
      return;
    }
    shown += 1;
    const { own } = roster.rows[nth];
    const cells = verdictCells(verdict);
    const line = row([String(nth + 1)].concat(roster.own.map((name, column) => own[column] || ""), [rosterWord(cells[0]), cells[1], cells[2], rosterWord(cells[3]), cells[4]]));
    line.children[1 + roster.own.length].dataset.state = cells[0];
    rows.appendChild(line);
  });
  const body = part("roster-rows");
  body.textContent = "";
  body.appendChild(rows);
  text("roster-shown", left ? say("roster_shown", shown) : "");
}

function verdictCells(verdict) {
  return [
    verdict.state || verdict.error, verdict.name || "", verdict.cert_no || "", verdict.assurance || "", (verdict.reasons || []).map((reason) => reason.text).join(", "),
    verdict.status || "", verdict.issued_at || "", verdict.as_of || "", verdict.stale ? "stale" : "",
  ];
}

function rosterWord(word) {
  return word && (say(word) || word);
}

function rosterDownload() {
  const names = ["line"].concat(roster.own, ["state", "name", "cert_no", "assurance", "reasons", "status", "issued_at", "as_of", "stale"]);
  const lines = roster.verdicts.map((verdict, nth) => [String(nth + 1)].concat(roster.own.map((name, column) => roster.rows[nth].own[column] || ""), verdictCells(verdict)));
  save("verdicts", [names].concat(lines));
}

function rosterSays(words) {
  text("roster-says", words);
}
