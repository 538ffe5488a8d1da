// The pages of organisations and of staff, as their officers meet them.

import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { PHONE, SIZES, barriers, closeTab, decode, launch, screenshot, scrollsSideways, seen, tab, tap, words } from "./browser.js";
import { Node, person, until } from "./node.js";

let browser;
let node;
let folder;
let tokens;
const SCHOOL = "gz-no1-school";
const people = [person(1), person(2, "王强"), person(3, "李秀英")];

before(async () => {
  browser = await launch();
  node = await Node.start({ settings: ["desk_requests_per_second=1000"] });
  folder = mkdtempSync(join(tmpdir(), "liangma-office-"));
  for (const someone of people) await node.register(someone);
  await node.say("set", people[1], "close_contact");
  // Days are those of China.
  const soon = new Date(Date.now() + 3 * 86400000 + 8 * 3600000).toISOString().slice(0, 10);
  for (const [nth, someone] of people.entries()) await desk("/v1/grants", node.session(someone), { organisation: SCHOOL, until: nth === 2 ? soon : "2099-12-31" });
  tokens = {
    school: node.token("organisation", "--name", SCHOOL),
    scanner: node.token("scanner", "--site", "school-gate", "--organisation", SCHOOL),
    staff: node.token("staff", "--name", "wang-01", "--region", "440100"),
  };
});

after(async () => {
  await browser?.close();
  await node?.close();
  rmSync(folder, { recursive: true });
});

async function desk(path, token, content) {
  const headers = { authorization: "Bearer " + token, "content-type": "application/json" };
  const response = await fetch(node.doors.desk + path, { method: content ? "POST" : "GET", headers, body: content && JSON.stringify(content) });
  return response.json();
}

/// A tab before a balancer that maps all doors onto one name: scans go to the gate door.
async function open(path, options = {}) {
  const page = await tab(browser, options);
  await page.setRequestInterception(true);
  page.on("request", async (request) => {
    const { pathname } = new URL(request.url());
    if (!pathname.startsWith("/v1/scan")) return request.continue();
    if (page.cut) return request.abort();
    const response = await fetch(node.doors.gate + pathname, { method: request.method(), headers: request.headers(), body: request.postData() });
    return request.respond({ status: response.status, contentType: response.headers.get("content-type"), body: await response.text() });
  });
  await page.goto(node.doors.desk + path);
  return page;
}

const organisation = (options) => open(`/organisation#t=${tokens.school}&g=${tokens.scanner}&n=${encodeURIComponent("广州一中")}`, options);
const staff = (options) => open(`/staff#t=${tokens.staff}`, options);
const table = (page, id) => page.$$eval(`#${id} tr`, (rows) => rows.map((one) => Array.from(one.children, (cell) => cell.innerText)));

function written(name, rows) {
  const path = join(folder, name);
  writeFileSync(path, rows.join("\r\n") + "\r\n");
  return path;
}

const upload = async (page, id, path) => (await page.$("#" + id)).uploadFile(path);

/// What a button saves, as text.
async function saved(page, button, name) {
  const session = await page.createCDPSession();
  await session.send("Browser.setDownloadBehavior", { behavior: "allow", downloadPath: folder, browserContextId: page.browserContext().id });
  const before = new Set(readdirSync(folder));
  await tap(page, button);
  let text;
  await until(`${name} is saved`, () => {
    const found = readdirSync(folder).find((one) => !before.has(one) && one.startsWith(name + "-") && one.endsWith(".csv"));
    text = found && readFileSync(join(folder, found), "utf8");
    return Boolean(text);
  });
  return text.replace("\ufeff", "").trim().split("\r\n");
}

test("an organisation checks its whole roster with one button, on every screen, those who are not green first", async () => {
  for (const [name, viewport] of Object.entries(SIZES)) {
    const page = await organisation({ viewport });
    assert.equal(await page.evaluate(() => location.hash), "");
    assert.equal(await words(page, "#office"), "广州一中");
    await tap(page, "#check");
    await until("all are checked", async () => /共 3 人，\d\d:\d\d:\d\d 核验/.test(await words(page, "#check-says")));
    assert.match(await words(page, "#sums"), /1\s+红码\s+2\s+绿码\s+1\s+授权将到期/);
    assert.deepEqual((await table(page, "check-rows")).map((cells) => cells[1]), ["红码", "绿码"]);
    assert.match((await table(page, "check-rows"))[1].at(-1), /3 天后到期/);
    await tap(page, "#only");
    assert.equal((await table(page, "check-rows")).length, 3);
    assert.equal(await scrollsSideways(page), false, name);
    await screenshot(page, `organisation-${name}`);
    if (viewport === PHONE) assert.deepEqual(await barriers(page), [], name);
    await closeTab(page);
  }
});

test("who could not be checked is told to be unchecked, and nobody is green", async () => {
  const page = await organisation();
  page.cut = true;
  await tap(page, "#check");
  await until("it says so", async () => /只有 0 人有结果/.test(await words(page, "#check-says")));
  assert.match(await words(page, "#sums"), /3\s+未核验/);
  assert.doesNotMatch(await words(page, "#check-rows"), /绿码/);
  await closeTab(page);
});

test("an organisation's own columns stay beside the verdicts", async () => {
  const page = await organisation({ viewport: SIZES["1440x900"] });
  const members = await saved(page, "#roster-save", "members");
  assert.equal(members.length, 4);
  const rows = members.slice(1).map((line, nth) => `学生${nth},${nth}班,${line.split(",")[0]}`);
  await upload(page, "own-file", written("own.csv", ["真名,班级,成员编号", ...rows, "转学生,3班,"]));
  await until("all are checked", async () => /共 4 人|只有/.test(await words(page, "#check-says")));
  await tap(page, "#only");
  const cells = await table(page, "check-rows");
  assert.equal(cells.length, 4);
  assert.deepEqual(cells[0].slice(1, 4), ["转学生", "3班", "未核验"]);
  assert.match(cells[1].slice(1, 6).join(" "), /^学生\d \d班 红码 王\* 44\*+\w\w$/);
  await screenshot(page, "organisation-own");
  assert.deepEqual(await barriers(page), []);
  const result = await saved(page, "#save", "check");
  assert.equal(result.length, 5);
  assert.match(result[0], /^"行","真名","班级","结果"/);
  await upload(page, "own-file", written("names.csv", ["真名,班级", "学生,1班"]));
  await until("it says what is missing", async () => /没有成员编号/.test(await words(page, "#check-says")));
  await closeTab(page);
});

test("declarations come from a table, and each row that is rejected says why", async () => {
  const page = await organisation({ viewport: SIZES["1440x900"] });
  const template = await saved(page, "#template", "declarations");
  assert.match(template[0], /^"成员编号","姓名","证件号","体温","症状","接触病例","到过高风险地区","居住地代码"$/);
  const ids = template.slice(1).map((line) => line.split(",")[0].replace(/"/g, ""));
  await upload(page, "declare-file", written("filled.csv", [
    template[0], `${ids[0]},陈,x,36.5℃,无,否,否,440106`, `${ids[1]},李,x,63,无,否,否,`, `${ids[2]},王,x,,头痛,否,否,`, `${ids[2]},王,x,,无,否,也许,`,
    "AAAAAAAAAAAAAAAAAAAAAAAAAA,某,x,,无,否,否,", `${ids[2]},王,x,,无、恶心呕吐腹泻,否,否,`, `${ids[2]},王,x,,,否,否,`, `${ids[2]},王,x,三十六度,无,否,否,`, ",无,x,,无,否,否,",
  ]));
  await until("they are filed", async () => /已申报 1 人，未通过 8 行/.test(await words(page, "#declare-says")));
  const why = Object.fromEntries((await table(page, "rejected-rows")).map(([row, reason]) => [row, reason]));
  assert.match(why[3], /30–45/);
  assert.match(why[4], /症状/);
  assert.match(why[5], /到过高风险地区请填/);
  assert.match(why[6], /不在本单位授权名单/);
  assert.match(why[7], /症状/);
  assert.match(why[8], /必填项为空/);
  assert.match(why[9], /30–45/);
  assert.match(why[10], /必填项为空/);
  await screenshot(page, "organisation-rejected");
  assert.deepEqual(await barriers(page), []);
  // The same file again files nothing anew, in whatever language it is written.
  await upload(page, "declare-file", written("again.csv", ["Member ID,Temperature,Symptoms,Contact with a case,High-risk area,Residence code", `${ids[0]},36.5,none,no,no,440106`]));
  await until("it is known", async () => /已申报 0 人，与之前相同 1 人/.test(await words(page, "#declare-says")));
  const told = await Promise.all(people.map((someone) => desk("/v1/declarations", node.session(someone))));
  const declared = told.flatMap(({ declarations }) => declarations);
  assert.equal(declared.length, 1);
  assert.deepEqual([declared[0].celsius, declared[0].symptoms, declared[0].contact, declared[0].high_risk_area, declared[0].residence, declared[0].by], [36.5, ["none"], "no", false, "440106", "organisation"]);
  await closeTab(page);
});

test("credentials of another kind open nothing", async () => {
  for (const path of [`/organisation#t=${"NOSUCHTOKEN"}&g=NOSUCHTOKEN`, "/organisation", "/staff"]) {
    const page = await open(path);
    if (path.includes("#")) await tap(page, "#check");
    await until("it says so", () => seen(page, "#login"));
    assert.deepEqual(await barriers(page), []);
    await closeTab(page);
  }
});

test("staff register somebody without an eligible document, print a slip, and look them up with a purpose", async () => {
  for (const [name, viewport] of Object.entries(SIZES)) {
    const page = await staff({ viewport });
    await page.evaluate(() => (window.print = () => (window.printed = true)));
    await tap(page, "#register-form button");
    assert.equal(await page.evaluate(() => document.activeElement.name), "cert_no");
    await page.type("#register-form [name=cert_no]", "abc1234567" + name.length + viewport.width);
    await page.type("#register-form [name=name]", "John Smith");
    await page.type("#register-form [name=nationality]", "gb");
    await screenshot(page, `staff-register-${name}`);
    await tap(page, "#register-form button");
    await until("there is a slip", () => seen(page, "#slip-number"));
    const number = await words(page, "#slip-number");
    assert.match(await words(page, "#slip"), /登记凭条[\s\S]*姓名: John Smith[\s\S]*唯一凭证/);
    assert.equal(await scrollsSideways(page), false, name);
    const slip = await screenshot(page, `staff-slip-${name}`);
    if (name !== "360x640") assert.equal(decode(slip), number, name);
    if (viewport === PHONE) {
      assert.deepEqual(await barriers(page), []);
      // On paper there is the slip and nothing else, of the size that was chosen.
      await tap(page, "#print");
      assert.equal(await page.evaluate(() => window.printed), true);
      await page.emulateMediaType("print");
      assert.equal(await seen(page, "#slip"), true);
      for (const part of ["h1", ".views", "#print", "#register-title"]) assert.equal(await seen(page, part), false, part);
      const sheet = Buffer.from(await page.pdf({ preferCSSPageSize: true })).toString("latin1");
      assert.match(sheet, /MediaBox ?\[0 0 22[67]/);
      assert.match(sheet, /\/Count 1\b/, "a slip is one page");
      await page.select("#paper", "105mm 148mm");
      await page.emulateMediaType("screen");
      await tap(page, "#print");
      await page.emulateMediaType("print");
      assert.match(Buffer.from(await page.pdf({ preferCSSPageSize: true })).toString("latin1"), /MediaBox ?\[0 0 29[78]/);
      await page.emulateMediaType("screen");
    }
    await tap(page, "[data-opens=find]");
    await page.type("#find-form [name=number]", number.toLowerCase());
    await tap(page, "#find-form button");
    assert.equal(await page.evaluate(() => document.activeElement.name), "purpose", "not without a purpose");
    await page.select("#find-form [name=purpose]", "gate-check");
    await tap(page, "#find-form button");
    await until("it is found", () => seen(page, "#found-state"));
    assert.match(await words(page, "#found"), /绿码[\s\S]*John Smith[\s\S]*外国护照[\s\S]*GB[\s\S]*唯一凭证/);
    assert.equal(await scrollsSideways(page), false, name);
    await screenshot(page, `staff-found-${name}`);
    if (viewport === PHONE) assert.deepEqual(await barriers(page), []);
    // A slip of the pen is nobody else's status.
    const last = number.at(-1);
    await page.$eval("#find-form [name=number]", (field, wrong) => (field.value = wrong), number.slice(0, -1) + (last === "A" ? "B" : "A"));
    await tap(page, "#find-form button");
    await until("it is told", async () => /核对最后一位|没有本辖区/.test(await words(page, "#find-form-says")));
    assert.equal(await page.$("#found-state"), null);
    await closeTab(page);
  }
});

test("staff see who comes to a place of theirs on a day, and save the table", async () => {
  const session = node.session(people[0]);
  await desk("/v1/entries", session, { destination: "440106", arrives: "2030-05-06", from: "420100", transport: "train", number: "G1002", nucleic_test: { result: "negative", at: "2020-05-03T08:00:00+08:00" } });
  const page = await staff({ viewport: SIZES["1440x900"] });
  await tap(page, "[data-opens=entries]");
  const level = async (nth, value) => (await page.$$("[data-for=destination]"))[nth].select(value);
  await tap(page, "#entries-form button.primary");
  await page.$eval("#entries-form [name=day]", (field) => (field.value = "2030-05-06"));
  await page.select("#entries-form [name=purpose]", "own");
  await page.type("#entries-form [name=own]", "two words");
  await level(1, "4401");
  await level(2, "440106");
  await tap(page, "#entries-form button.primary");
  assert.match(await words(page, "#entries-form-says"), /事由只含/);
  await page.$eval("#entries-form [name=own]", (field) => (field.value = "welcome-desk"));
  await tap(page, "#entries-form button.primary");
  await until("it is listed", async () => /共 1 人/.test(await words(page, "#entries-count")));
  const [cells] = await table(page, "entries-rows");
  assert.deepEqual(cells.slice(0, 9), ["陈**", cells[1], "广东 广州市 天河区", "2030-05-06", "湖北 武汉市", "火车", "G1002", "阴性", "2020-05-03"]);
  await screenshot(page, "staff-entries");
  assert.deepEqual(await barriers(page), []);
  assert.equal((await saved(page, "#entries-save", "entries")).length, 2);
  // What is not theirs is refused in words.
  await level(1, "4403");
  await level(2, "440306");
  await tap(page, "#entries-form button.primary");
  await until("it is refused", async () => /不是本辖区/.test(await words(page, "#entries-form-says")));
  assert.equal(await seen(page, "#entries-rows"), false);
  const { accesses } = await desk("/v1/accesses", session);
  assert.equal(accesses[0].purpose, "welcome-desk");
  await closeTab(page);
});
