// What the desk has for a resident, a tap away from the code: details, family, records, and what a resident tells it.

import assert from "node:assert/strict";
import { sign } from "node:crypto";
import { readFileSync } from "node:fs";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { SMALL_PHONE, barriers, closeTab, launch, screenshot, seen, shows, tab, words } from "./browser.js";
import { Node, person, until } from "./node.js";

let browser;
let node;

before(async () => {
  browser = await launch();
  node = await Node.start({ settings: ["desk_per_second=1000"] });
});

after(async () => {
  await browser?.close();
  await node?.close();
});

/// A tab before a balancer that maps all doors onto one name.
async function behindOneName(at = node, options = {}) {
  const page = await tab(browser, options);
  await page.setRequestInterception(true);
  page.on("request", async (request) => {
    const { pathname, search } = new URL(request.url());
    if (!pathname.startsWith("/v1/") || pathname === "/v1/code") return request.continue();
    const headers = { ...request.headers() };
    const response = await fetch(at.doors.desk + pathname + search, { method: request.method(), headers, body: request.postData() });
    if (page.unheard?.(request)) return request.abort();
    return request.respond({ status: response.status, contentType: response.headers.get("content-type"), body: await response.text() });
  });
  return page;
}

test("behind one name for all doors the details are one tap away", async () => {
  const chen = person(4);
  await node.register(chen);
  await node.say("set", chen, "close_contact");
  const page = await behindOneName();
  await page.goto(`${node.doors.resident}/#s=${node.session(chen)}`);
  await shows(page, "red");
  await page.click("#details-open");
  await until("the details are there", async () => /来源 gd-cdc/.test(await words(page, "#details")));
  assert.match(await words(page, "#details"), /至 2030-05-04/);
  await closeTab(page);
});

test("a door without a desk offers neither family nor health information", async () => {
  const chen = person(10);
  await node.register(chen);
  const page = await tab(browser);
  await page.goto(`${node.doors.resident}/#s=${node.session(chen)}`);
  await shows(page, "green");
  assert.equal(page.asked.filter((request) => /family|health|trip/.test(request.url())).length, 0, "not before a tap");
  await page.click("#more");
  await until("the button has gone", async () => !(await seen(page, "#more")));
  assert.equal(await seen(page, "#desk"), false);
  await closeTab(page);
});

test("a resident shows for a family member, whose red never stays behind as their own green", async () => {
  const identity = fileURLToPath(new URL("../it/identity/", import.meta.url));
  const platform = [`identity_jwks=${identity}jwks.json`, "identity_issuer=https://id.example"];
  const kept = await Node.start({ settings: [...platform, "code_life=6s"] });
  try {
    const [chen, mother] = [person(11), person(12, "李小红")];
    await kept.register(chen);
    await kept.register(mother);
    await kept.say("set", mother, "home_isolation");
    const session = kept.session(chen);
    const claims = { iss: "https://id.example", aud: "liangma", exp: Math.floor(Date.now() / 1000) + 300, cert_type: "10", ...mother };
    const coded = (part) => Buffer.from(JSON.stringify(part)).toString("base64url");
    const signed = coded({ alg: "EdDSA", kid: "ed" }) + "." + coded(claims);
    const assertion = signed + "." + sign(null, Buffer.from(signed), readFileSync(identity + "ed.pem")).toString("base64url");
    const added = await fetch(kept.doors.desk + "/v1/family", {
      method: "POST", body: JSON.stringify({ assertion }), headers: { authorization: "Bearer " + session, "content-type": "application/json" },
    });
    const { id } = await added.json();
    assert.equal(added.status, 201);
    const page = await behindOneName(kept);
    await page.goto(`${kept.doors.resident}/#s=${session}`);
    await shows(page, "green");
    await page.click("#more");
    await until("the family is there", async () => /本人\s*李\*\*/.test(await words(page, "#family-members")));
    assert.match(await words(page, "#desk"), /健康信息[\s\S]*行程卡/);
    await screenshot(page, "resident-family");
    assert.deepEqual(await barriers(page), []);
    await (await page.$$("#family-members button"))[1].click();
    await shows(page, "red");
    assert.equal(await words(page, "#name"), "李**");
    await page.click("#more");
    await until("the family is there again", () => seen(page, "#family-members button"));
    await (await page.$$("#family-members button"))[0].click();
    await shows(page, "green");
    assert.equal(await words(page, "#name"), "陈**");
    // A member who withdraws is not silently replaced by the resident.
    await page.click("#more");
    await until("the family is there once more", () => seen(page, "#family-members button"));
    await (await page.$$("#family-members button"))[1].click();
    await shows(page, "red");
    const ended = await fetch(`${kept.doors.desk}/v1/family/${id}`, { method: "DELETE", headers: { authorization: "Bearer " + session } });
    assert.equal(ended.status, 200);
    await until("it is said", async () => /不能再为该家人亮码/.test(await words(page, "#trouble")));
    assert.equal(await seen(page, "#card"), false);
    await shows(page, "green");
    assert.equal(await words(page, "#name"), "陈**");
    await closeTab(page);
  } finally {
    await kept.close();
  }
});

/// What the desk itself answers.
async function desk(path, session, { method = "GET", content } = {}) {
  const headers = { authorization: "Bearer " + session, "content-type": "application/json" };
  const response = await fetch(node.doors.desk + path, { method, headers, body: content && JSON.stringify(content) });
  return response.json();
}

/// Somebody's code on a screen, the desk unfolded beneath it.
async function opened(someone, state = "green", options = {}) {
  const session = node.session(someone);
  const page = await behindOneName(node, options);
  await page.goto(`${node.doors.resident}/#s=${session}`);
  await shows(page, state);
  await page.click("#more");
  await until("the desk is there", () => seen(page, "#requests"));
  return { page, session };
}

const unfold = (page, id) => page.click(`#${id} > summary`);
const posts = (page, path) => page.asked.filter((request) => request.method() === "POST" && request.url().endsWith(path)).length;

test("a resident declares health, is told what is missing, and reads it back", async () => {
  const chen = person(20);
  await node.register(chen);
  const { page, session } = await opened(chen, "green", { viewport: SMALL_PHONE });
  await unfold(page, "declaration");
  const send = () => page.click("#declaration-form button");
  const says = (what) => until(`it says ${what}`, async () => what.test(await words(page, "#declaration-says")));
  const focused = () => page.evaluate(() => document.activeElement.name);
  await send();
  await says(/请选择症状/);
  assert.equal(await focused(), "symptoms");
  await page.click("[name=symptoms][value=none]");
  await page.click("[name=symptoms][value=nausea]");
  await send();
  await says(/选“无”时不能再选其他/);
  await page.click("[name=symptoms][value=none]");
  await send();
  await says(/请填写标出的一项/);
  assert.equal(await focused(), "contact");
  await page.select("[name=contact]", "no");
  await page.select("[name=high_risk_area]", "no");
  await page.type("[name=celsius]", "63.4");
  await send();
  await says(/30 至 45/);
  assert.equal(await page.$eval("[name=celsius]", (field) => field.getAttribute("aria-invalid")), "true");
  await screenshot(page, "resident-declaration");
  assert.deepEqual(await barriers(page), []);
  assert.equal(posts(page, "/v1/declarations"), 0);
  await page.$eval("[name=celsius]", (field) => (field.value = ""));
  await page.type("[name=celsius]", "36.4");
  await send();
  await says(/已提交/);
  assert.equal(posts(page, "/v1/declarations"), 1);
  const { declarations } = await desk("/v1/declarations", session);
  assert.equal(declarations.length, 1);
  const { celsius, symptoms, contact, high_risk_area } = declarations[0];
  assert.deepEqual({ celsius, symptoms, contact, high_risk_area }, { celsius: 36.4, symptoms: ["nausea"], contact: "no", high_risk_area: false });
  await until("it is among the records", async () => /健康申报 · 36.4 ℃ · 恶心/.test(await words(page, "#health-list")));
  assert.equal(await page.evaluate(() => document.documentElement.scrollWidth > window.innerWidth), false);
  await closeTab(page);
});

test("what is sent again after a silence is filed once", async () => {
  const chen = person(21);
  await node.register(chen);
  const { page, session } = await opened(chen);
  await unfold(page, "declaration");
  await page.click("[name=symptoms][value=none]");
  await page.select("[name=contact]", "no");
  await page.select("[name=high_risk_area]", "no");
  page.unheard = (request) => request.method() === "POST";
  await page.click("#declaration-form button");
  await until("the silence is told", async () => /连不上/.test(await words(page, "#declaration-says")));
  page.unheard = null;
  await page.click("#declaration-form button");
  await until("it is filed", async () => /已提交/.test(await words(page, "#declaration-says")));
  assert.equal(posts(page, "/v1/declarations"), 2);
  assert.equal((await desk("/v1/declarations", session)).declarations.length, 1);
  await closeTab(page);
});

test("a red is appealed against from where its reason stands, and the answer is told", async () => {
  const chen = person(22);
  await node.register(chen);
  await node.say("set", chen, "close_contact");
  const session = node.session(chen);
  const page = await behindOneName(node);
  await page.goto(`${node.doors.resident}/#s=${session}`);
  await shows(page, "red");
  await page.click("#appeal-open");
  await until("the form is there", () => seen(page, "#appeals-form"));
  await page.click("#appeals-form button");
  await until("it says what is missing", async () => /请说明情况/.test(await words(page, "#appeals-says")));
  await page.type("#appeals-form [name=text]", "我那天\n不在那里");
  await page.click("#appeals-form button");
  await until("it is listed", async () => /密切接触者 · “我那天 不在那里” · 已收到/.test(await words(page, "#appeals-list")));
  assert.match(await words(page, "#appeals-says"), /已提交/);
  assert.equal(await page.evaluate(() => document.body.dataset.view), "red");
  await screenshot(page, "resident-appeal");
  assert.deepEqual(await barriers(page), []);
  const { appeals } = await desk("/v1/appeals", session);
  const answered = await fetch(`${node.doors.back}/v1/appeals/${appeals[0].id}`, {
    method: "POST", body: JSON.stringify({ state: "rejected", note: "已核实接触" }),
    headers: { authorization: "Bearer " + node.authority, "content-type": "application/json" },
  });
  assert.equal(answered.status, 201);
  await unfold(page, "appeals");
  await unfold(page, "appeals");
  await until("the answer is told", async () => /申诉不成立 [\d-]{10} · 已核实接触/.test(await words(page, "#appeals-list")));
  await closeTab(page);
});

test("a grant is given, listed and taken back, and a wrong one says why", async () => {
  const chen = person(23);
  await node.register(chen);
  const { page, session } = await opened(chen, "green", { languages: "en" });
  await unfold(page, "grants");
  await until("there is none", async () => /Nothing on record/.test(await words(page, "#grants-list")));
  const fill = (organisation, day) => page.evaluate(([name, date]) => {
    const form = document.getElementById("grants-form");
    form.elements.organisation.value = name;
    form.elements.until.value = date;
  }, [organisation, day]);
  const says = (what) => until(`it says ${what}`, async () => what.test(await words(page, "#grants-says")));
  await fill("Guangzhou No. 1 School", "2099-12-31");
  await page.click("#grants-form button");
  await says(/letters, digits/);
  await fill("gz-no1-school", "2020-05-04");
  await page.click("#grants-form button");
  await says(/today or a later day/);
  await fill("gz-no1-school", "2099-12-31");
  await page.click("#grants-form button");
  await until("it is listed", async () => /gz-no1-school · until 2099-12-31/.test(await words(page, "#grants-list")));
  await screenshot(page, "resident-grants");
  assert.deepEqual(await barriers(page), []);
  assert.equal((await desk("/v1/grants", session)).grants.length, 1);
  await page.click("#grants-list button");
  await until("it is gone", async () => /Nothing on record/.test(await words(page, "#grants-list")));
  assert.equal((await desk("/v1/grants", session)).grants.length, 0);
  await closeTab(page);
});

test("a resident sees who looked, page by page, and where the phone was by name", async () => {
  const chen = person(24);
  await node.register(chen);
  const session = node.session(chen);
  const staff = node.token("staff", "--name", "wang-01", "--region", "440100");
  await desk("/v1/entries", session, { method: "POST", content: { destination: "440106", arrives: "2020-05-06", transport: "train" } });
  for (let look = 0; look < 21; look += 1) {
    const read = await desk("/v1/entries?destination=440106&day=2020-05-06&purpose=reception-" + look, staff);
    assert.equal(read.entries.length, 1);
  }
  const yesterday = new Date(Date.now() - 86400000).toISOString();
  await node.feed({ event: "trip", cert_type: "10", cert_no: chen.cert_no, places: ["440100", "420100", "110000", "440106"], at: yesterday, source: "carriers", seq: 1 });
  const { page } = await opened(chen);
  await until("the trip is there", async () => /广东 广州、湖北 420100、北京、广东 广州 440106/.test(await words(page, "#trip-places")));
  await unfold(page, "accesses");
  await until("the newest is there", async () => /工作人员 wang-01 · 查看入粤申报 · 事由 reception-20/.test(await words(page, "#accesses-list")));
  const rows = () => page.$$eval("#accesses-list li", (all) => all.length);
  assert.equal(await rows(), 21);
  await page.click("#accesses-list button");
  await until("the oldest is there", async () => /事由 reception-0$/.test((await words(page, "#accesses-list")).trim()));
  assert.equal(await rows(), 21);
  assert.deepEqual(await barriers(page), []);
  await screenshot(page, "resident-accesses");
  await closeTab(page);
});

test("a desk that is busy is not asked before the time that it said", async () => {
  const chen = person(25);
  await node.register(chen);
  const { page } = await opened(chen);
  const asked = page.asked.length;
  // No test can fill a desk and keep it full to the second: the answer is one of the contract, made here.
  await page.evaluate(() => {
    const real = window.fetch;
    window.fetch = (path, options) => {
      if (!/accesses/.test(path)) return real(path, options);
      window.shed = (window.shed || 0) + 1;
      const problem = { type: "urn:liangma:busy", title: "系统繁忙，当前查询人数过多，请稍后再试", status: 503, code: "busy", retry_after_ms: 60000 };
      return Promise.resolve(new Response(JSON.stringify(problem), { status: 503, headers: { "Content-Type": "application/problem+json", "Retry-After": "60" } }));
    };
  });
  await unfold(page, "accesses");
  const busy = /系统繁忙，当前查询人数过多，请稍后再试 请 \d+ 秒后再试/;
  await until("it says busy", async () => busy.test(await words(page, "#accesses-list")));
  await unfold(page, "grants");
  await until("that is not asked for", async () => busy.test(await words(page, "#grants-list")));
  await unfold(page, "accesses");
  await unfold(page, "accesses");
  assert.equal(await page.evaluate(() => window.shed), 1);
  assert.equal(page.asked.slice(asked).filter((request) => /grants|accesses/.test(request.url())).length, 0);
  // The code is another door's, and goes on.
  assert.equal(await page.evaluate(() => document.body.dataset.view), "green");
  await closeTab(page);
});

test("nothing that was typed for one is left for the next who is shown", async () => {
  const [chen, li] = [person(26), person(27, "李雷")];
  await node.register(chen);
  await node.register(li);
  const { page } = await opened(chen);
  await unfold(page, "grants");
  await page.type("[name=organisation]", "gz-no1-school");
  // A link never changes who is shown unless whoever holds the phone agrees.
  page.once("dialog", (dialog) => dialog.dismiss());
  await page.evaluate((session) => (location.hash = "s=" + session), node.session(li));
  await until("the address is clean again", () => page.evaluate(() => !location.hash));
  assert.equal(await words(page, "#name"), "陈**");
  assert.equal(await page.$eval("[name=organisation]", (field) => field.value), "gz-no1-school");
  page.once("dialog", (dialog) => dialog.accept());
  await page.evaluate((session) => (location.hash = "s=" + session), node.session(li));
  await until("the other is shown", async () => (await words(page, "#name")) === "李*");
  assert.equal(await seen(page, "#desk"), false);
  assert.equal(await page.$eval("[name=organisation]", (field) => field.value), "");
  assert.equal(await page.$eval("#grants", (fold) => fold.open), false);
  await closeTab(page);
});
