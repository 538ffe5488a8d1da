// Asks the desk. It is the first to be shed: after it said when to come back, it is not asked before.

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

// What to say of an outcome that is no answer. A sentence that ends in "later" gives way to one with the seconds.
function whyNot(outcome) {
  const left = Math.ceil((away.after - since(away.from)) / 1000);
  const refusal = outcome.refusal || {};
  const crowded = ["busy", "upstream_busy", "rate_limited"].indexOf(refusal.code) >= 0;
  if (left > 0 && crowded) return say("busy_for", left);
  return (refusal.title || say("away")) + (left > 0 ? say("wait", left) : "");
}

// Says it in a part of the page, and counts down where there is something to wait for.
function sayWhyNot(place, outcome) {
  place.textContent = whyNot(outcome);
  const told = away;
  if (since(told.from) >= told.after) return;
  const step = () => {
    if (told !== away || !document.contains(place) || place.dataset.said !== said) return;
    const left = since(told.from) < told.after;
    place.textContent = left ? whyNot(outcome) : "";
    if (left) setTimeout(step, 1000);
  };
  const said = String(Math.random());
  place.dataset.said = said;
  setTimeout(step, 1000);
}
