// What a resident tells the desk: a declaration, an appeal, a grant. However often it is tapped a form is filed once; what is
// wrong with it is said in words, and the field is marked.

const FORMS = {
  declaration: {
    path: "v1/declarations",
    content: ({ celsius, contact, high_risk_area }, form) => ({
      celsius: celsius.value === "" ? undefined : Number(celsius.value),
      symptoms: symptomsOf(form),
      contact: contact.value,
      high_risk_area: high_risk_area.value === "yes",
    }),
    seenIn: "health",
  },
  appeals: {
    path: "v1/appeals",
    content: (fields) => ({ reason: fields.reason.value, text: fields.text.value }),
    seenIn: "appeals",
  },
  grants: {
    path: "v1/grants",
    content: ({ organisation, until }) => ({ organisation: organisation.value, until: until.value }),
    seenIn: "grants",
  },
};

// Which field the service means.
const WRONG = {
  bad_temperature: "celsius", unknown_symptom: "symptoms", unknown_contact: "contact", unknown_reason: "reason",
  bad_text: "text", bad_source: "organisation", bad_until: "until",
};

function send(id, form) {
  const { round } = held;
  const { path, content, seenIn } = FORMS[id];
  tidy(form);
  const wrong = Array.from(form.elements).find((field) => field.name && !field.validity.valid);
  if (wrong) return mark(id, form, wrong.name);
  mark(id, form, "");
  text(id + "-says", say("sending"));
  form.sending = round;
  // The same words again, after a silence: the same word for them.
  form.once = form.once || Date.now().toString(36) + "-" + Math.random().toString(36).slice(2);
  tellDesk(path, held.session, content(form.elements, form), form.once).then((outcome) => {
    if (round !== held.round) return;
    form.sending = null;
    const meant = outcome.refusal && WRONG[outcome.refusal.code];
    if (meant) return mark(id, form, meant);
    if (!outcome.answer) return text(id + "-says", whyNot(outcome));
    form.reset();
    text(id + "-says", say("sent"));
    read(seenIn);
  });
}

// What the service would refuse for its blanks or line ends alone is put right; what only the fields together tell is checked.
function tidy(form) {
  for (const field of form.elements) {
    if (field.type === "text" || field.type === "textarea") field.value = field.value.replace(/\s+/g, " ").trim();
  }
  const boxes = form.elements.symptoms;
  if (!boxes) return;
  const symptoms = symptomsOf(form);
  const fits = symptoms.length === 1 || (symptoms.length > 1 && symptoms.indexOf("none") < 0);
  boxes[0].setCustomValidity(fits ? "" : "symptoms");
}

function symptomsOf(form) {
  return Array.from(form.elements.symptoms).filter((box) => box.checked).map((box) => box.value);
}

function mark(id, form, name) {
  let first = null;
  for (const field of form.elements) {
    if (!field.name) continue;
    field.setAttribute("aria-invalid", String(field.name === name));
    if (field.name === name && !first) first = field;
  }
  // Said where it is to be mended.
  const says = part(id + "-says");
  if (first) (first.closest("fieldset") || first.closest("label")).insertAdjacentElement("afterend", says);
  else form.appendChild(says);
  text(id + "-says", name ? say("wrong_" + name) || say("wrong") : "");
  if (first) first.focus();
}

// Appeals are against what stands now.
function offerReasons() {
  const reasons = held.answer ? held.answer.reasons : [];
  fill("appeals-reason", reasons.map((reason) => {
    const option = element("option", reason.text);
    option.value = reason.reason;
    return option;
  }));
  show("appeals-form", reasons.length > 0);
  show("appeals-none", !reasons.length);
}

for (const id of Object.keys(FORMS)) {
  const form = part(id + "-form");
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (form.sending !== held.round) send(id, form);
  });
  form.addEventListener("input", () => {
    form.once = null;
  });
  form.addEventListener("reset", () => {
    form.once = null;
    mark(id, form, "");
  });
}
