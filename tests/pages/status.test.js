// The status page of the operations door, and that every page is of a language that old phones read.

import { parse } from "acorn";
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { DESKTOP, PHONE, barriers, closeTab, launch, screenshot, tab, words } from "./browser.js";
import { Node, person, until } from "./node.js";

let browser;
let node;

before(async () => {
  browser = await launch();
  node = await Node.start();
});

after(async () => {
  await browser?.close();
  await node?.close();
});

test("the status page draws the node live", async () => {
  const chen = person(1);
  await node.register(chen);
  const session = node.session(chen);
  for (const [name, viewport] of Object.entries({ desktop: DESKTOP, phone: PHONE })) {
    const page = await tab(browser, { viewport });
    await page.goto(node.doors.ops + "/");
    await until("it is ready", async () => (await words(page, "#ready")) === "ready");
    const row = () => page.$$eval("#queries tr", (rows) => rows.map((one) => one.innerText).find((text) => /^show/.test(text)) || "");
    await until("shows are counted", async () => {
      for (let i = 0; i < 5; i += 1) await node.code(session);
      return /^show\t[1-9]/.test(await row());
    });
    assert.match(await words(page, "#doors"), /resident[\s\S]*gate[\s\S]*desk[\s\S]*ops/);
    assert.match(await words(page, "#facts"), /residents on the board\s*1/);
    for (const request of page.asked) assert.ok(request.url().startsWith(node.doors.ops + "/"), request.url());
    await screenshot(page, `status-${name}`);
    assert.deepEqual(await barriers(page), [], name);
    await closeTab(page);
  }
});

test("the status page says when there is no answer, and when the node is not ready", async () => {
  const other = await Node.start({ settings: ["drain_delay=5s"] });
  const page = await tab(browser);
  try {
    await page.goto(other.doors.ops + "/");
    await until("it is ready", async () => (await words(page, "#ready")) === "ready");
    other.signal("SIGTERM");
    await until("it drains", async () => (await words(page, "#ready")) === "draining");
    assert.match(await words(page, "#alarms"), /draining/);
    await other.end();
    await until("it is gone", async () => /^no answer for \d+ s$/.test(await words(page, "#ready")));
    assert.match(await words(page, "#old"), /is of \d+ s ago/);
    await screenshot(page, "status-dead");
    assert.deepEqual(await barriers(page), []);
    await closeTab(page);
  } finally {
    await other.close();
  }
});

test("the status page of a node that hangs does not stay ready", async () => {
  const other = await Node.start();
  const page = await tab(browser);
  try {
    await page.goto(other.doors.ops + "/");
    await until("it is ready", async () => (await words(page, "#ready")) === "ready");
    other.signal("SIGSTOP");
    await until("it says so", async () => /^no answer for \d+ s$/.test(await words(page, "#ready")));
    assert.equal(await page.evaluate(() => document.body.dataset.old), "true");
    other.signal("SIGCONT");
    await until("it is ready again", async () => (await words(page, "#ready")) === "ready");
    assert.equal(await page.evaluate(() => document.body.dataset.old), "false");
    await closeTab(page);
  } finally {
    other.signal("SIGCONT");
    await other.close();
  }
});

test("the interface is read as a page", async () => {
  const page = await tab(browser, { viewport: DESKTOP });
  await page.goto(node.doors.gate + "/interface");
  await until("it is drawn", async () => /POST \/v1\/scan\/bulk/.test(await words(page)));
  const shapes = await page.$$eval("h3[id]", (titles) => titles.map((title) => title.id));
  for (const link of await page.$$eval("main a", (links) => links.map((one) => one.hash.slice(1)))) assert.ok(shapes.includes(link), link);
  assert.ok((await page.$$("main nav a")).length > 20, "there are contents");
  await screenshot(page, "interface");
  assert.deepEqual(await barriers(page), []);
  await page.setViewport(PHONE);
  assert.equal(await page.evaluate(() => document.documentElement.scrollWidth > window.innerWidth), false);
  await closeTab(page);
});

test("every script is of ECMAScript 2017 at most", async () => {
  let scripts = 0;
  for (const address of [...Object.values(node.doors).map((door) => door + "/"), node.doors.ops + "/interface"]) {
    const html = await (await fetch(address)).text();
    const door = new URL(address).origin;
    for (const [, source] of html.matchAll(/<script src="([^"]+)"/g)) {
      parse(await (await fetch(`${door}/${source}`)).text(), { ecmaVersion: 2017 });
      scripts += 1;
    }
  }
  for (const path of ["/pages/desk.js", "/pages/divisions.js", "/pages/organisation.js", "/pages/staff.js", "/pages/demo.js", "/sw.js"]) {
    const script = await fetch(node.doors.desk + path);
    assert.equal(script.status, 200, path);
    parse(await script.text(), { ecmaVersion: 2017 });
  }
  parse(await (await fetch(node.doors.gate + "/pages/jsQR.js")).text(), { ecmaVersion: 5 });
  assert.ok(scripts >= 5);
});
