// Codes from a hardware scanner, which types what it reads and ends with Enter; and from the clipboard.

const TYPED_LEAST = 8;
const TYPED_MOST = 512;

function listenToKeys(read) {
  let keys = "";
  let last = 0;
  document.addEventListener("keydown", (event) => {
    const typing = /^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName);
    if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.timeStamp - last > 500) keys = "";
    last = event.timeStamp;
    if (event.key === "Enter" && keys.length >= TYPED_LEAST) {
      // It would also press whatever button was touched last.
      event.preventDefault();
      event.stopPropagation();
      read(keys);
      keys = "";
    } else if (event.key.length === 1 && keys.length < TYPED_MOST) {
      keys += event.key;
      if (event.key === " " && keys.length > 1) event.preventDefault();
    }
  }, true);
  document.addEventListener("paste", (event) => {
    if (/^(INPUT|TEXTAREA)$/.test(event.target.tagName)) return;
    const pasted = event.clipboardData ? event.clipboardData.getData("text").trim() : "";
    if (pasted && pasted.length <= TYPED_MOST) read(pasted);
  });
}
