// Small things that all parts of the page use.

export const $ = (id) => document.getElementById(id);

// Only when it changes, so that a screen reader says it once.
export function setText(id, text) {
  if ($(id).textContent !== text) $(id).textContent = text;
}

export function showError(message) {
  $("error").textContent = message;
  $("error").hidden = false;
}

export function clearError() {
  $("error").hidden = true;
}

// An element with properties, attributes (those with a hyphen) and children.
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.includes("-")) element.setAttribute(name, value);
    else element[name] = value;
  }
  element.append(...children);
  return element;
}

export function languageName(code) {
  try {
    return code ? new Intl.DisplayNames(["en"], { type: "language" }).of(code) : "Other";
  } catch {
    return code; // no code of a language
  }
}

export function seconds(value) {
  return `${value.toFixed(1)} s`;
}

export function clock(value) {
  const whole = Math.floor(value);
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
}

// Let the browser write a file.
export function save(blob, name) {
  const href = URL.createObjectURL(blob);
  make("a", { href, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(href), 60_000); // once it has surely begun
}
