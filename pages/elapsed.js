// Time that cannot be turned back: whichever of two clocks says that more has passed is believed, since one stands still
// while some phones sleep and the other is set by hand.

function moment() {
  return { steady: performance.now(), wall: Date.now() };
}

function since(then) {
  const now = moment();
  return Math.max(0, now.steady - then.steady, now.wall - then.wall);
}

function twoDigits(number) {
  return number < 10 ? "0" + number : String(number);
}

function clockTime(date) {
  return [date.getHours(), date.getMinutes(), date.getSeconds()].map(twoDigits).join(":");
}

// A time of the service as the clocks of China have it, to the minute.
function inChina(time) {
  return new Date(Date.parse(time) + 8 * 3600000).toISOString().slice(0, 16).replace("T", " ");
}

function dayInChina(time) {
  return inChina(time).slice(0, 10);
}
