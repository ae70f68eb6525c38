// What arrives of an utterance: pieces of audio as bytes, and the words whose times are known with them.

// Server-sent events, as /v1/audio/speech writes them.
export async function* readEvents(body) {
  const decoder = new TextDecoder();
  let text = "";
  for await (const { bytes } of readAudio(body)) {
    text += decoder.decode(bytes, { stream: true });
    const events = text.split("\n\n");
    text = events.pop(); // its end has not come yet
    for (const event of events) {
      const line = event.split("\n").find((line) => line.startsWith("data: "));
      const { type, audio, words = [] } = line ? JSON.parse(line.slice("data: ".length)) : {};
      if (type === "speech.audio.delta") yield { bytes: Uint8Array.from(atob(audio), byteOf), words };
    }
  }
}

// Audio alone.
export async function* readAudio(body) {
  const reader = body.getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    yield { bytes: value, words: [] };
  }
}

function byteOf(character) {
  return character.charCodeAt(0);
}
