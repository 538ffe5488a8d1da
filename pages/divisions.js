// Names of divisions, and fields by which one is chosen: province, city, district. Provinces, cities and the districts of this
// province are here; the districts of others come in a part of their own where a code or a choice needs them.

const placeOf = {};
DIVISIONS.forEach((code, nth) => (placeOf[code] = nth));
// Of districts that were loaded: their codes in order, and by code the name in each language.
const districts = { codes: [], names: {}, loaded: false, inLatin: false };

function learnDistricts(lines, pairs, exceptions) {
  const traditional = {};
  const letters = Array.from(pairs);
  for (let nth = 0; nth < letters.length; nth += 2) traditional[letters[nth]] = letters[nth + 1];
  for (const line of lines) {
    const [city, ...names] = line.split(" ");
    for (const one of names) {
      const [code, name] = [city + one.slice(0, 2), one.slice(2)];
      districts.codes.push(code);
      districts.names[code] = { "zh-Hans": name, "zh-Hant": exceptions[name] || Array.from(name, (letter) => traditional[letter] || letter).join("") };
    }
  }
  districts.loaded = true;
}

function learnDistrictsEn(lines) {
  lines.join(" ").split(" ").forEach((name, nth) => (districts.names[districts.codes[nth]].en = name.replace(/_/g, " ")));
  districts.inLatin = true;
}

function nameOf(code) {
  const language = window.liangma.language();
  const nth = placeOf[code];
  if (nth !== undefined) return DIVISION_NAMES[language][nth].replace(/_/g, " ");
  const names = districts.names[code];
  return names ? names[language] || names["zh-Hans"] : "";
}

// 440106: 广东 广州市 天河区; 420199, which no standard names: 湖北 武汉市（420199）.
function division(code) {
  const parts = [nameOf(code.slice(0, 2)), nameOf(code.slice(0, 4)), /00$/.test(code) ? "" : nameOf(code)].filter(Boolean);
  if (!parts.length) return code;
  const known = /0000$/.test(code) || (/00$/.test(code) ? parts.length > 1 || !under(code.slice(0, 2)).length : nameOf(code));
  const digits = window.liangma.language() === "en" ? " (" + code + ")" : "（" + code + "）";
  return parts.join(" ") + (known ? "" : digits);
}

// Loads what the names of these codes need, and never fails: a code without a name is shown by its digits.
function named(codes) {
  const missing = codes.some((code) => code && !/00$/.test(code) && !/^44/.test(code) && placeOf[code] === undefined);
  return missing ? loadDistricts() : Promise.resolve();
}

function loadDistricts() {
  const { load, language } = window.liangma;
  const here = districts.loaded ? Promise.resolve() : load("{districts.js}");
  const inLatin = () => (language() === "en" && !districts.inLatin ? load("{districts-en.js}") : undefined);
  return here.then(inLatin).catch(() => {});
}

// The divisions right under one; "" for the provinces. A province that has no cities has none, but districts.
function under(code) {
  const length = code.length + 2;
  return DIVISIONS.filter((one) => one.length === length && one.slice(0, code.length) === code);
}

function districtsOf(code) {
  return DIVISIONS.concat(districts.codes).filter((one) => one.length === 6 && one.slice(0, code.length) === code);
}

// Counties that no city governs lie under a code that ends with 90, which is no place to live in.
const ofNoCity = (code) => /^..90$/.test(code);

function citiesOf(province) {
  const cities = under(province);
  return cities.length && districtsOf(province + "90").length ? cities.concat(province + "90") : cities;
}

// Fields in which a division is chosen, and a hidden one that has its six digits. `start` is what is chosen at first.
function divisionFields(name, required, start, words) {
  const { made: make, say: tell } = window.liangma;
  const value = make("input", { type: "hidden", name });
  const group = make("fieldset", {}, make("legend", {}, words), value);
  const selects = ["province", "city", "district"].map((level) => {
    const select = make("select", { "aria-label": words + " " + tell(level), "data-for": name });
    group.appendChild(make("label", {}, make("span", {}, tell(level)), select));
    return select;
  });
  const offer = (nth, codes) => {
    const select = selects[nth];
    const before = select.value;
    const key = codes.join() + districts.inLatin;
    if (select.dataset.codes === key) return;
    select.dataset.codes = key;
    select.textContent = "";
    select.appendChild(make("option", { value: "" }, tell("choose")));
    for (const code of codes) select.appendChild(make("option", { value: code }, ofNoCity(code) ? tell("no_city") : nameOf(code)));
    if (codes.indexOf(before) >= 0) select.value = before;
    select.parentNode.hidden = !codes.length;
    select.required = required && nth === 0;
  };
  const settle = () => {
    const chosen = selects.map((select) => select.value).filter(Boolean).pop() || "";
    value.value = chosen && (chosen + "0000").slice(0, 6);
    // A city may stand for its districts; below a province that has cities one of them is meant.
    group.dataset.whole = String(Boolean(chosen) && !ofNoCity(chosen) && (chosen.length > 2 || !under(chosen).length));
  };
  // What lies under what is chosen. What is chosen below stays where it still fits.
  const follow = () => {
    const [province, city] = [selects[0].value, selects[1].value];
    const cities = province ? citiesOf(province) : [];
    offer(1, cities);
    offer(2, selects[1].value ? districtsOf(city) : province && !cities.length ? districtsOf(province) : []);
    settle();
  };
  selects.forEach((select, nth) => select.addEventListener("change", () => {
    follow();
    if (nth < 2 && selects[0].value && selects[0].value !== "44") loadDistricts().then(follow);
  }));
  const reset = () => {
    offer(0, under(""));
    selects[0].value = start || "";
    selects[1].value = "";
    follow();
  };
  reset();
  return { group, value, reset, selects };
}

window.liangma = Object.assign(window.liangma || {}, { divisions: { division, divisionFields, named, learnDistricts, learnDistrictsEn } });
