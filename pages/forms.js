// What a resident tells the desk: a declaration, an entry, an appeal, a grant. However often it is tapped a form is filed once;
// what is wrong with it is said in words, and the field is marked.

// Which field the service means.
const WRONG = {
  bad_temperature: "celsius", unknown_symptom: "symptoms", unknown_contact: "contact", unknown_reason: "reason",
  bad_text: "text", bad_source: "organisation", bad_until: "until", bad_region: "residence", bad_places: "places",
  bad_number: "number", unknown_transport: "transport", unknown_result: "result", bad_document: "cert_no", bad_check_digit: "cert_no", bad_birth_date: "cert_no", offline_registration: "cert_no", no_consent: "cert_no", bad_name: "name",
};
const SYMPTOMS = ["none", "cold_like", "short_breath", "nausea", "palpitation", "conjunctivitis"];

// Fields, each with its words.
function field(words, input, optional) {
  return element("label", element("span", words + (optional ? say("optional") : "")), input);
}

function input(name, type, more) {
  return made("input", Object.assign({ name, type, autocomplete: "off" }, more));
}

function choice(name, options, more) {
  const select = made("select", Object.assign({ name }, more));
  for (const [value, words] of [["", say("choose")]].concat(options)) select.appendChild(made("option", { value }, words));
  return select;
}

// Somebody was asked whether it is meant so, and did not say yes.
const UNSURE = {};

// A form with its button and the line in which it speaks. `content` makes of the fields what is sent; `sure` promises nothing where
// that is meant, UNSURE where it is not, or the outcome that kept it from finding out.
function formOf(id, fields, { path, content, done, sure, about }) {
  const says = made("p", { id: id + "-says", role: "alert" });
  const form = made("form", { id: id + "-form", novalidate: true }, ...fields, made("button", { class: "primary wide" }, say("send")), says);
  const state = { form, says, once: null, sending: null };
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (state.sending === held.round) return;
    tidy(form);
    const wrong = Array.from(form.elements).find((one) => one.name && (!one.validity.valid || isHalfChosen(one)));
    if (wrong) return mark(state, wrong.name);
    mark(state, "");
    says.textContent = say("sending");
    state.sending = held.round;
    const { round } = held;
    const told = content(form.elements, form);
    const send = () => {
      // The same words again, after a silence: the same word for them.
      state.once = state.once || Date.now().toString(36) + "-" + Math.random().toString(36).slice(2);
      return tellDesk(path, about ? about(form) : held.session, told, state.once);
    };
    (sure ? sure(told).then((stop) => stop || send()) : send()).then((outcome) => {
      if (round !== held.round) return;
      state.sending = null;
      if (outcome === UNSURE) {
        says.textContent = "";
        return;
      }
      const meant = outcome.refusal && WRONG[outcome.refusal.code];
      if (meant && form.elements[meant]) return mark(state, meant, outcome.refusal.code);
      if (!outcome.answer) return sayTrouble(says, outcome);
      form.reset();
      says.dataset.mood = "good";
      says.textContent = say("sent");
      if (done) done(outcome.answer);
    });
  });
  form.addEventListener("input", () => {
    state.once = null;
  });
  form.addEventListener("reset", () => {
    state.once = null;
    mark(state, "");
  });
  return form;
}

// Whether a place is chosen as far as its province alone, or not at all where there must be one.
function isHalfChosen(one) {
  const group = one.type === "hidden" ? one.closest("fieldset") : null;
  return Boolean(group) && group.dataset.whole === "false" && Boolean(one.value || group.querySelector("[required]"));
}

// What the service would refuse for its blanks or line ends alone is put right; what only the fields together tell is checked.
function tidy(form) {
  for (const one of form.elements) {
    if (one.type === "text" || one.type === "textarea") one.value = one.value.replace(/\s+/g, " ").trim();
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

// The words for what is wrong with a field: those of the refusal, those of the field, or that it must be there.
const WRONG_WORDS = { no_consent: "wrong_person", bad_document: "wrong_document", bad_check_digit: "wrong_document", bad_birth_date: "wrong_document", offline_registration: "wrong_document", arrives: "wrong_day", departs: "wrong_day", number: "wrong_number" };

function mark({ form, says }, name, code) {
  let first = null;
  for (const one of form.elements) {
    if (!one.name) continue;
    one.setAttribute("aria-invalid", String(one.name === name));
    if (one.name === name && !first) first = one;
  }
  delete says.dataset.mood;
  // Said where it is to be mended.
  const place = first && (first.closest("fieldset") || first.closest("label"));
  if (place) place.insertAdjacentElement("afterend", says);
  else form.appendChild(says);
  says.textContent = name ? say(WRONG_WORDS[code]) || say("wrong_" + name) || say(WRONG_WORDS[name]) || say("wrong") : "";
  if (!first) return;
  const target = first.type === "hidden" ? place.querySelector("select") : first;
  target.focus();
}

// What a form needs of the names of places; without them the form says so.
function withDivisions(body, draw) {
  body.appendChild(made("p", { role: "status" }, say("loading_part")));
  const again = () => load("{divisions.js}").then(() => {
    body.textContent = "";
    draw(window.liangma.divisions.divisionFields);
  }, () => {
    body.textContent = "";
    body.appendChild(element("p", say("away")));
    body.appendChild(button(say("again_now"), again, "primary"));
  });
  return again();
}

SHEETS.declare = (body) => withDivisions(body, (divisionFields) => {
  const symptoms = element("fieldset", element("legend", say("symptoms")));
  for (const name of SYMPTOMS) {
    symptoms.appendChild(made("label", { class: "check" }, made("input", { type: "checkbox", name: "symptoms", value: name }), " " + say(name)));
  }
  const residence = divisionFields("residence", false, "44", say("residence") + say("optional"));
  const places = placesField(divisionFields);
  const fields = [
    field(say("celsius"), input("celsius", "number", { inputmode: "decimal", min: 30, max: 45, step: "any" }), true),
    symptoms,
    field(say("contact"), choice("contact", ["no", "yes", "unsure"].map((one) => [one, say(one)]), { required: true })),
    field(say("risk"), choice("high_risk_area", ["no", "yes"].map((one) => [one, say(one)]), { required: true })),
    residence.group, places.group,
  ];
  // For another only by the resident's own session: a member's session is the member's.
  const person = held.member ? null : personFields();
  const form = formOf("declaration", person ? [person.choice, person.group].concat(fields) : fields, {
    path: "v1/declarations",
    content: ({ celsius, contact, high_risk_area }, all) => ({
      for: person ? person.content() : undefined,
      celsius: celsius.value === "" ? undefined : Number(celsius.value),
      symptoms: symptomsOf(all), contact: contact.value, high_risk_area: high_risk_area.value === "yes",
      residence: residence.value.value || undefined, places: places.codes.length ? places.codes : undefined,
    }),
    done: () => {
      if (part("declarations-list")) readList("declarations", part("declarations-list"));
    },
  });
  form.addEventListener("reset", () => {
    residence.reset();
    places.reset();
    if (person) person.reset();
  });
  body.appendChild(made("p", { class: "quiet" }, say("declaration_note")));
  body.appendChild(form);
  const list = listOf("declarations");
  body.appendChild(element("h2", say("own_entries")));
  body.appendChild(list);
  readList("declarations", list);
});

LISTS.declarations = { path: "v1/declarations", of: "declarations", hasPlaces: true, item: (one) => recordCard(Object.assign({ kind: "declaration" }, one), one.current) };

// Somebody else: who it is.
function personFields() {
  const whom = choice("whom", [["other", say("other")]]);
  whom.options[0].textContent = say("self");
  const number = input("cert_no", "text", { maxlength: 20, autocapitalize: "characters" });
  const name = input("name", "text", { maxlength: 64 });
  const type = choice("cert_type", ["10", "14", "20"].map((one) => [one, say("type_" + one)]));
  const group = made("fieldset", { hidden: true }, element("legend", say("other")), made("p", { class: "quiet" }, say("other_note")),
    field(say("cert_type"), type), field(say("cert_no"), number), field(say("person_name"), name));
  const settle = () => {
    group.hidden = whom.value !== "other";
    for (const one of [number, name, type]) one.required = !group.hidden;
  };
  whom.addEventListener("change", settle);
  return {
    choice: field(say("for_who"), whom), group,
    content: () => (whom.value ? { cert_type: type.value, cert_no: number.value.toUpperCase(), name: name.value } : undefined),
    reset: () => setTimeout(settle, 0),
  };
}

// Some places, each added by itself.
function placesField(divisionFields) {
  const codes = [];
  const one = divisionFields("places", false, "", say("places") + say("optional"));
  const list = element("div");
  const draw = () => {
    list.textContent = "";
    codes.forEach((code, nth) => {
      const name = regionName(code);
      const away_ = button(name + " ✕", () => {
        codes.splice(nth, 1);
        draw();
      });
      away_.setAttribute("aria-label", say("remove_place", name));
      list.appendChild(away_);
    });
  };
  const add = button(say("add_place"), () => {
    const code = one.value.value;
    if (code && codes.indexOf(code) < 0 && codes.length < 20) codes.push(code);
    one.reset();
    draw();
  });
  one.group.appendChild(add);
  one.group.appendChild(list);
  return {
    group: one.group,
    // What was chosen and not yet added is meant too.
    get codes() {
      const last = one.value.value;
      return last && one.group.dataset.whole === "true" && codes.indexOf(last) < 0 && codes.length < 20 ? codes.concat(last) : codes;
    },
    reset: () => {
      codes.length = 0;
      one.reset();
      draw();
    },
  };
}

SHEETS.entry = (body) => withDivisions(body, (divisionFields) => {
  const destination = divisionFields("destination", true, "44", say("destination"));
  const from = divisionFields("from", false, "", say("from") + say("optional"));
  const list = listOf("entries");
  const today = dayInChina(Date.now());
  const result = choice("result", [["negative", say("negative")], ["positive", say("positive")]]);
  result.options[0].textContent = say("test_none");
  const testAt = input("tested", "date", { max: today });
  const whenTested = field(say("test_at"), testAt);
  const settle = () => {
    whenTested.hidden = !result.value;
    testAt.required = Boolean(result.value);
  };
  result.addEventListener("change", settle);
  settle();
  const form = formOf("entry", [
    destination.group,
    field(say("arrives"), input("arrives", "date", { required: true })),
    from.group,
    field(say("departs"), input("departs", "date"), true),
    field(say("transport"), choice("transport", ["train", "plane", "coach", "ship", "car", "other"].map((one) => [one, say(one === "other" ? "other_way" : one)]), { required: true })),
    field(say("transport_no"), input("number", "text", { maxlength: 32, autocapitalize: "characters" }), true),
    field(say("test"), result), whenTested,
  ], {
    path: "v1/entries",
    content: ({ arrives, departs, transport, number }) => ({
      destination: destination.value.value, arrives: arrives.value, from: from.value.value || undefined, departs: departs.value || undefined,
      transport: transport.value, number: number.value || undefined,
      nucleic_test: result.value ? { result: result.value, at: testAt.value + "T00:00:00+08:00" } : undefined,
    }),
    done: () => readList("entries", list),
  });
  form.addEventListener("reset", () => {
    destination.reset();
    from.reset();
    setTimeout(settle, 0);
  });
  body.appendChild(made("p", { class: "quiet" }, say("declaration_note")));
  body.appendChild(form);
  body.appendChild(element("h2", say("own_entries")));
  body.appendChild(list);
  readList("entries", list);
});

SHEETS.appeals = (body) => {
  const list = listOf("appeals");
  const reasons = held.answer ? held.answer.reasons : [];
  body.appendChild(made("p", { class: "quiet" }, calling(say("appeal_note"))));
  if (reasons.length) {
    const reason = choice("reason", reasons.map((one) => [one.reason, one.text]), { required: true });
    reason.removeChild(reason.options[0]);
    body.appendChild(formOf("appeals", [
      field(say("appeal_reason"), reason),
      field(say("appeal_text"), made("textarea", { name: "text", required: true, maxlength: 200, rows: 3 })),
    ], {
      path: "v1/appeals", content: (fields) => ({ reason: fields.reason.value, text: fields.text.value }), done: () => readList("appeals", list),
    }));
  } else {
    body.appendChild(made("p", { id: "appeals-none" }, say("appeal_none")));
  }
  body.appendChild(list);
  readList("appeals", list);
};

SHEETS.grants = (body) => {
  const list = listOf("grants");
  const form = formOf("grants", [
    field(say("organisation_code"), input("organisation", "text", { required: true, maxlength: 64, pattern: "[A-Za-z0-9._\\-]+", autocapitalize: "none" })),
    field(say("grant_until"), input("until", "date", { required: true, min: dayInChina(Date.now()) })),
  ], {
    path: "v1/grants",
    content: ({ organisation, until }) => ({ organisation: organisation.value, until: until.value }),
    // Nobody takes a slip of the pen back from an organisation that has scanned already: its name is shown before.
    sure: ({ organisation, until }) => askDesk("v1/organisations/" + encodeURIComponent(organisation), { credential: held.own }).then((outcome) => {
      if (!outcome.answer) return outcome;
      const { organisation_name: name } = outcome.answer;
      const words = name ? say("grant_sure", name, organisation, dayWords(until)) : say("grant_sure_unnamed", organisation, dayWords(until));
      return window.confirm(words) ? undefined : UNSURE;
    }),
    done: () => readList("grants", list),
  });
  body.appendChild(made("p", { class: "quiet" }, say("grant_note")));
  body.appendChild(list);
  body.appendChild(form);
  readList("grants", list);
};

SHEETS.lost = (body) => {
  const says = made("p", { id: "lost-says", role: "status" });
  const act = button(say("lost_do"), () => {
    const { round } = held;
    act.disabled = true;
    says.textContent = say("sending");
    askDesk("v1/sessions/revoke", { method: "POST", credential: held.own }).then((outcome) => {
      if (round !== held.round) return;
      act.disabled = Boolean(outcome.answer);
      if (!outcome.answer) return sayTrouble(says, outcome);
      says.textContent = say("lost_done");
      // The sessions by which this phone showed the family are over too, and others are asked for.
      window.liangma.keepFamily(family.members.map((one) => Object.assign({}, one, { session: null })));
      window.liangma.readFamily();
    });
  }, "primary");
  body.appendChild(element("p", say("lost_note")));
  body.appendChild(act);
  body.appendChild(says);
};
