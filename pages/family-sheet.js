// The family: whom the resident shows, who shows the resident, adding and ending. A member is added by the member's own
// assertion: the identity platform sends it back to this page behind the # of its address, with the word it was sent away with.

function memberCard(member, act, words) {
  const student = member.assurance !== "unverified" || member.student === undefined ? "" : say(member.student ? "student_yes" : "student_no");
  const end = button(words, act);
  return card(member.name, [[tailOf(member.cert_no) && say("tail", tailOf(member.cert_no)), say(member.assurance), student]], end);
}

function endMember(member, question, says, again) {
  if (!window.confirm(question)) return;
  const { round } = held;
  says.textContent = say("sending");
  askDesk("v1/family/" + encodeURIComponent(member.id), { method: "DELETE", credential: held.own }).then((outcome) => {
    if (round !== held.round) return;
    says.textContent = "";
    if (!outcome.answer && !(outcome.refusal && outcome.refusal.status === 404)) return sayTrouble(says, outcome);
    again();
  });
}

SHEETS.family = (body) => {
  const says = made("p", { id: "family-says", role: "status" }, say("loading_part"));
  const content = element("div");
  body.appendChild(says);
  body.appendChild(content);
  const read = () => {
    const { round } = held;
    window.liangma.readFamily().then((outcome) => {
      if (round !== held.round) return;
      says.textContent = "";
      if (!outcome.answer) return sayTrouble(says, outcome);
      draw(outcome.answer);
    });
  };
  const draw = ({ members, shown_by, members_max, add_at }) => {
    content.textContent = "";
    const list = made("ul", { class: "cards", id: "members-list" });
    for (const member of members) {
      const one = memberCard(member, () => endMember(member, say("remove_sure", member.name), says, read), say("remove"));
      const open = button(say("show_this"), () => window.liangma.showFor(member.id), "primary");
      open.dataset.member = member.id;
      one.insertBefore(open, one.lastChild);
      list.appendChild(one);
    }
    if (!members.length) list.appendChild(element("li", say("nothing")));
    content.appendChild(element("h2", say("members")));
    content.appendChild(list);
    content.appendChild(adding(members.length < members_max, add_at, members_max));
    const others = made("ul", { class: "cards", id: "shown-by-list" });
    for (const member of shown_by) others.appendChild(memberCard(member, () => endMember(member, say("leave_sure", member.name), says, read), say("leave")));
    if (!shown_by.length) others.appendChild(element("li", say("nothing")));
    content.appendChild(element("h2", say("shown_by")));
    content.appendChild(others);
  };
  read();
};

function adding(room, address, most) {
  const group = made("div", { class: "stack" }, element("h2", say("add")), made("p", { class: "quiet" }, say("add_says") + (languageNow() === "en" ? " " : "") + say("white_note")));
  if (!room) group.appendChild(element("p", say("most", most)));
  else if (!address) group.appendChild(element("p", say("add_elsewhere")));
  else {
    const student = made("input", { type: "checkbox", id: "student" });
    group.appendChild(made("label", { class: "check" }, student, " " + say("student")));
    group.appendChild(button(say("go_on"), () => {
      const word = Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => (byte + 256).toString(16).slice(1)).join("");
      keepHere.set("adding", JSON.stringify({ word, student: student.checked }));
      const back = location.origin + location.pathname;
      location.assign(address + (address.indexOf("?") < 0 ? "?" : "&") + "return=" + encodeURIComponent(back) + "&state=" + word);
    }, "primary"));
  }
  return group;
}

// Back from the platform: what it says of the member goes to the desk once.
SHEETS.added = (body, { assertion, student }) => {
  const says = made("p", { id: "added-says", role: "status" }, say("adding"));
  body.appendChild(says);
  const once = assertion.slice(-40).replace(/[^A-Za-z0-9_-]/g, "");
  const send = () => tellDesk("v1/family", held.own, { assertion, student }, once).then((outcome) => {
    const { answer, refusal } = outcome;
    if (answer) {
      says.textContent = say("added", answer.name) + (answer.background === "white" ? " " + say("white_note") : "");
      window.liangma.readFamily();
    } else if (refusal && refusal.code === "not_a_minor") says.textContent = say("not_a_minor");
    else {
      sayTrouble(says, outcome);
      body.appendChild(button(say("again_now"), (event) => {
        body.removeChild(event.target);
        says.textContent = say("adding");
        send();
      }, "primary"));
    }
  });
  send();
};
