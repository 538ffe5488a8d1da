// Time that cannot be turned back: whichever of two clocks says that more has passed is believed, since one stands still
// while some phones sleep and the other is set by hand. Times of the day are those of China, whatever zone a device is in.

const CHINA = 8 * 3600000;

function moment() {
  return { steady: performance.now(), wall: Date.now() };
}

function since(then) {
  const now = moment();
  return Math.max(0, now.steady - then.steady, now.wall - then.wall);
}

function iso(time) {
  return new Date(new Date(time).getTime() + CHINA).toISOString();
}

// 10:33:31 of a date or of a time as the service writes it.
function clockTime(time) {
  return iso(time).slice(11, 19);
}

// A time of the service to the minute.
function inChina(time) {
  return iso(time).slice(0, 16).replace("T", " ");
}

function dayInChina(time) {
  return iso(time).slice(0, 10);
}

// Whether the device itself shows another time of the day.
function isElsewhere() {
  return new Date().getTimezoneOffset() !== -480;
}
