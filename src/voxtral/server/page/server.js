// Requests to the server, with its API key if it wants one.

const KEY = "voxtral.key"; // in sessionStorage, which ends with the tab

const dialog = document.getElementById("key-dialog");
const input = document.getElementById("key");

// What the server says when it does not do what was asked.
export class Refusal extends Error {
  constructor(message, retryAfter = 0, status = 0) {
    super(message);
    this.retryAfter = retryAfter; // seconds
    this.status = status; // of the response
  }

  static async of(response) {
    const body = await response.json().catch(() => null);
    const message = body?.error?.message ?? `The server answered ${response.status} ${response.statusText}.`;
    return new Refusal(message, Number(response.headers.get("Retry-After")), response.status);
  }
}

// Relative, so that the page also works under a path of a proxy.
export function address(path) {
  return new URL(path, document.baseURI).href;
}

// Ask the server once, and nobody for a key.
export async function ask(path, options = {}) {
  const key = sessionStorage.getItem(KEY);
  const headers = new Headers(options.headers);
  if (key) headers.set("Authorization", `Bearer ${key}`);
  const response = await fetch(address(path), { ...options, headers });
  if (!response.ok) throw await Refusal.of(response);
  return response;
}

// Ask the server, and the person for a key when the server wants one.
export async function request(path, options = {}) {
  for (;;) {
    const key = sessionStorage.getItem(KEY);
    try {
      return await ask(path, options);
    } catch (error) {
      if (error.status !== 401 || !(await askForKey(key))) throw error;
    }
  }
}

function askForKey(refused) {
  sessionStorage.removeItem(KEY);
  document.getElementById("key-why").hidden = !refused;
  input.value = "";
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "use"), { once: true });
  });
}

export function hasKey() {
  return sessionStorage.getItem(KEY) !== null;
}

document.getElementById("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem(KEY, input.value);
  dialog.close("use");
});
document.getElementById("key-cancel").addEventListener("click", () => dialog.close(""));
