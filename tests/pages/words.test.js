// What the pages say, without a browser: each name in each language, and a word for whatever an answer may say.

import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { test } from "node:test";
import vm from "node:vm";

const root = new URL("../../", import.meta.url);
const read = (path) => readFileSync(new URL(path, root), "utf8");
const LANGUAGES = ["zh-Hans", "zh-Hant", "en"];
/// The files of each page's scripts, as build.rs joins them.
const PARTS = Object.fromEntries(Array.from(read("build.rs").matchAll(/\(\s*"([\w.]+)",\s*SCRIPT,\s*&\[([^\]]*)\]/g), ([, name, files]) => [name, files.match(/[\w.-]+\.js/g)]));
const SCRIPTS = { resident: ["resident.js", "desk.js", "divisions.js"], gate: ["gate.js"], organisation: ["organisation.js"], staff: ["staff.js"], demo: ["demo.js"] };
const PAGES = Object.fromEntries(Object.entries(SCRIPTS).map(([page, scripts]) => [page, scripts.flatMap((name) => PARTS[name]).filter((file) => file.endsWith("-words.js"))]));

function learned(files) {
  const words = { "zh-Hans": {}, "zh-Hant": {}, en: {} };
  const learn = (told) => LANGUAGES.forEach((tag) => Object.assign(words[tag], told[tag]));
  for (const file of files) vm.runInNewContext(read("pages/" + file), { learn });
  return words;
}

/// The words of an enumeration in Rust: what stands in quotes behind its arrows.
const arrows = (path, start, end) => {
  const text = read(path);
  const from = text.indexOf(start);
  assert.notEqual(from, -1, `${path} has ${start}`);
  return Array.from(text.slice(from, text.indexOf(end, from)).matchAll(/=> "([a-z_]+)"/g), ([, word]) => word);
};

test("whatever is said in one language is said in all", () => {
  for (const [page, files] of Object.entries(PAGES)) {
    const words = learned(files);
    const names = Object.keys(words["zh-Hans"]).sort();
    assert.ok(names.length > 10, page);
    for (const tag of LANGUAGES) {
      assert.deepEqual(Object.keys(words[tag]).sort(), names, `${page} ${tag}`);
      for (const name of names) assert.equal(typeof words[tag][name], typeof words["zh-Hans"][name], `${page} ${tag} ${name}`);
    }
  }
});

/// What Traditional Chinese says otherwise than Simplified, beside its characters.
const NEVER_TRADITIONAL = ["登錄", "打印"];
/// What both say alike.
const ALIKE = ["更新", "刷新", "撤回"];

function assertUsage(simplified, traditional, where) {
  for (const word of NEVER_TRADITIONAL) assert.ok(!traditional.includes(word), `${where}: ${word}`);
  for (const word of ALIKE) assert.equal(traditional.includes(word), simplified.includes(word), `${where}: ${word}`);
}

test("Traditional Chinese has its own usage, and says what Simplified says", () => {
  const files = readdirSync(new URL("pages/", root)).filter((file) => file.endsWith("-words.js"));
  assert.ok(files.length > 8, String(files));
  for (const file of files) {
    const words = learned([file]);
    for (const [name, simplified] of Object.entries(words["zh-Hans"])) assertUsage(String(simplified), String(words["zh-Hant"][name]), `${file} ${name}`);
  }
  // Texts of the service, each beside its translation.
  for (const path of ["src/http/problem.rs", "src/status/guidance.rs"]) {
    const [simplified, traditional] = ["Hans", "Hant"].map((tag) => Array.from(read(path).matchAll(new RegExp(`${tag}\\)? => (?:\\{\\s*)?"([^"]*)"`, "g")), ([, text]) => text));
    assert.ok(simplified.length > 10, path);
    assert.equal(simplified.length, traditional.length, path);
    simplified.forEach((text, nth) => assertUsage(text, traditional[nth], `${path}: ${text}`));
  }
});

test("every name that a page asks for has its words", () => {
  for (const [page, names] of Object.entries(SCRIPTS)) {
    const words = learned(PAGES[page])["zh-Hans"];
    const text = [...names.flatMap((name) => PARTS[name]), page + ".html"].map((file) => read("pages/" + file)).join("\n");
    const asked = Array.from(text.matchAll(/(?:\bsay\("|\btell\("|data-say="|data-label=")([a-z0-9_]+)"(?! \+)/g), ([, name]) => name);
    assert.ok(asked.length > 4, page);
    for (const name of asked) assert.ok(name in words, `${page}: ${name}`);
  }
});

test("no word of an answer is shown as the program has it", () => {
  const { components } = JSON.parse(read("pages/openapi.json"));
  const roles = arrows("src/desk/roles.rs", "Role::Resident => \"resident\"", "}\n");
  // A row of the table of acts: the name, the word, the roles.
  const acts = Array.from(read("src/desk/roles.rs").matchAll(/^ {4}[A-Z]\w+ "([a-z_]+)" \[/gm), ([, word]) => word);
  assert.ok(roles.length >= 7 && acts.length >= 30, `${roles} ${acts}`);
  const { State, Assurance, ReasonCode } = components.schemas;
  const said = {
    resident: [
      ...State.enum, ...State.enum.map((state) => state + "_says"), ...Assurance.enum, ...ReasonCode.enum, ...roles, ...acts.map((act) => "act_" + act),
      "certificate", "notice", "declaration", "temperature", "health", "nucleic_test", "antibody_test", "vaccination", "negative", "positive",
      "none", "cold_like", "short_breath", "nausea", "palpitation", "conjunctivitis", "contact_yes", "contact_no", "contact_unsure",
      "received", "in_review", "upheld", "rejected", "by_other", "by_organisation", "train", "plane", "coach", "ship", "car",
    ],
    gate: [...State.enum, ...State.enum.map((state) => state + "_says"), ...Assurance.enum, "code_invalid", "code_expired", "code_revoked", "grant_revoked", "rate_limited", "too_large", "pass", "pass_says", "issuer_unknown", "signature_invalid", "issuer_not_entitled", "issuer_unreachable", "pass_vaccinated", "pass_tested", "pass_recovered", "pass_statement", "pass_detected", "pass_not_detected", "pass_unknown", "policy_none", "policy_accepted", "policy_not_accepted"],
    organisation: [...State.enum, "code_invalid", "code_expired", "code_revoked", "grant_revoked", "rate_limited", "pass", "issuer_unknown", "signature_invalid", "issuer_not_entitled", "issuer_unreachable"],
    staff: [...State.enum, ...ReasonCode.enum, "train", "plane", "coach", "ship", "car", "other", "negative", "positive"],
  };
  for (const [page, names] of Object.entries(said)) {
    const words = learned(PAGES[page]);
    for (const name of names) for (const tag of LANGUAGES) assert.ok(words[tag][name], `${page} ${tag}: ${name}`);
  }
});

test("divisions have a name in each language, and a parent", () => {
  const scope = {};
  vm.runInNewContext(read("pages/division-names.js") + "\nObject.assign(this, { DIVISIONS, DIVISION_NAMES });", scope);
  const { DIVISIONS, DIVISION_NAMES } = scope;
  assert.equal(DIVISIONS.filter((code) => code.length === 2).length, 34);
  assert.equal(DIVISIONS.filter((code) => /^44..$/.test(code)).length, 21);
  assert.equal(new Set(DIVISIONS).size, DIVISIONS.length);
  for (const tag of LANGUAGES) {
    assert.equal(DIVISION_NAMES[tag].length, DIVISIONS.length, tag);
    assert.ok(DIVISION_NAMES[tag].every(Boolean), tag);
  }
  for (const code of DIVISIONS) if (code.length > 2) assert.ok(DIVISIONS.includes(code.slice(0, -2)), code);
  assert.equal(DIVISION_NAMES["zh-Hant"][DIVISIONS.indexOf("440106")], "天河區");
});

/// The part of a page that names divisions, as far as it is loaded; `language` is that of the page.
function divisionsIn(language, ...files) {
  const scope = { window: { liangma: { language: () => language } } };
  vm.runInNewContext(["division-names.js", "divisions.js", ...files].map((file) => read("pages/" + file)).join("\n") + "\nObject.assign(this, { DIVISIONS, districts });", scope);
  return { ...scope, division: scope.window.liangma.divisions.division };
}

test("districts of every province have a name in each language, and a city or province that has one", () => {
  const all = ["district-names.js", "district-names-en.js"];
  const { districts, DIVISIONS, division } = divisionsIn("zh-Hans", ...all);
  assert.ok(districts.codes.length > 2700, String(districts.codes.length));
  assert.equal(new Set(districts.codes).size, districts.codes.length);
  for (const code of districts.codes) {
    assert.match(code, /^\d{6}$/);
    for (const tag of LANGUAGES) assert.ok(districts.names[code][tag], `${code} ${tag}`);
    assert.equal(Array.from(districts.names[code]["zh-Hant"]).length, Array.from(districts.names[code]["zh-Hans"]).length, code);
    assert.match(districts.names[code].en, /^[A-ZÜ][A-Za-zü’ ]+$/, code);
    // Cities that are provinces have no second name, and some counties no city.
    assert.ok(DIVISIONS.includes(code.slice(0, 4)) || /^(11|12|31|50|..90)/.test(code), code);
    assert.doesNotMatch(division(code), /\d/, code);
  }
  for (const [code, hans, hant, en] of [
    ["420102", "湖北 武汉市 江岸区", "湖北 武漢市 江岸區", "Hubei Wuhan Jiang’an"],
    ["110105", "北京 朝阳区", "北京 朝陽區", "Beijing Chaoyang"],
    ["429004", "湖北 仙桃市", "湖北 仙桃市", "Hubei Xiantao"],
    ["371521", "山东 聊城市 阳谷县", "山東 聊城市 陽穀縣", "Shandong Liaocheng Yanggu"],
    ["440106", "广东 广州市 天河区", "廣東 廣州市 天河區", "Guangdong Guangzhou Tianhe"],
    ["420000", "湖北", "湖北", "Hubei"], ["310000", "上海", "上海", "Shanghai"], ["310100", "上海", "上海", "Shanghai"],
    // What the standard does not name stays a number, beside what is known.
    ["420199", "湖北 武汉市（420199）", "湖北 武漢市（420199）", "Hubei Wuhan (420199)"], ["990000", "990000", "990000", "990000"],
  ]) {
    LANGUAGES.forEach((tag, nth) => assert.equal(divisionsIn(tag, ...all).division(code), [hans, hant, en][nth]));
  }
  // Without the part, or with half of it, a code is never taken for another.
  assert.equal(divisionsIn("en").division("420102"), "Hubei Wuhan (420102)");
  assert.equal(divisionsIn("en", "district-names.js").division("420102"), "Hubei Wuhan 江岸区");
});

test("pages fill a phone's screen as it is: its bars, its notch, its icon on the home screen", () => {
  const pages = ["resident", "gate", "organisation", "staff", "demo"];
  for (const page of pages) {
    const html = read(`pages/${page}.html`);
    assert.match(html, /<meta name="viewport" content="width=device-width, initial-scale=1, viewport-fit=cover">/, page);
    assert.match(html, /<link rel="apple-touch-icon" href="\{icon-180\.png\}">/, page);
  }
  for (const style of ["screen", "resident", "gate", "office"]) {
    const css = read(`pages/${style}.css`);
    assert.match(css, /env\(safe-area-inset-(left|bottom)\)/, style);
    // Browsers that know no dvh take the first; in the others a bar that comes and goes hides nothing.
    assert.doesNotMatch(css, /height: 100vh;(?! min-height: 100dvh;)/, style);
  }
});

test("what the status page reads is what a node says", () => {
  const script = read("pages/status.js");
  const metrics = read("docs/operate/metrics.md");
  const names = new Set(script.match(/liangma_[a-z_]+/g));
  assert.ok(names.size > 15);
  for (const name of names) assert.ok(metrics.includes("`" + name + "`") || metrics.includes("`" + name + "_seconds`"), name);
  // A label that a meter does not have would read as nothing, and nothing looks well.
  for (const [, name, label] of script.matchAll(/"(liangma_[a-z_]+)", \{ ([a-z]+)[ ,:]/g)) {
    const row = metrics.split("\n").find((line) => line.startsWith("| `" + name + "` |"));
    assert.ok(row.split("|")[3].includes(label), `${name} has no label ${label}`);
  }
  const doors = /const DOORS = (\[[^\]]*\])/.exec(script)[1];
  assert.deepEqual(JSON.parse(doors), Array.from(read("src/http/door.rs").matchAll(/Door::\w+ => "(\w+)"/g), ([, name]) => name));
});

test("every reference of the interface leads somewhere", () => {
  const api = JSON.parse(read("pages/openapi.json"));
  const references = new Set(JSON.stringify(api).match(/"\$ref":"[^"]+"/g).map((one) => one.slice(8, -1)));
  assert.ok(references.size > 20);
  for (const reference of references) {
    const found = reference.slice(2).split("/").reduce((place, name) => (place === undefined ? undefined : place[name]), api);
    assert.notEqual(found, undefined, reference);
  }
});
