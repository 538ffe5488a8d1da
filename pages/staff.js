// The staff's page: people without an eligible document registered, with a slip to print; registrations looked up with a
// purpose; and who comes to a place on a day.

const staff = Object.assign({ view: "register", registered: null, entries: null }, tokens({ t: "staff" }));
const CERT_TYPES = ["34", "15", "16", "99", "none"];

function field(words, input, optional) {
  return element("label", element("span", words + (optional ? say("optional") : "")), input);
}

function input(name, more) {
  return made("input", Object.assign({ name, type: "text", autocomplete: "off" }, more));
}

function choice(name, options, more) {
  const select = made("select", Object.assign({ name }, more));
  for (const [value, words] of options) select.appendChild(made("option", { value }, words));
  return select;
}

function says(form) {
  return form.querySelector("[role=alert]");
}

// Draws a form anew, with its button and the line in which it speaks.
function formIn(id, fields, words) {
  const sheet = part(id);
  sheet.textContent = "";
  for (const one of fields) sheet.appendChild(one);
  sheet.appendChild(made("button", { class: "primary large" }, words));
  sheet.appendChild(made("p", { role: "alert", id: id + "-says" }));
  return sheet;
}

// What is wrong is said where it is to be mended.
function mark(sheet, wrong) {
  wrong.setAttribute("aria-invalid", "true");
  (wrong.closest("fieldset") || wrong.closest("label")).insertAdjacentElement("afterend", says(sheet));
  wrong.focus();
}

// Whether all that must be there is; the first that is not is marked.
function isWhole(sheet) {
  for (const one of sheet.elements) {
    if (one.type === "text") one.value = one.value.replace(/\s+/g, " ").trim();
    one.removeAttribute("aria-invalid");
  }
  sheet.appendChild(says(sheet));
  const wrong = Array.from(sheet.elements).find((one) => !one.disabled && !one.validity.valid);
  if (!wrong) return true;
  mark(sheet, wrong);
  says(sheet).textContent = say(wrong.name === "own" && wrong.value ? "bad_purpose" : "wrong");
  return false;
}

function refused(place, outcome) {
  const { refusal } = outcome;
  if (refusal && refusal.status === 401) {
    show("login", true);
    text("login", say("login_says"));
  }
  const known = refusal && ["bad_document", "bad_check_digit", "bad_name", "bad_text", "bad_purpose", "not_found", "not_permitted"].find((code) => code === refusal.code);
  if (known) place.textContent = say(known);
  else sayWhyNot(place, outcome);
}

// A purpose: one of the list, or one's own word.
function purposeFields() {
  const own = input("own", { maxlength: 64, pattern: "[A-Za-z0-9._\\-]+", autocapitalize: "none", disabled: true });
  const ownField = field(say("purpose_own"), own);
  ownField.hidden = true;
  const select = choice("purpose", [["", say("choose")]].concat(PURPOSES.map((one) => [one, say("purpose_" + one)]), [["own", say("purpose_other")]]), { required: true });
  select.addEventListener("change", () => {
    ownField.hidden = select.value !== "own";
    own.disabled = ownField.hidden;
    own.required = !ownField.hidden;
  });
  return { fields: [field(say("purpose"), select), ownField], get value() {
    return select.value === "own" ? own.value : select.value;
  } };
}

function documentFields(types) {
  const number = input("cert_no", { maxlength: 32, autocapitalize: "characters", required: true });
  const numberField = field(say("cert_no"), number);
  const type = choice("cert_type", types.map((one) => [one, say("type_" + one)]));
  const settle = () => {
    numberField.hidden = type.value === "none";
    number.disabled = numberField.hidden;
  };
  type.addEventListener("change", settle);
  return { fields: [field(say("cert_type"), type), numberField], type, number };
}

function drawRegister() {
  const { fields, type, number } = documentFields(CERT_TYPES);
  const [name, nationality, phone, address] = [input("name", { maxlength: 64, required: true }), input("nationality", { maxlength: 3, autocapitalize: "characters" }), input("phone", { maxlength: 32, inputmode: "tel" }), input("address", { maxlength: 200 })];
  const sheet = formIn("register-form", fields.concat(field(say("name"), name), field(say("nationality"), nationality, true), field(say("phone"), phone, true), field(say("address"), address, true)), say("send"));
  let once = null;
  sheet.oninput = () => {
    once = null;
  };
  sheet.onsubmit = (event) => {
    event.preventDefault();
    if (!isWhole(sheet) || staff.sending) return;
    staff.sending = true;
    says(sheet).textContent = say("sending");
    once = once || Date.now().toString(36) + "-" + Math.random().toString(36).slice(2);
    const given = (one) => one.value || undefined;
    tellDesk("v1/registrations", staff.t, {
      cert_type: type.value, cert_no: type.value === "none" ? undefined : number.value.toUpperCase(), name: name.value,
      nationality: nationality.value.toUpperCase() || undefined, phone: given(phone), address: given(address),
    }, once).then((outcome) => {
      staff.sending = false;
      says(sheet).textContent = "";
      if (!outcome.answer) return refused(says(sheet), outcome);
      return named([outcome.answer.region]).then(() => {
        staff.registered = outcome.answer;
        drawSlip();
      });
    });
  };
  drawSlip();
}

// The slip: what the service says of it line by line, its number large, and as a code that a hardware scanner reads into a field.
function drawSlip() {
  const { registered } = staff;
  show("register-form", !registered);
  show("slip", Boolean(registered));
  show("slip-tools", Boolean(registered));
  if (!registered) return;
  const canvas = made("canvas", { role: "img", "aria-label": say("number") });
  drawCode(canvas, registered.number, 8);
  // The service says where by the digits alone.
  const named = registered.slip.replace(new RegExp("\\b" + registered.region + "\\b"), division(registered.region || ""));
  const lines = named.split("\n").filter((line) => line && line.indexOf("No. ") !== 0);
  fill("slip", [element("h3", say("issuer"))].concat(
    lines.slice(0, 1).map((line) => element("p", element("strong", line))), canvas, made("p", { class: "number", id: "slip-number" }, registered.number),
    lines.slice(1).map((line) => element("p", line))
  ));
}

function printSlip() {
  // The size of paper is a rule of the page, and no rule of a page can depend on what was chosen.
  const sheet = document.styleSheets[0];
  if (staff.rule !== undefined) sheet.deleteRule(staff.rule);
  staff.rule = sheet.insertRule("@page { margin: 4mm; size: " + part("paper").value + "; }", sheet.cssRules.length);
  window.print();
}

function drawFind() {
  const number = input("number", { maxlength: 32, autocapitalize: "characters", required: true });
  const { fields, type, number: certNo } = documentFields(CERT_TYPES.filter((one) => one !== "none"));
  const by = choice("by", [["number", say("by_number")], ["document", say("by_document")]]);
  const purpose = purposeFields();
  const numberField = field(say("number"), number);
  const settle = () => {
    const byDocument = by.value === "document";
    for (const one of fields) one.hidden = !byDocument;
    numberField.hidden = byDocument;
    number.disabled = byDocument;
    certNo.disabled = !byDocument;
  };
  by.addEventListener("change", settle);
  const sheet = formIn("find-form", [field(say("by"), by), numberField].concat(fields, purpose.fields), say("look"));
  settle();
  sheet.onsubmit = (event) => {
    event.preventDefault();
    if (!isWhole(sheet)) return;
    part("found").textContent = "";
    says(sheet).textContent = say("reading");
    const who = by.value === "number" ? { number: number.value.toUpperCase() } : { cert_type: type.value, cert_no: certNo.value.toUpperCase() };
    tellDesk("v1/registrations/find", staff.t, Object.assign({ purpose: purpose.value }, who)).then((outcome) => {
      says(sheet).textContent = "";
      if (!outcome.answer) return refused(says(sheet), outcome);
      return named(outcome.answer.registrations.map((one) => one.region)).then(() => drawFound(outcome.answer));
    });
  };
  part("found").textContent = "";
}

function drawFound({ registrations, note }) {
  const [newest] = registrations;
  const about = [
    ["name", newest.name], ["number", newest.number], ["cert_type", say("type_" + newest.cert_type)], ["cert_no", newest.cert_no], ["nationality", newest.nationality],
    ["phone", newest.phone], ["address", newest.address], ["registered_by", newest.registered_by_name || newest.registered_by], ["region", newest.region && division(newest.region)], ["registered_at", inChina(newest.at)],
  ];
  const list = element("dl");
  for (const [name, value] of about) {
    if (value) list.appendChild(element("div", element("dt", say(name)), element("dd", value)));
  }
  const state = newest.state || "unknown";
  const reasons = (newest.reasons || []).map((reason) => say(reason) || reason).join(language === "en" ? ", " : "、");
  fill("found", [made("div", { class: "result stack" },
    made("p", { class: "state", "data-state": state, id: "found-state" }, say(state)),
    element("p", [reasons, newest.as_of ? say("as_of", clockTime(newest.as_of)) : ""].filter(Boolean).join(" · ")),
    list, made("p", { class: "quiet" }, note))]);
}

function drawEntries() {
  const place = divisionFields("destination", true, "44", say("destination"));
  const day = input("day", { type: "date", required: true });
  day.value = dayInChina(Date.now());
  const purpose = purposeFields();
  const sheet = formIn("entries-form", [place.group, field(say("day"), day)].concat(purpose.fields), say("list"));
  sheet.onsubmit = (event) => {
    event.preventDefault();
    if (!isWhole(sheet)) return;
    if (!place.value.value || place.group.dataset.whole === "false") {
      mark(sheet, place.selects.find((one) => !one.value && !one.parentNode.hidden) || place.selects[1]);
      says(sheet).textContent = say("wrong");
      return undefined;
    }
    says(sheet).textContent = say("reading");
    staff.entries = null;
    text("entries-count", "");
    drawTable();
    const found = [];
    const query = "v1/entries?destination=" + place.value.value + "&day=" + day.value + "&purpose=" + purpose.value + "&limit=50";
    const step = (after) => askDesk(query + (after ? "&after=" + after : ""), { credential: staff.t }).then((outcome) => {
      if (!outcome.answer) {
        refused(says(sheet), outcome);
        if (found.length) says(sheet).textContent += " " + say("cut", found.length);
        return undefined;
      }
      for (const one of outcome.answer.entries) found.push(one);
      if (outcome.answer.next) return step(outcome.answer.next);
      says(sheet).textContent = "";
      text("entries-count", found.length ? say("people", found.length) : say("none"));
      return undefined;
    });
    step().then(() => named(found.reduce((codes, one) => codes.concat(one.destination, one.from), []))).then(() => {
      staff.entries = found;
      drawTable();
    });
  };
  drawTable();
}

const ENTRY_HEADS = ["person", "cert_no", "destination", "day", "from", "transport", "transport_no", "test", "test_at", "declared_at"];

function entryCells(entry) {
  const test = entry.nucleic_test;
  return [
    entry.person.name, entry.person.cert_no, division(entry.destination), entry.arrives, entry.from ? division(entry.from) : "", say(entry.transport), entry.number || "",
    test ? say(test.result) : "", test ? dayInChina(test.at) : "", inChina(entry.at),
  ];
}

function drawTable() {
  const { entries } = staff;
  const some = Boolean(entries && entries.length);
  show("entries-tools", some);
  show("entries-scroll", some);
  if (!some) return;
  fill("entries-head", ENTRY_HEADS.map((name) => made("th", { scope: "col" }, say(name))));
  fill("entries-rows", entries.map((entry) => row(entryCells(entry))));
}

function openView(view) {
  staff.view = view;
  for (const one of document.querySelectorAll("[data-opens]")) {
    one.setAttribute("aria-pressed", String(one.dataset.opens === view));
    show(one.dataset.opens, one.dataset.opens === view);
  }
}

function drawAll() {
  drawRegister();
  drawFind();
  drawEntries();
  openView(staff.view);
}

// The fields for divisions are of a part that other pages load later, and speak through the page.
Object.assign(window.liangma, { made, say, load, language: () => language });
offerLanguages(drawAll);
drawAll();
if (staff.n) text("office", staff.n);
if (!staff.t) {
  show("login", true);
  text("login", say("login_says"));
}
for (const one of document.querySelectorAll("[data-opens]")) one.addEventListener("click", () => openView(one.dataset.opens));
part("print").addEventListener("click", printSlip);
part("again").addEventListener("click", () => {
  staff.registered = null;
  drawRegister();
});
part("entries-save").addEventListener("click", () => save("entries", [ENTRY_HEADS.map((name) => say(name))].concat(staff.entries.map(entryCells))));
