// Tabs above the code: the resident and the family members for whom this tab has a session. A switch asks the resident door
// alone. The desk is asked for members at a tap, and in the background where this device has shown members before.

const RENEW_BEFORE = 3600000;
const family = { members: [], max: 0, background: false };

// Who is kept belongs to one session of the resident.
function keptFamily() {
  try {
    const kept = JSON.parse(keepHere.get("family"));
    if (kept && kept.own === held.own && Array.isArray(kept.members)) return kept.members;
  } catch (garbled) {
    // As if nobody were kept.
  }
  return [];
}

function keepFamily(members) {
  family.members = members;
  keepHere.set("family", members.length ? JSON.stringify({ own: held.own, members }) : null);
  keep.set("family", members.length ? "1" : null);
  drawTabs();
}

function isGood(member) {
  return Boolean(member.session) && Date.parse(member.expires_at) - Date.now() > RENEW_BEFORE;
}

// Reads who there is, and gets a session for each who has none.
function readFamily() {
  const { own } = held;
  return askDesk("v1/family", { credential: own }).then((outcome) => {
    if (own !== held.own || !outcome.answer) return outcome;
    const had = family.members;
    family.max = outcome.answer.members_max;
    keepFamily(outcome.answer.members.map((member) => {
      const before = had.find((one) => one.id === member.id);
      return before && before.session ? Object.assign({}, member, { session: before.session, expires_at: before.expires_at, assurance: before.assurance }) : member;
    }));
    renewFamily(own);
    return outcome;
  });
}

// One after the other, and no further where the desk refuses.
function renewFamily(own) {
  const member = family.members.find((one) => !isGood(one));
  if (!member || own !== held.own) return;
  renewMember(member).then((outcome) => {
    if (outcome.answer) renewFamily(own);
  });
}

function renewMember(member) {
  const { own } = held;
  return tellDesk("v1/family/" + encodeURIComponent(member.id) + "/session", own, {}).then((outcome) => {
    if (outcome.answer && own === held.own) {
      // The session tells the assurance of now, which may have risen since the member was added.
      const { session, expires_at, assurance } = outcome.answer;
      keepFamily(family.members.map((one) => (one.id === member.id ? Object.assign({}, one, { session, expires_at, assurance }) : one)));
    }
    return outcome;
  });
}

function showFor(id) {
  if (!id) return become(held.own, null);
  const member = family.members.find((one) => one.id === id);
  if (!member) return undefined;
  if (member.session && Date.parse(member.expires_at) > Date.now()) return become(member.session, member);
  const { round } = held;
  return renewMember(member).then((outcome) => {
    if (round !== held.round) return;
    if (outcome.answer) return showFor(id);
    held.notice = whyNot(outcome);
    render();
  });
}

// The session of a member is refused: over, and another is asked for; or no more a member.
function memberRefused(refusal) {
  const { member } = held;
  if (refusal.code === "session_expired") {
    keepFamily(family.members.map((one) => (one.id === member.id ? Object.assign({}, one, { session: null }) : one)));
    become(held.own, null, say("member_again"));
    return showFor(member.id);
  }
  keepFamily(family.members.filter((one) => one.id !== member.id));
  return become(held.own, null, say("member_gone"));
}

function tailOf(number) {
  const tail = /[^*]+$/.exec(number || "");
  return tail ? tail[0] : "";
}

function drawTabs() {
  const shown = held.member ? held.member.id : "";
  const key = JSON.stringify([language, shown, family.members.map((one) => [one.id, one.name, one.assurance]), held.desk]);
  const tabs = part("family");
  if (tabs.dataset.key === key) return;
  tabs.dataset.key = key;
  const people = [{ id: "", name: say("myself") }].concat(family.members);
  const buttons = people.map((one) => {
    const tab = button(one.name, () => showFor(one.id));
    if (one.id) tab.appendChild(element("b", tailOf(one.cert_no)));
    if (one.assurance === "unverified") {
      tab.dataset.white = "";
      tab.appendChild(document.createTextNode(" " + say("unverified_short")));
    }
    tab.setAttribute("aria-pressed", String(one.id === shown));
    return tab;
  });
  if (held.desk !== false) {
    const add = button("＋ " + say("family"), () => openTile("family"));
    add.dataset.sheet = "family";
    buttons.push(add);
  }
  fill("family", buttons);
}

// Where this device has shown members, the desk is asked for them once, some time after the first code.
function familyInBackground() {
  if (family.background || keep.get("family") !== "1") return;
  family.background = true;
  const { own } = held;
  setTimeout(() => {
    if (own === held.own && !document.hidden) readFamily();
  }, 1000 + 4000 * Math.random());
}
