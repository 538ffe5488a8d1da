// Names of divisions, and fields by which one is chosen: province, then city, then district where they are known.

const placeOf = {};
DIVISIONS.forEach((code, nth) => (placeOf[code] = nth));

function nameOf(code) {
  const nth = placeOf[code];
  return nth === undefined ? "" : DIVISION_NAMES[window.liangma.language()][nth].replace(/_/g, " ");
}

// 440106: 广东 广州市 天河区; 420102: 湖北 武汉市（420102）.
function division(code) {
  const parts = [nameOf(code.slice(0, 2)), nameOf(code.slice(0, 4)), nameOf(code)].filter(Boolean);
  if (!parts.length) return code;
  const whole = /0000$/.test(code) ? 1 : /00$/.test(code) ? 2 : 3;
  // Cities that are provinces have no second name, and districts elsewhere have no third.
  const known = parts.length >= whole || (whole === 2 && parts.length === 1 && /^(11|12|31|50|71|81|82)/.test(code));
  return parts.join(" ") + (known ? "" : "（" + code + "）");
}

// The divisions right under one; "" for the provinces.
function under(code) {
  const length = code.length + 2;
  return DIVISIONS.filter((one) => one.length === length && one.slice(0, code.length) === code);
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
    select.textContent = "";
    select.appendChild(make("option", { value: "" }, tell("choose")));
    for (const code of codes) select.appendChild(make("option", { value: code }, nameOf(code)));
    select.parentNode.hidden = !codes.length;
    select.required = required && nth === 0;
  };
  const settle = () => {
    const chosen = selects.map((select) => select.value).filter(Boolean).pop() || "";
    value.value = chosen && (chosen + "0000").slice(0, 6);
    // A city has its districts, or none here; below a province that has cities one of them is meant.
    group.dataset.whole = String(Boolean(chosen) && (chosen.length > 2 || !under(chosen).length));
  };
  selects.forEach((select, nth) => select.addEventListener("change", () => {
    for (let next = nth + 1; next < 3; next += 1) offer(next, next === nth + 1 && select.value ? under(select.value) : []);
    settle();
  }));
  const reset = () => {
    offer(0, under(""));
    offer(1, []);
    offer(2, []);
    if (start) {
      selects[0].value = start;
      offer(1, under(start));
    }
    settle();
  };
  reset();
  return { group, value, reset, selects };
}

window.liangma = Object.assign(window.liangma || {}, { divisions: { division, divisionFields } });
