// A roster: a file of codes through the bulk scan, its verdicts as a table and as a file. Verdicts come while codes still
// go; what was cut off is said to be unchecked, never filled in.

const ROSTER_BYTES_MOST = 60e6;
const ROSTER_ROWS_SHOWN = 500;

const roster = { verdicts: [], busy: false };

function offerRoster(credential) {
  const open = (on) => {
    show("roster", on);
    part("roster-open").setAttribute("aria-expanded", String(on));
    part(on ? "roster-file" : "roster-open").focus();
  };
  part("roster-open").addEventListener("click", () => open(true));
  part("roster-close").addEventListener("click", () => open(false));
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
  roster.verdicts = [];
  roster.busy = true;
  show("roster-tools", false);
  show("roster-scroll", false);
  rosterSays(say("roster_working", 0));
  const headers = { "Content-Type": "text/plain", "Accept-Language": language, Authorization: "Bearer " + credential };
  fetch("v1/scan/bulk", { method: "POST", headers, body: file, cache: "no-store", credentials: "omit" })
    .then((response) => {
      if (!response.ok) return response.json().then((problem) => rosterSays(problem.title));
      return rosterRead(response).then(() => rosterDone(say("roster_done", roster.verdicts.length)));
    })
    .catch(() => rosterDone(say("roster_cut", roster.verdicts.length)))
    .then(() => {
      roster.busy = false;
    });
}

function rosterRead(response) {
  let rest = "";
  const take = (piece) => {
    const lines = (rest + piece).split("\n");
    rest = lines.pop();
    for (const line of lines) if (line) roster.verdicts.push(JSON.parse(line));
    rosterSays(say("roster_working", roster.verdicts.length));
  };
  if (!response.body || !response.body.getReader || typeof TextDecoder !== "function") return response.text().then(take);
  const reader = response.body.getReader();
  const decode = new TextDecoder();
  const step = () => reader.read().then(({ done, value }) => {
    if (done) return undefined;
    take(decode.decode(value, { stream: true }));
    return step();
  });
  return step();
}

function rosterDone(words) {
  rosterSays(words);
  const counts = {};
  for (const verdict of roster.verdicts) {
    const state = verdict.state || verdict.error;
    counts[state] = (counts[state] || 0) + 1;
  }
  const sums = Object.keys(counts).sort().map((state) => rosterWord(state) + " " + counts[state]);
  text("roster-counts", sums.join(" · "));
  show("roster-tools", roster.verdicts.length > 0);
  show("roster-scroll", roster.verdicts.length > 0);
  rosterTable();
}

function rosterTable() {
  const only = part("roster-only").checked;
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
    const cells = rosterCells(verdict, nth).slice(0, 6);
    const line = row(cells.map((words, column) => (column === 1 || column === 4 ? rosterWord(words) : words)));
    line.children[1].dataset.state = cells[1];
    rows.appendChild(line);
  });
  const body = part("roster-rows");
  body.textContent = "";
  body.appendChild(rows);
  text("roster-shown", left ? say("roster_shown", shown) : "");
}

function rosterCells(verdict, nth) {
  return [
    String(nth + 1),
    verdict.state || verdict.error,
    verdict.name || "",
    verdict.cert_no || "",
    verdict.assurance || "",
    (verdict.reasons || []).map((reason) => reason.text).join(", "),
    verdict.status || "",
    verdict.issued_at || "",
    verdict.as_of || "",
    verdict.stale ? "stale" : "",
  ];
}

function rosterWord(word) {
  return say(word) || word;
}

function rosterDownload() {
  // A cell that begins like a formula is text to a spreadsheet too.
  const cell = (words) => '"' + (/^[=+@-]/.test(words) ? "'" : "") + words.replace(/"/g, '""') + '"';
  const names = ["line", "state", "name", "cert_no", "assurance", "reasons", "status", "issued_at", "as_of", "stale"];
  const lines = [names].concat(roster.verdicts.map(rosterCells)).map((row) => row.map(cell).join(","));
  const file = new Blob(["\ufeff" + lines.join("\r\n") + "\r\n"], { type: "text/csv;charset=utf-8" });
  const link = document.createElement("a");
  link.href = URL.createObjectURL(file);
  link.download = "verdicts-" + new Date().toISOString().slice(0, 19).replace(/:/g, "") + ".csv";
  document.body.appendChild(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}

function rosterSays(words) {
  text("roster-says", words);
}
