// The gate without a network: keys and lists are kept while the door answers, and judge offline codes when it does not. The page itself
// is kept by gate-worker.js. Only silence of the network leads here; a refusal of the door is an answer.

// Past this a door is not waited for where the code can be judged here.
const DOOR_WAIT = 1500;
// While nothing else is known: between two looks for a newer list, and at most.
const LOOK_AGAIN = 60000;
const LOOK_MOST = 3600000;
// The clock was set back if it is behind the latest time that was seen by more.
const CLOCK_BACK = 5 * 60000;

const offline = {
  list: null,
  // The latest time that this device ever saw, and when the page began by both clocks.
  seen: 0,
  from: moment(),
  silent: false,
};

const secure = () => window.isSecureContext && window.indexedDB && window.crypto && window.crypto.subtle;

// ---- what is kept

function database() {
  return new Promise((resolve, reject) => {
    const asked = indexedDB.open("liangma-gate", 1);
    asked.onupgradeneeded = () => asked.result.createObjectStore("kept");
    asked.onsuccess = () => resolve(asked.result);
    asked.onerror = () => reject(asked.error);
  });
}

function keptOffline(name) {
  return database().then((opened) => new Promise((resolve, reject) => {
    const asked = opened.transaction("kept").objectStore("kept").get(name);
    asked.onsuccess = () => resolve(asked.result);
    asked.onerror = () => reject(asked.error);
  }));
}

// All of it or nothing: a base never lies beside changes of another.
function keepOffline(values) {
  return writeKept((kept) => putAll(kept, values));
}

// Keeps lists that are true up to `asOf`, unless another tab keeps later ones.
function keepLists(values, asOf) {
  return writeKept((kept) => {
    const known = kept.get("as_of");
    known.onsuccess = () => {
      if (!(known.result > asOf)) putAll(kept, Object.assign({ as_of: asOf }, values));
    };
  });
}

function putAll(kept, values) {
  for (const name of Object.keys(values)) kept.put(values[name], name);
}

// Writes in one transaction; done when all of it is on the disk.
function writeKept(write) {
  return database().then((opened) => new Promise((resolve, reject) => {
    const writing = opened.transaction("kept", "readwrite");
    write(writing.objectStore("kept"));
    writing.oncomplete = resolve;
    writing.onerror = writing.onabort = () => reject(writing.error);
  }));
}

// ---- time

/** The time of day, which does not go back while the page is open; null where the clock was set back before. */
function offlineNow() {
  const steady = offline.from.wall + (performance.now() - offline.from.steady);
  const now = Math.max(Date.now(), steady);
  return now + CLOCK_BACK < offline.seen ? null : now;
}

// Another tab may have seen a later time.
async function noteTime() {
  try {
    offline.seen = Math.max(offline.seen, (await keptOffline("seen")) || 0);
    const now = offlineNow();
    if (now === null || now < offline.seen) return;
    offline.seen = now;
    await keepOffline({ seen: now });
  } catch (lost) {
    // Memory has it.
  }
}

/** The door's time is as this device's: a clock that was ahead once is right again. */
async function trustTime(date) {
  if (!(Math.abs(date - Date.now()) < CLOCK_BACK)) return;
  offline.seen = Date.now();
  offline.from = moment();
  await keepOffline({ seen: offline.seen }).catch(() => undefined);
}

// ---- keys and lists

async function startOffline() {
  if (!secure()) return;
  const list = new OfflineList();
  try {
    offline.seen = (await keptOffline("seen")) || 0;
    const jwks = await keptOffline("keys");
    if (jwks) {
      list.keys = await OfflineList.readKeys(JSON.parse(jwks));
      const [base, changes, ages] = [await keptOffline("base"), await keptOffline("changes"), await keptOffline("ages")];
      if (base) await list.takeBase(base);
      if (changes) await list.takeChanges(changes);
      if (ages) Object.assign(list, ages);
    }
  } catch (lost) {
    // What cannot be read is fetched anew.
  }
  offline.list = list;
  if (navigator.storage && navigator.storage.persist) navigator.storage.persist().catch(() => undefined);
  if (navigator.serviceWorker) {
    const scope = location.pathname;
    navigator.serviceWorker.register("gate-worker.js", { scope }).catch(() => undefined);
  }
  noteTime();
  setInterval(noteTime, 60000);
  window.addEventListener("online", sync);
  look();
}

async function look() {
  const again = await sync();
  // A random part of a minute: all gates would come at once.
  setTimeout(look, Math.min(LOOK_MOST, again) + Math.random() * Math.min(again / 2, 60000));
}

async function fetched(path, credential) {
  const headers = credential ? { Authorization: "Bearer " + credential } : {};
  const cut = new AbortController();
  const timer = setTimeout(() => cut.abort(), 30000);
  try {
    const response = await fetch(path, { headers, cache: "no-cache", credentials: "omit", signal: cut.signal });
    if (!response.ok) return null;
    const age = /max-age=(\d+)/.exec(response.headers.get("Cache-Control") || "");
    const again = age ? Number(age[1]) * 1000 : LOOK_AGAIN;
    return { bytes: new Uint8Array(await response.arrayBuffer()), again, date: Date.parse(response.headers.get("Date")) };
  } catch (away) {
    return null;
  } finally {
    clearTimeout(timer);
  }
}

let syncing = null;

/** Takes up keys and lists that are newer. How long the newest list is good (ms). */
function sync() {
  syncing = syncing || syncOnce().catch(() => LOOK_AGAIN).then((again) => {
    syncing = null;
    return again;
  });
  return syncing;
}

async function syncOnce() {
  const { list } = offline;
  if (!list || !gate.scanner) return LOOK_AGAIN;
  const jwks = await fetched("v1/keys");
  if (jwks === null) return LOOK_AGAIN;
  const keysText = new TextDecoder().decode(jwks.bytes);
  const keys = await OfflineList.readKeys(JSON.parse(keysText));
  if (!keys.issuer) return LOOK_AGAIN;
  list.keys = keys;
  const place = "v1/list/" + String(keys.issuer).padStart(6, "0");
  const told = await fetched(place, gate.scanner);
  if (told === null) return LOOK_AGAIN;
  const index = JSON.parse(new TextDecoder().decode(told.bytes));
  const ages = { staleAfter: index.stale_after_ms, tooOldAfter: index.too_old_after_ms };
  const newest = index.bases[0];
  if (!list.base || String(list.base.head.number) !== newest.number) {
    const whole = await fetched(place + "/base", gate.scanner);
    if (whole === null || (await list.takeBase(whole.bytes)) !== "taken") return LOOK_AGAIN;
  }
  const after = await fetched(place + "/changes-" + list.base.head.number, gate.scanner);
  if (after) await list.takeChanges(after.bytes);
  Object.assign(list, ages);
  await trustTime(told.date);
  // What the page holds, and not what came: that may be older, and was passed over.
  const { base, changes } = list;
  await keepLists({ keys: keysText, base: base.file, changes: changes && changes.file, ages }, list.asOf()).catch(() => undefined);
  return told.again;
}

// ---- a scan

/** How long the door may take for a code: not long, where it can be judged here. */
function doorWait(code, usual) {
  return canJudge(code) ? DOOR_WAIT : usual;
}

function canJudge(code) {
  return offline.list !== null && offline.list.keys.issuer !== 0 && code.trim().length === OFFLINE_CHARACTERS;
}

/** What came of a scan, or what is told here where the door was silent and the code can be judged. */
function withoutDoor(code, outcome) {
  offline.silent = Boolean(outcome.silence);
  if (!outcome.silence || !canJudge(code)) return outcome;
  return judgeHere(code).then((here) => ({ here }), () => outcome);
}

/** The word for a door that is silent: with a list, another code helps. */
function silentWord() {
  return offline.list && offline.list.base ? "offline_live" : "offline";
}

/** What is told of a code without the door: a view of the page. */
async function judgeHere(code) {
  const now = offlineNow();
  if (now === null) return { view: "refused", known: "clock_back" };
  const said = await offline.list.judge(code, now);
  const word = { clock: "clock_back", too_old: "list_too_old" }[said.state] || said.state;
  if (COLOURS.indexOf(said.state) === -1) return { view: "refused", known: word };
  const asOf = offline.list.asOf();
  return {
    view: said.state,
    answer: {
      state: said.state,
      name: said.name,
      cert_no: said.certNo,
      assurance: said.assurance,
      reasons: [],
      class: "offline",
      check_document: true,
      as_of: new Date(asOf).toISOString(),
      age_ms: now - asOf,
      stale: said.stale,
      issued_at: new Date(said.issuedAt).toISOString(),
    },
  };
}

// The banner: that there is no network, and how old the list is, for as long as the door is silent.
function renderOffline() {
  let banner = part("offline");
  if (!banner) {
    banner = element("p");
    banner.id = "offline";
    banner.setAttribute("role", "status");
    part("verdict").parentNode.parentNode.prepend(banner);
  }
  banner.hidden = !offline.silent;
  if (banner.hidden) return;
  const asOf = offline.list && offline.list.asOf();
  const now = offlineNow();
  if (!asOf || now === null) {
    delete banner.dataset.old;
    text("offline", say(asOf ? "clock_back" : "offline_none"));
    return;
  }
  const age = Math.max(0, now - asOf);
  const isOld = age > offline.list.staleAfter;
  if (isOld) set(banner, "old", "");
  else delete banner.dataset.old;
  const when = say("offline_banner", inChina(new Date(asOf).toISOString()).slice(5), Math.floor(age / 60000));
  text("offline", isOld ? when + " · " + say("offline_old") : when);
}
