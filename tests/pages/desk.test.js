// What the desk has for a resident, a tap away from the code: details, family, records, and what a resident tells it.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { NOTCH, PHONE, SIZES, SMALL_PHONE, barriers, closeTab, launch, openSheet, screenshot, scrollsSideways, seen, shows, smallFields, tab, tap, underEdges, words } from "./browser.js";
import { PLATFORM, addMember, assertion } from "./family.js";
import { NAMES, Node, person, until } from "./node.js";

let browser;
let node;
const MEMBER_URL = "https://id.example/member";

before(async () => {
  browser = await launch();
  node = await Node.start({ settings: ["desk_requests_per_second=1000", `identity_member_url=${MEMBER_URL}`, NAMES, ...PLATFORM] });
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
    if (page.away?.(request)) return request.abort();
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
  await tap(page, "#details-open");
  await until("the details are there", async () => /来源 广东省疾控中心/.test(await words(page, "#details")));
  assert.match(await words(page, "#details"), /至 2030年5月4日/);
  assert.deepEqual(await barriers(page), []);
  assert.equal(await page.$eval("#why a", (link) => link.href), "tel:12345");
  await closeTab(page);
});

test("a door without a desk says where else, and offers it no more", async () => {
  const chen = person(10);
  await node.register(chen);
  const page = await tab(browser);
  await page.goto(`${node.doors.resident}/#s=${node.session(chen)}`);
  await shows(page, "green");
  assert.equal(page.asked.filter((request) => /family|health|trip/.test(request.url())).length, 0, "not before a tap");
  await openSheet(page, "health");
  await until("it says where else", async () => /请从原应用或小程序打开/.test(await words(page, "#sheet-body")));
  await tap(page, "#sheet-back");
  await until("the tiles have gone", async () => !(await seen(page, "#desk")));
  await shows(page, "green");
  await closeTab(page);
});

/// The tab of a family member above the code, by its place; 0 is the resident's own.
const choose = async (page, nth) => (await page.$$("#family > button"))[nth].evaluate((one) => one.click());

test("members are tabs above the code: a switch asks the resident door alone, and a red never stays behind as their own green", async () => {
  const kept = await Node.start({ settings: [...PLATFORM, "code_life=6s"] });
  try {
    const [chen, mother, child] = [person(11), person(12, "李小红"), person(13, "李小明", "unverified", "20150307")];
    await kept.register(chen);
    await kept.register(mother);
    await kept.say("set", mother, "home_isolation");
    const session = kept.session(chen);
    await addMember(kept, session, child, { student: true });
    const { id } = await addMember(kept, session, mother);
    const page = await behindOneName(kept);
    await page.goto(`${kept.doors.resident}/#s=${session}`);
    await shows(page, "green");
    await openSheet(page, "family");
    await until("both are there", async () => (await page.$$("#members-list .card")).length === 2);
    assert.match(await words(page, "#members-list"), /李\*\*[\s\S]*尾号/);
    await screenshot(page, "resident-family");
    assert.deepEqual(await barriers(page), []);
    await until("their sessions are kept", () => page.evaluate(() => JSON.parse(sessionStorage.getItem("liangma.family")).members.every((one) => one.session)));
    await tap(page, "#sheet-back");
    await until("the code is back", () => seen(page, "#card"));
    const tabs = await page.$$eval("#family > button", (all) => all.map((one) => one.innerText));
    assert.equal(tabs.length, 4);
    assert.match(tabs.join("|"), /^本人\|李\*\* ?\w\w[^|]*\|李\*\* ?\w\w[^|]*\|＋ 家人$/);
    assert.equal(tabs.filter((one) => /未实人/.test(one)).length, 1);
    assert.notEqual(tabs[1], tabs[2], "people of one name are told apart");
    await screenshot(page, "resident-tabs");
    assert.deepEqual(await barriers(page), []);
    // From here the desk is away, and every switch works.
    page.away = (request) => new URL(request.url()).pathname.startsWith("/v1/") && !request.url().endsWith("/v1/code");
    const red = tabs.findIndex((one) => /李/.test(one) && !/未实人/.test(one));
    const white = 3 - red;
    await choose(page, red);
    await shows(page, "red");
    assert.equal(await words(page, "#name"), "李**");
    assert.match(await words(page, "#for-whom"), /代家人亮码/);
    assert.equal(await page.$$eval("#tiles button", (all) => all.map((one) => one.dataset.sheet).join()), "health,declare,trip,entry,appeals");
    await choose(page, white);
    await shows(page, "green");
    assert.equal(await page.evaluate(() => document.body.dataset.assurance), "unverified");
    assert.deepEqual(await barriers(page), []);
    await choose(page, 0);
    await shows(page, "green");
    await until("it is the resident", async () => (await words(page, "#name")) === "陈**");
    assert.equal(await seen(page, "#for-whom"), false);
    // Loading the page anew keeps them.
    await page.reload();
    await shows(page, "green");
    assert.equal((await page.$$("#family > button")).length, 4);
    // A member who withdraws is not silently replaced by the resident.
    await choose(page, red);
    await shows(page, "red");
    const ended = await fetch(`${kept.doors.desk}/v1/family/${id}`, { method: "DELETE", headers: { authorization: "Bearer " + session } });
    assert.equal(ended.status, 200);
    await until("it is said", async () => /不能再为该家人亮码/.test(await words(page, "#trouble")));
    assert.equal(await seen(page, "#card"), false);
    await shows(page, "green");
    assert.equal(await words(page, "#name"), "陈**");
    assert.equal((await page.$$("#family > button")).length, 3);
    await closeTab(page);
  } finally {
    await kept.close();
  }
});

test("a tab says of a member what the code says: who was checked since is no white code any more", async () => {
  const [chen, child] = [person(46), person(47, "李小明", "unverified", "20150307")];
  for (const someone of [chen, { ...child, assurance: "real_person" }]) await node.register(someone);
  const session = node.session(chen);
  await addMember(node, session, child, { student: true });
  const page = await behindOneName();
  await page.goto(`${node.doors.resident}/#s=${session}`);
  await shows(page, "green");
  await openSheet(page, "family");
  await until("the session is kept", () => page.evaluate(() => (JSON.parse(sessionStorage.getItem("liangma.family")) || { members: [] }).members.some((one) => one.session)));
  await tap(page, "#sheet-back");
  await until("the code is back", () => seen(page, "#card"));
  await choose(page, 1);
  await until("the child is shown", async () => (await words(page, "#name")) === "李**");
  const [shown, marked] = await page.evaluate(() => [document.body.dataset.assurance, "white" in document.querySelectorAll("#family > button")[1].dataset]);
  assert.deepEqual([shown, marked], ["real_person", false]);
  await closeTab(page);
});

test("a member is added by way of the identity platform, seen, removed, and sees who shows them and leaves", async () => {
  const [chen, li] = [person(40), person(41, "李雷")];
  for (const someone of [chen, li]) await node.register(someone);
  const [session, others] = [node.session(chen), node.session(li)];
  const page = await behindOneName();
  page.on("dialog", (dialog) => dialog.accept());
  let sent;
  page.away = (request) => {
    if (!request.url().startsWith(MEMBER_URL)) return false;
    sent = new URL(request.url());
    return true;
  };
  await page.goto(`${node.doors.resident}/#s=${session}`);
  await shows(page, "green");
  await openSheet(page, "family");
  await until("it can be added", () => seen(page, "#student"));
  await page.evaluate(() => document.querySelector("#student").closest(".stack").querySelector("button").click());
  await until("the platform is asked", () => Boolean(sent));
  const [back, word] = ["return", "state"].map((name) => sent.searchParams.get(name));
  assert.equal(back, node.doors.resident + "/");
  assert.ok(!sent.href.includes(session));
  // What somebody else sends in the platform's name is passed over.
  await page.goto(`${back}#a=${assertion(li)}&state=${"0".repeat(32)}`);
  await shows(page, "green");
  assert.equal(await seen(page, "#sheet"), false);
  assert.equal((await desk("/v1/family", session)).members.length, 0);
  await page.evaluate((said) => sessionStorage.setItem("liangma.adding", JSON.stringify({ word: said, student: false })), word);
  await page.goto("about:blank");
  await page.goto(`${back}#a=${assertion(li)}&state=${word}`);
  await until("it is added", async () => /已添加 李\*/.test(await words(page, "#added-says")));
  assert.equal(await page.evaluate(() => location.hash), "");
  assert.equal((await desk("/v1/family", session)).members.length, 1);
  // Who is shown by another sees it, and may leave.
  const other = await behindOneName();
  other.on("dialog", (dialog) => dialog.accept());
  await other.goto(`${node.doors.resident}/#s=${others}`);
  await shows(other, "green");
  await openSheet(other, "family");
  await until("it is told", async () => /陈\*\*/.test(await words(other, "#shown-by-list")));
  await screenshot(other, "resident-shown-by");
  await tap(other, "#shown-by-list button");
  await until("it is over", async () => /暂无记录/.test(await words(other, "#shown-by-list")));
  assert.equal((await desk("/v1/family", session)).members.length, 0);
  await closeTab(other);
  // The other way round: who added removes.
  await addMember(node, session, li);
  await tap(page, "#sheet-back");
  await until("the code is back", () => seen(page, "#card"));
  await openSheet(page, "family");
  await until("it is there again", async () => (await page.$$("#members-list .card")).length === 1);
  await page.$eval("#members-list .card", (one) => one.lastChild.click());
  await until("it is removed", async () => /暂无记录/.test(await words(page, "#members-list")));
  assert.equal((await desk("/v1/family", session)).members.length, 0);
  await closeTab(page);
});

/// What the desk itself answers.
async function desk(path, session, { method = "GET", content } = {}) {
  const headers = { authorization: "Bearer " + session, "content-type": "application/json" };
  const response = await fetch(node.doors.desk + path, { method, headers, body: content && JSON.stringify(content) });
  return response.json();
}

/// Somebody's code on a screen, and a sheet of the desk over it.
async function opened(someone, sheet, options = {}) {
  const session = node.session(someone);
  const page = await behindOneName(node, options);
  page.on("dialog", (dialog) => dialog.accept());
  await page.goto(`${node.doors.resident}/#s=${session}`);
  await shows(page, options.state || "green");
  await openSheet(page, sheet);
  return { page, session };
}

const send = (page, id) => tap(page, `#${id}-form button.primary`);
const posts = (page, path) => page.asked.filter((request) => request.method() === "POST" && request.url().endsWith(path)).length;

test("every sheet is seen at once on every screen, and going back leads to the code", async () => {
  const chen = person(50);
  await node.register(chen);
  for (const [name, viewport] of Object.entries({ ...SIZES, small: SMALL_PHONE })) {
    const page = await behindOneName(node, { viewport });
    await page.goto(`${node.doors.resident}/#s=${node.session(chen)}`);
    await shows(page, "green");
    for (const id of ["health", "declare", "trip", "entry", "appeals", "family", "grants", "accesses", "settings"]) {
      await openSheet(page, id);
      const { top, focused } = await page.evaluate(() => ({
        top: document.getElementById("sheet-title").getBoundingClientRect().top, focused: document.activeElement.id,
      }));
      assert.ok(top >= 0 && top < viewport.height / 3, `${name} ${id}: ${top}`);
      assert.equal(focused, "sheet-title", `${name} ${id}`);
      await until(`${id} is drawn`, async () => !/正在加载/.test(await words(page, "#sheet-body")));
      assert.equal(await scrollsSideways(page), false, `${name} ${id}`);
      assert.deepEqual(await smallFields(page), [], `${name} ${id}`);
      if (viewport === PHONE) assert.deepEqual(await underEdges(page, NOTCH), [], `${name} ${id}`);
      if (viewport === PHONE) assert.deepEqual(await barriers(page), [], `${name} ${id}`);
      if (name === "360x640") await screenshot(page, `sheet-${id}`);
      if (id === "health") await page.keyboard.press("Escape");
      else if (id === "trip") await page.goBack();
      else await tap(page, "#sheet-back");
      await until("the code is back", () => seen(page, "#card"));
      assert.equal(await page.evaluate(() => document.activeElement.dataset.sheet), id, name);
    }
    await closeTab(page);
  }
});

test("a resident declares health, is told what is missing, and reads it back", async () => {
  const chen = person(20);
  await node.register(chen);
  const { page, session } = await opened(chen, "declare", { viewport: SMALL_PHONE });
  await until("the form is there", () => seen(page, "#declaration-form"));
  const says = (what) => until(`it says ${what}`, async () => what.test(await words(page, "#declaration-says")));
  const focused = () => page.evaluate(() => document.activeElement.name);
  await send(page, "declaration");
  await says(/请选择症状/);
  assert.equal(await focused(), "symptoms");
  await tap(page, "[name=symptoms][value=none]");
  await tap(page, "[name=symptoms][value=nausea]");
  await send(page, "declaration");
  await says(/选“无”时不能再选其他/);
  await tap(page, "[name=symptoms][value=none]");
  await send(page, "declaration");
  await says(/此项必填/);
  assert.equal(await focused(), "contact");
  await page.select("[name=contact]", "no");
  await page.select("[name=high_risk_area]", "no");
  await page.type("[name=celsius]", "63.4");
  await send(page, "declaration");
  await says(/30 至 45/);
  assert.equal(await page.$eval("[name=celsius]", (field) => field.getAttribute("aria-invalid")), "true");
  await screenshot(page, "resident-declaration");
  assert.deepEqual(await barriers(page), []);
  assert.equal(posts(page, "/v1/declarations"), 0);
  await page.$eval("[name=celsius]", (field) => (field.value = ""));
  await page.type("[name=celsius]", "36.4");
  // A province alone is no place to live in.
  await send(page, "declaration");
  await until("the place is asked for", async () => (await page.$eval("[name=residence]", (field) => field.getAttribute("aria-invalid"))) === "true");
  await page.select("[data-for=residence] ", "44");
  const level = async (name, nth, value) => (await page.$$(`[data-for=${name}]`))[nth].select(value);
  await level("residence", 1, "4401");
  await level("residence", 2, "440106");
  await level("places", 0, "42");
  await level("places", 1, "4201");
  // Districts of other provinces come in a part of their own.
  await until("its districts are offered", async () => (await page.$$(`[data-for=places]`))[2].$eval("option[value='420102']", () => true).catch(() => false));
  await level("places", 2, "420102");
  await page.evaluate(() => Array.from(document.querySelectorAll("fieldset button")).find((one) => /添加一处/.test(one.innerText)).click());
  await level("places", 0, "11");
  await send(page, "declaration");
  await says(/已提交/);
  assert.equal(posts(page, "/v1/declarations"), 1);
  const { declarations } = await desk("/v1/declarations", session);
  assert.equal(declarations.length, 1);
  const { celsius, symptoms, contact, high_risk_area, residence, places } = declarations[0];
  assert.deepEqual({ celsius, symptoms, contact, high_risk_area, residence, places }, {
    celsius: 36.4, symptoms: ["nausea"], contact: "no", high_risk_area: false, residence: "440106", places: ["420102", "110000"],
  });
  await until("it is among the records", async () => /36.4 ℃[\s\S]*恶心[\s\S]*近期居住地 广东 广州市 天河区[\s\S]*湖北 武汉市 江岸区、北京[\s\S]*当前有效/.test(await words(page, "#declarations-list")));
  assert.equal(await scrollsSideways(page), false);
  await closeTab(page);
});

test("a resident declares for a member of the family, and for nobody else", async () => {
  const [chen, li] = [person(42), person(43, "李秀英")];
  for (const someone of [chen, li]) await node.register(someone);
  const { page, session } = await opened(chen, "declare");
  await until("the form is there", () => seen(page, "#declaration-form"));
  await page.select("[name=whom]", "other");
  await page.select("[name=cert_type]", "10");
  await page.type("[name=cert_no]", li.cert_no);
  await page.type("#declaration-form [name=name]", li.name);
  await tap(page, "[name=symptoms][value=none]");
  await page.select("[name=contact]", "no");
  await page.select("[name=high_risk_area]", "no");
  await page.select("[data-for=residence]", "");
  await send(page, "declaration");
  await until("it says that it is nobody of the family", async () => /没有这位家人/.test(await words(page, "#declaration-says")));
  await addMember(node, session, li);
  await send(page, "declaration");
  await until("it is filed", async () => /已提交/.test(await words(page, "#declaration-says")));
  const { declarations } = await desk("/v1/declarations", node.session(li));
  assert.equal(declarations[0].by, "other");
  assert.equal((await desk("/v1/declarations", session)).declarations.length, 0);
  await closeTab(page);
});

test("entry is declared with places by name, and read back", async () => {
  const chen = person(44);
  await node.register(chen);
  const { page, session } = await opened(chen, "entry");
  await until("the form is there", () => seen(page, "#entry-form"));
  const level = async (name, nth, value) => (await page.$$(`[data-for=${name}]`))[nth].select(value);
  await send(page, "entry");
  assert.equal(await page.$eval("[name=destination]", (field) => field.getAttribute("aria-invalid")), "true");
  await level("destination", 1, "4401");
  await level("destination", 2, "440106");
  await page.$eval("[name=arrives]", (field) => (field.value = "2030-05-06"));
  await level("from", 0, "42");
  await level("from", 1, "4201");
  await page.select("[name=transport]", "train");
  await page.type("[name=number]", "g1002");
  await page.select("[name=result]", "negative");
  await send(page, "entry");
  assert.equal(await page.evaluate(() => document.activeElement.name), "tested");
  await page.$eval("[name=tested]", (field) => (field.value = "2020-05-03"));
  await screenshot(page, "resident-entry");
  assert.deepEqual(await barriers(page), []);
  await send(page, "entry");
  await until("it is filed", async () => /已提交/.test(await words(page, "#entry-says")));
  const { entries } = await desk("/v1/entries", session);
  assert.equal(entries.length, 1);
  assert.deepEqual([entries[0].destination, entries[0].from, entries[0].arrives, entries[0].transport, entries[0].nucleic_test.result], ["440106", "420100", "2030-05-06", "train", "negative"]);
  await until("it is listed", async () => /2030年5月6日 到达 广东 广州市 天河区[\s\S]*湖北 武汉市[\s\S]*火车/.test(await words(page, "#entries-list")));
  await closeTab(page);
});

test("what is sent again after a silence is filed once", async () => {
  const chen = person(21);
  await node.register(chen);
  const { page, session } = await opened(chen, "declare");
  await until("the form is there", () => seen(page, "#declaration-form"));
  await tap(page, "[name=symptoms][value=none]");
  await page.select("[name=contact]", "no");
  await page.select("[name=high_risk_area]", "no");
  await page.select("[data-for=residence]", "");
  page.unheard = (request) => request.method() === "POST";
  await send(page, "declaration");
  await until("the silence is told", async () => /连不上/.test(await words(page, "#declaration-says")));
  page.unheard = null;
  await send(page, "declaration");
  await until("it is filed", async () => /已提交/.test(await words(page, "#declaration-says")));
  assert.equal(posts(page, "/v1/declarations"), 2);
  assert.equal((await desk("/v1/declarations", session)).declarations.length, 1);
  await closeTab(page);
});

test("records are cards: certificates, a notice that is shown full screen, temperatures folded, and what is withheld is said", async () => {
  const [chen, child] = [person(51), person(52, "李小明", "unverified", "20150307")];
  for (const someone of [chen, child]) await node.register(someone);
  await node.say("set", chen, "close_contact");
  const ago = (days) => new Date(Date.now() - days * 86400000).toISOString();
  const of = { cert_type: "10", cert_no: chen.cert_no };
  const events = Array.from({ length: 24 }, (_, nth) => ({ event: "temperature", ...of, celsius: nth ? 36.4 : 37.6, at: ago(nth + 1), source: "carriers", seq: 200 - nth, region: "440106" }));
  events.push({ event: "certificate", ...of, certificate: "nucleic_test", result: "negative", number: "粤-7", at: ago(2), source: "gz-lab", seq: 9, until: "2030-05-10" });
  events.push({ event: "notice", ...of, reason: "close_contact", at: ago(1), source: "gd-cdc", seq: 5000, number: "粤卫-12", from: "2020-04-20", until: "2020-05-04", region: "440106" });
  await node.feed(...events);
  await until("it is green", async () => (await (await fetch(node.doors.resident + "/v1/code", { headers: { authorization: "Bearer " + node.session(chen) } })).json()).state === "green");
  const { page } = await opened(chen, "health");
  await until("they are there", async () => /核酸检测[\s\S]*广州核酸检测中心[\s\S]*编号 粤-7[\s\S]*有效至 2030年5月10日[\s\S]*阴性/.test(await words(page, "#health-list")));
  assert.match(await words(page, "#sheet-body"), /体温（24 次）/);
  assert.equal((await page.$$("#temperatures-list .card")).length, 2);
  assert.match(await words(page, "#temperatures-list"), /37.6 ℃[\s\S]*广东 广州市 天河区[\s\S]*偏高[\s\S]*正常/);
  await screenshot(page, "resident-records");
  await tap(page, "#temperatures-list button");
  assert.equal((await page.$$("#temperatures-list .card")).length, 24);
  await tap(page, "#health-list button");
  await until("the notice fills the screen", () => seen(page, "#notice-paper"));
  assert.match(await words(page, "#notice-paper"), /编号 粤卫-12[\s\S]*密切接触者[\s\S]*2020年4月20日 — 2020年5月4日[\s\S]*广东省疾控中心/);
  await screenshot(page, "resident-notice");
  assert.deepEqual(await barriers(page), []);
  await tap(page, "#sheet-back");
  await until("the records are as they were left", async () => (await page.$$("#temperatures-list .card")).length === 24 && (await seen(page, "#health-list")));
  await closeTab(page);
  const { page: withheld } = await opened(child, "health");
  await until("it is said", async () => /暂不提供体温记录/.test(await words(withheld, "#sheet-body")));
  await closeTab(withheld);
});

test("a red is appealed against from where its reason stands, and the answer is told", async () => {
  const chen = person(22);
  await node.register(chen);
  await node.say("set", chen, "close_contact");
  const session = node.session(chen);
  const page = await behindOneName(node);
  await page.goto(`${node.doors.resident}/#s=${session}`);
  await shows(page, "red");
  await tap(page, "#appeal-open");
  await until("the form is there", () => seen(page, "#appeals-form"));
  await send(page, "appeals");
  await until("it says what is missing", async () => /请说明情况/.test(await words(page, "#appeals-says")));
  await page.type("#appeals-form [name=text]", "我那天\n不在那里");
  await send(page, "appeals");
  await until("it is listed", async () => /密切接触者[\s\S]*“我那天 不在那里”[\s\S]*已收到/.test(await words(page, "#appeals-list")));
  assert.match(await words(page, "#appeals-says"), /已提交/);
  // What was done is not in the colour of what is wrong.
  assert.equal(await page.$eval("#appeals-says", (says) => says.dataset.mood), "good");
  assert.equal(await page.evaluate(() => document.body.dataset.view), "red");
  await screenshot(page, "resident-appeal");
  assert.deepEqual(await barriers(page), []);
  const { appeals } = await desk("/v1/appeals", session);
  const answered = await fetch(`${node.doors.ops}/v1/appeals/${appeals[0].id}`, {
    method: "POST", body: JSON.stringify({ state: "rejected", note: "已核实接触" }),
    headers: { authorization: "Bearer " + node.authority, "content-type": "application/json" },
  });
  assert.equal(answered.status, 201);
  await tap(page, "#sheet-back");
  await until("the code is back", () => seen(page, "#card"));
  await openSheet(page, "appeals");
  await until("the answer is told", async () => /已核实接触[\s\S]*由 广东省疾控中心 答复[\s\S]*申诉不成立 \d+月\d+日/.test(await words(page, "#appeals-list")));
  await closeTab(page);
});

test("a grant is confirmed, given, listed and taken back, and a wrong one says why", async () => {
  const chen = person(23);
  await node.register(chen);
  const session = node.session(chen);
  const page = await behindOneName(node, { languages: "en" });
  const asked = [];
  let agrees = false;
  page.on("dialog", (dialog) => {
    asked.push(dialog.message());
    return agrees ? dialog.accept() : dialog.dismiss();
  });
  await page.goto(`${node.doors.resident}/#s=${session}`);
  await shows(page, "green");
  await openSheet(page, "grants");
  await until("there is none", async () => /Nothing on record/.test(await words(page, "#grants-list")));
  const fill = (organisation, day) => page.evaluate(([name, date]) => {
    const form = document.getElementById("grants-form");
    form.elements.organisation.value = name;
    form.elements.until.value = date;
  }, [organisation, day]);
  const says = (what) => until(`it says ${what}`, async () => what.test(await words(page, "#grants-says")));
  await fill("Guangzhou No. 1 School", "2099-12-31");
  await send(page, "grants");
  await says(/letters, digits/);
  await fill("gz-no1-school", "2020-05-04");
  await send(page, "grants");
  await says(/today or a later day/);
  await fill("gz-no1-school", "2099-12-31");
  await send(page, "grants");
  await until("it is asked", () => asked.length === 1);
  assert.match(asked[0], /Guangzhou No\. 1 School.*gz-no1-school.*31 Dec 2099/);
  await fill("gz-no2-school", "2099-12-31");
  await send(page, "grants");
  await until("it is asked again", () => asked.length === 2);
  assert.match(asked[1], /No name is on file for the ID gz-no2-school/);
  await fill("gz-no1-school", "2099-12-31");
  assert.equal((await desk("/v1/grants", session)).grants.length, 0, "not without a yes");
  agrees = true;
  await send(page, "grants");
  await until("it is listed", async () => /Guangzhou No. 1 School\s+gz-no1-school\s+until 31 Dec 2099/.test(await words(page, "#grants-list")));
  await screenshot(page, "resident-grants");
  assert.deepEqual(await barriers(page), []);
  assert.equal((await desk("/v1/grants", session)).grants.length, 1);
  await tap(page, "#grants-list button");
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
  await node.feed({ event: "trip", cert_type: "10", cert_no: chen.cert_no, places: ["440100", "420100", "110000", "440106", "420102"], at: yesterday, source: "carriers", seq: 1 });
  const { page } = await opened(chen, "trip");
  await until("the trip is there", async () => (await page.$$("#trip-places .card")).length === 5);
  assert.deepEqual((await words(page, "#trip-places")).split(/\n+/), ["广东 广州市", "湖北 武汉市", "北京", "广东 广州市 天河区", "湖北 武汉市 江岸区"]);
  await tap(page, "#sheet-back");
  await until("the code is back", () => seen(page, "#card"));
  await openSheet(page, "accesses");
  await until("the newest is there", async () => /查看入粤申报[\s\S]*工作人员 天河区疾控 王医生[\s\S]*事由 reception-20/.test(await words(page, "#accesses-list")));
  const cards = () => page.$$eval("#accesses-list .card", (all) => all.length);
  assert.equal(await cards(), 20);
  await tap(page, "#accesses-list button");
  await until("the oldest is there", async () => /事由 reception-0$/.test((await words(page, "#accesses-list")).trim()));
  assert.equal(await cards(), 21);
  assert.deepEqual(await barriers(page), []);
  await screenshot(page, "resident-accesses");
  await closeTab(page);
});

test("a desk that is busy is not asked before the time that it said, which is counted down", async () => {
  const chen = person(25);
  await node.register(chen);
  const { page } = await opened(chen, "settings");
  await tap(page, "#sheet-back");
  await until("the code is back", () => seen(page, "#card"));
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
  const busy = /系统繁忙，当前查询人数过多，请 (\d+) 秒后再试/;
  for (const id of ["accesses", "grants", "accesses"]) {
    await openSheet(page, id);
    await until("it says busy", async () => busy.test(await words(page, `#${id}-list`)));
    const seconds = async () => Number(busy.exec(await words(page, `#${id}-list`))[1]);
    const first = await seconds();
    await until("it counts down", async () => (await seconds()) < first);
    await tap(page, "#sheet-back");
    await until("the code is back", () => seen(page, "#card"));
  }
  assert.equal(await page.evaluate(() => window.shed), 1);
  assert.equal(page.asked.slice(asked).filter((request) => /grants|accesses/.test(request.url())).length, 0);
  // The code is another door's, and goes on.
  assert.equal(await page.evaluate(() => document.body.dataset.view), "green");
  await closeTab(page);
});

test("whoever lost a phone ends what it shows from another", async () => {
  const chen = person(45);
  await node.register(chen);
  const lost = node.session(chen);
  await new Promise((resolve) => setTimeout(resolve, 1100)); // sessions are of a second
  const { page } = await opened(chen, "settings");
  await page.evaluate(() => Array.from(document.querySelectorAll("#sheet-body button")).find((one) => /退出其他手机/.test(one.innerText)).click());
  await until("it is explained", async () => /其他手机上的登录/.test(await words(page, "#sheet-body > div:not([hidden])")));
  await page.evaluate(() => Array.from(document.querySelectorAll("#sheet-body button")).find((one) => /立即退出/.test(one.innerText)).click());
  await until("it is done", async () => /已退出/.test(await words(page, "#lost-says")));
  await until("the lost one shows nothing", async () => (await fetch(node.doors.resident + "/v1/code", { headers: { authorization: "Bearer " + lost } })).status === 401);
  await shows(page, "green");
  await closeTab(page);
});

test("nothing that was typed for one is left for the next who is shown", async () => {
  const [chen, li] = [person(26), person(27, "李雷")];
  await node.register(chen);
  await node.register(li);
  const page = await behindOneName(node);
  await page.goto(`${node.doors.resident}/#s=${node.session(chen)}`);
  await shows(page, "green");
  await openSheet(page, "grants");
  await until("the form is there", () => seen(page, "#grants-form"));
  await page.type("[name=organisation]", "gz-no1-school");
  // A link never changes who is shown unless whoever holds the phone agrees.
  page.once("dialog", (dialog) => dialog.dismiss());
  await page.evaluate((session) => (location.hash = "s=" + session), node.session(li));
  await until("the address is clean again", () => page.evaluate(() => !location.hash));
  assert.equal(await page.$eval("[name=organisation]", (field) => field.value), "gz-no1-school");
  page.once("dialog", (dialog) => dialog.accept());
  await page.evaluate((session) => (location.hash = "s=" + session), node.session(li));
  await until("the other is shown", async () => (await words(page, "#name")) === "李*");
  assert.equal(await seen(page, "#sheet"), false);
  assert.equal(await page.$("[name=organisation]"), null);
  await closeTab(page);
});
