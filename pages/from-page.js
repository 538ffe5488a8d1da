// What a part that is loaded later uses of the page it is loaded into.

const {
  part, text, show, element, made, button, load, say, learn, ask, askDesk, tellDesk, whyNot, sayWhyNot,
  clockTime, inChina, dayInChina, keepHere, tailOf, calling, held, family, openSheet, SHEETS,
} = window.liangma;
const { language: languageNow } = window.liangma;
