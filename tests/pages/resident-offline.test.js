// The offline code that the resident's page keeps, and what it is for.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { barriers, closeTab, decode, launch, screenshot, seen, shows, tab, words } from "./browser.js";
import { Node, person, until } from "./node.js";

let browser;
let node;
const green = person(1);
const other = person(2, "李小明");

before(async () => {
  browser = await launch();
  node = await Node.start({ settings: ["offline_issuer=440000"] });
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

const kept = (page) => page.evaluate(() => JSON.parse(localStorage.getItem("liangma.offline")));

test("one offline code is kept after a good show, and shown with its dates when a show fails", async () => {
  const page = await tab(browser);
  await open(page, green);
  await until("a code is kept", async () => (await kept(page))?.code.length === 154);
  assert.equal(await page.$("#saved"), null);
  const { code } = await kept(page);
  await page.setOfflineMode(true);
  await page.evaluate(() => window.dispatchEvent(new Event("online")));
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
