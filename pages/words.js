// The language of a page: what was chosen here before, else the first of the device's that we speak.
// The files of words behind this one say for each language the same names: texts, or functions of texts.

const LANGUAGES = ["zh-Hans", "zh-Hant", "en"];
const WORDS = { "zh-Hans": {}, "zh-Hant": {}, en: {} };
let language = spoken();

function learn(words) {
  for (const tag of LANGUAGES) Object.assign(WORDS[tag], words[tag]);
}

function spoken() {
  const kept = keep.get("language");
  if (LANGUAGES.indexOf(kept) >= 0) return kept;
  for (const tag of navigator.languages || [navigator.language || ""]) {
    const lower = tag.toLowerCase();
    if (lower.indexOf("zh") === 0) return /hant|tw|hk|mo/.test(lower) && lower.indexOf("hans") < 0 ? "zh-Hant" : "zh-Hans";
    if (lower.indexOf("en") === 0) return "en";
  }
  return "zh-Hans";
}

function say(name, ...values) {
  const text = WORDS[language][name];
  return typeof text === "function" ? text(...values) : text;
}

// Puts the language's words wherever the page names them, and offers the languages.
function speak(chosen) {
  language = chosen;
  document.documentElement.lang = chosen;
  document.title = say("title");
  for (const part of document.querySelectorAll("[data-say]")) part.textContent = say(part.dataset.say);
  for (const part of document.querySelectorAll("[data-label]")) {
    part.setAttribute("aria-label", say(part.dataset.label));
    if (part.tagName === "INPUT") part.placeholder = say(part.dataset.label);
  }
  for (const part of document.querySelectorAll("[data-language]")) {
    part.setAttribute("aria-pressed", String(part.dataset.language === chosen));
  }
}

function offerLanguages(changed) {
  for (const part of document.querySelectorAll("[data-language]")) {
    part.addEventListener("click", () => {
      keep.set("language", part.dataset.language);
      speak(part.dataset.language);
      changed();
    });
  }
  speak(language);
}
