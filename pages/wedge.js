// Codes from a hardware scanner, which types what it reads and ends with Enter, with Tab or with nothing; and from the clipboard.

const TYPED_LEAST = 8;
const TYPED_MOST = 4096;
// Keys further apart belong to different codes (ms).
const TYPED_APART = 500;
// A code that ends with nothing has ended after this silence, if it was typed faster than hands type (ms, ms a key).
const TYPED_SILENCE = 300;
const TYPED_FAST = 60;

// What is typed outside of fields goes to `read`; what is typed into `field` by a machine is submitted by `submit`.
function listenToKeys(read, field, submit) {
  let burst = null; // { keys, count, first, last, inField }
  let timer = 0;
  const fast = () => burst.count > 1 && (burst.last - burst.first) / (burst.count - 1) < TYPED_FAST;
  const ends = () => {
    clearTimeout(timer);
    const ended = burst;
    burst = null;
    if (ended.inField) submit();
    else read(ended.keys.normalize("NFKC"));
  };
  document.addEventListener("keydown", (event) => {
    const inField = event.target === field;
    const typing = /^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName);
    if (typing && !inField || event.ctrlKey || event.metaKey || event.altKey) return;
    if (burst && (burst.inField !== inField || event.timeStamp - burst.last > TYPED_APART)) burst = null;
    clearTimeout(timer);
    if (event.key === "Enter" || event.key === "Tab") {
      // In the field Enter submits by itself, and Tab leaves it for whoever types by hand.
      if (burst && burst.count >= TYPED_LEAST && (!inField || event.key === "Tab" && fast())) {
        // It would also press whatever button was touched last, or move to the next.
        event.preventDefault();
        event.stopPropagation();
        ends();
      } else {
        burst = null;
      }
    } else if (event.key.length === 1) {
      if (!burst) burst = { keys: "", count: 0, first: event.timeStamp, last: 0, inField };
      burst.last = event.timeStamp;
      if (burst.count < TYPED_MOST) {
        burst.count += 1;
        if (!inField) burst.keys += event.key;
      }
      if (event.key === " " && burst.count > 1 && !inField) event.preventDefault();
      if (burst.count >= TYPED_LEAST && fast()) timer = setTimeout(ends, TYPED_SILENCE);
    }
  }, true);
  document.addEventListener("paste", (event) => {
    if (/^(INPUT|TEXTAREA)$/.test(event.target.tagName)) return;
    const pasted = event.clipboardData ? event.clipboardData.getData("text").trim() : "";
    if (pasted && pasted.length <= TYPED_MOST) read(pasted);
  });
}
