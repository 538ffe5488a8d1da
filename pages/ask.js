// Asks the service. Out: { answer }, { refusal } with the code, the sentence and how long to stay away (ms), or
// { silence: true } where no answer of the service came. Never throws.

const SILENCE_AFTER = 8000;

// `once` is the caller's own word for what is filed: said again, it is filed once.
function ask(path, { method = "GET", credential, body, type, once, wait = SILENCE_AFTER } = {}) {
  const headers = { "Accept-Language": language };
  if (credential) headers.Authorization = "Bearer " + credential;
  if (type) headers["Content-Type"] = type;
  if (once) headers["Idempotency-Key"] = once;
  const cut = typeof AbortController === "function" ? new AbortController() : null;
  const asked = fetch(path, {
    method, headers, body, cache: "no-store", credentials: "omit", signal: cut ? cut.signal : undefined,
  });
  let timer;
  const silence = new Promise((resolve) => {
    timer = setTimeout(() => {
      resolve({ silence: true });
      if (cut) cut.abort();
    }, wait);
  });
  const heard = asked.then(understand).catch(() => ({ silence: true }));
  return Promise.race([heard, silence]).then((outcome) => {
    clearTimeout(timer);
    return outcome;
  });
}

function understand(response) {
  if (response.ok) return response.json().then((answer) => ({ answer }));
  return response
    .json()
    .catch(() => ({}))
    .then((problem) => {
      const seconds = Number(response.headers.get("Retry-After"));
      return {
        refusal: {
          status: response.status,
          code: problem.code || "",
          title: problem.title || "",
          wait: problem.retry_after_ms || (seconds > 0 ? seconds * 1000 : null),
        },
      };
    });
}
