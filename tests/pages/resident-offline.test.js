// The offline code that the resident's page keeps, and what it is for.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { barriers, closeTab, decode, launch, screenshot, seen, shows, tab, words } from "./browser.js";
import { PLATFORM, addMember } from "./family.js";
import { Node, person, until } from "./node.js";

let browser;
let node;
const green = person(1);
const other = person(2, "李小明");

before(async () => {
  browser = await launch();
  node = await Node.start({ settings: ["offline_issuer=440000", ...PLATFORM] });
  for (const someone of [green, other]) await node.register(someone);
});

after(async () => {
  await browser?.close();
  await node?.close();
});

/// A page whose random moments are now.
async function open(page, someone) {
  await page.evaluateOnNewDocument(() => {
    Math.random = () => 0;
  });
  await page.goto(`${node.doors.resident}/#s=${node.session(someone)}`);
  await shows(page, "green");
}

/// The code that is kept of the resident, or of a member by id.
const kept = (page, holder = "") => page.evaluate((of) => {
  const all = JSON.parse(localStorage.getItem("liangma.offline"));
  return all ? all.codes[of] || null : null;
}, holder);

/// From here on nothing answers.
async function cut(page) {
  await page.setOfflineMode(true);
  await page.evaluate(() => window.dispatchEvent(new Event("offline")));
  await until("it is noticed", () => page.evaluate(() => ["past", "trouble"].includes(document.body.dataset.view)));
}

test("one offline code is kept after a good show, and shown with its dates when a show fails", async () => {
  const page = await tab(browser);
  await open(page, green);
  await until("a code is kept", async () => (await kept(page))?.code.length === 154);
  assert.equal(await page.$("#saved"), null);
  const { code } = await kept(page);
  await cut(page);
  // Below the code of the minute, for as long as that may be scanned.
  const [live, below] = await page.evaluate(() => ["code", "saved-code"].map((id) => document.getElementById(id).getBoundingClientRect().top));
  assert.ok(live < below, `${live} ${below}`);
  await until("it is shown", async () => (await page.$("#saved")) && (await seen(page, "#saved")));
  assert.match(await words(page, "#saved"), /离线码[\s\S]*陈\*\*[\s\S]*领取于 \d{4}-\d\d-\d\d[\s\S]*本码不含颜色[\s\S]*证件/);
  await page.$eval("#saved", (part) => part.scrollIntoView());
  assert.deepEqual(await barriers(page), []);
  const path = await screenshot(page, "resident-offline-code");
  assert.equal(decode(path).split("\n").includes(code), true);
  // A gate takes it.
  const answer = await fetch(node.doors.gate + "/v1/scan", { method: "POST", headers: { authorization: "Bearer " + node.scanner() }, body: code });
  assert.equal((await answer.json()).class, "offline");
  // It is printed alone, on a card.
  await page.evaluate(() => {
    window.print = () => undefined;
  });
  await page.click("#saved-print");
  await page.emulateMediaType("print");
  const card = await page.$eval("#saved-card", (part) => part.getBoundingClientRect().toJSON());
  assert.ok(Math.abs(card.width / card.height - 85.6 / 54) < 0.02, JSON.stringify(card));
  assert.equal(await seen(page, "#front"), false);
  await screenshot(page, "resident-offline-card");
  await page.evaluate(() => window.dispatchEvent(new Event("afterprint")));
  await page.emulateMediaType("screen");
  assert.equal(await page.$("#saved-card"), null);
  await page.setOfflineMode(false);
  await shows(page, "green");
  assert.equal(await seen(page, "#saved"), false);
  await closeTab(page);
});

test("codes of the family are kept as well, each is shown for its own holder, and they go with the membership", async () => {
  const [mother, child] = [person(10, "张秀英"), person(11, "李小明", "unverified", "20150307")];
  for (const someone of [mother, child]) await node.register(someone);
  const session = node.session(mother);
  const { id } = await addMember(node, session, child, { student: true });
  const page = await tab(browser);
  await page.setRequestInterception(true);
  page.on("request", async (request) => {
    const { pathname } = new URL(request.url());
    if (!pathname.startsWith("/v1/family")) return request.continue();
    const response = await fetch(node.doors.desk + pathname, { method: request.method(), headers: request.headers(), body: request.postData() });
    return request.respond({ status: response.status, contentType: response.headers.get("content-type"), body: await response.text() });
  });
  await page.evaluateOnNewDocument(() => {
    Math.random = () => 0;
    if (!localStorage.getItem("liangma.family")) localStorage.setItem("liangma.family", "1"); // as where members were shown before
  });
  await page.goto(`${node.doors.resident}/#s=${session}`);
  await shows(page, "green");
  await until("both are kept", async () => Boolean(await kept(page)) && Boolean(await kept(page, id)));
  assert.equal(await page.evaluate((known) => localStorage.getItem("liangma.offline").includes(known), session.slice(0, 20)), false);
  const codes = [(await kept(page)).code, (await kept(page, id)).code];
  await cut(page);
  const shown = async () => {
    await page.$eval("#saved", (part) => part.scrollIntoView());
    return decode(await screenshot(page, "resident-offline-family"));
  };
  assert.match(await words(page, "#saved-who"), /^张\*\*/);
  assert.ok((await shown()).split("\n").includes(codes[0]));
  await page.evaluate(() => document.querySelectorAll("#family > button")[1].click());
  await until("the child's is shown", async () => /^李\*\*/.test(await words(page, "#saved-who")));
  assert.equal(await shown(), codes[1], "no other code is on the screen");
  assert.deepEqual(await barriers(page), []);
  // A gate takes it as what it is: of nobody who was checked.
  const answer = await fetch(node.doors.gate + "/v1/scan", { method: "POST", headers: { authorization: "Bearer " + node.scanner() }, body: codes[1] });
  const verdict = await answer.json();
  assert.deepEqual([verdict.class, verdict.assurance, verdict.check_document], ["offline", "unverified", true]);
  await page.setOfflineMode(false);
  await page.evaluate(() => document.querySelectorAll("#family > button")[0].click());
  await until("it is the mother", async () => (await words(page, "#name")) === "张**");
  await fetch(`${node.doors.desk}/v1/family/${id}`, { method: "DELETE", headers: { authorization: "Bearer " + session } });
  await page.evaluate(() => window.liangma.readFamily());
  await until("the child's is gone", async () => (await kept(page, id)) === null && Boolean(await kept(page)));
  await closeTab(page);
});

test("another session is not shown what the one before kept, not even without a network", async () => {
  const page = await tab(browser);
  page.on("dialog", (dialog) => dialog.accept());
  await open(page, green);
  await until("a code is kept", async () => Boolean(await kept(page)));
  await cut(page);
  await until("it is shown", () => seen(page, "#saved"));
  await page.evaluate((session) => (location.hash = "s=" + session), node.session(other));
  await until("the session is the other's", async () => !(await seen(page, "#card")));
  await shows(page, "trouble");
  assert.equal(await seen(page, "#saved"), false);
  await closeTab(page);
});

test("another who logs in on the phone is not shown the code of the one before", async () => {
  const page = await tab(browser);
  page.on("dialog", (dialog) => dialog.accept());
  await open(page, green);
  await until("a code is kept", async () => Boolean(await kept(page)));
  const before = await kept(page);
  await page.goto("about:blank");
  await page.goto(`${node.doors.resident}/#s=${node.session(other)}`);
  await shows(page, "green");
  await until("it is the other's", async () => {
    const now = await kept(page);
    return now && now.code !== before.code && now.name === "李**";
  });
  await closeTab(page);
});
