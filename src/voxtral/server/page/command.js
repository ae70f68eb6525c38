// The request of the form as a line for a shell.

export function command(order, address, hasKey) {
  const lines = order.clip ? formLines(order, address) : jsonLines(order, address);
  if (hasKey) lines.splice(1, 0, '-H "Authorization: Bearer $VOXTRAL_API_KEY"');
  return [...lines, "-o speech.wav"].join(" \\\n  ");
}

function jsonLines(order, address) {
  const fields = { input: JSON.stringify(order.text) };
  for (const name of ["voice", "language", "normalize"]) if (order[name]) fields[name] = JSON.stringify(order[name]);
  // Numbers as they were typed: a seed may be larger than a number here can be.
  for (const name of ["seed", "speed"]) if (order[name]) fields[name] = order[name];
  fields.response_format = '"wav"';
  const body = Object.entries(fields).map(([name, value]) => `"${name}": ${value}`);
  return [
    `curl ${quoted(address("v1/audio/speech"))}`,
    "-H 'Content-Type: application/json'",
    `-d ${quoted(`{${body.join(", ")}}`)}`,
  ];
}

function formLines(order, address) {
  const lines = [`curl ${quoted(address("synthesize"))}`, `--form-string ${quoted(`text=${order.text}`)}`];
  for (const name of ["language", "seed", "speed", "normalize"]) {
    if (order[name]) lines.push(`--form-string ${quoted(`${name}=${order[name]}`)}`);
  }
  const file = order.clip.name.replace(/["\\]/g, "\\$&");
  return [...lines, `-F ${quoted(`reference=@"${file}"`)}`];
}

// Nothing has a meaning between apostrophes but the apostrophe.
function quoted(text) {
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}
