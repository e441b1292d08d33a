// The gateway's API: every failure is an Error whose message is one sentence for people.

import { t } from "./text.js";

const key = () => sessionStorage.getItem("key") ?? "";
export const setKey = (value) => sessionStorage.setItem("key", value);

export class KeyError extends Error {}

/** The response of a request that went well; `body` is sent as JSON. */
export async function ask(path, { method = "GET", body, signal } = {}) {
  const headers = { "Content-Type": "application/json" };
  // Other characters cannot stand in a header; the gateway's keys have none.
  if (/^[\x21-\x7e]+$/.test(key())) headers.Authorization = `Bearer ${key()}`;
  let response;
  try {
    response = await fetch(path, { method, headers, signal, body: body && JSON.stringify(body) });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error(t("unreachable"));
  }
  if (response.ok) return response;
  if (response.status === 401) throw new KeyError(t(key() ? "wrongKey" : "needKey"));
  const said = await response.json().catch(() => null);
  throw new Error(said?.error?.message ?? t("failed", response.status));
}

export const askJson = async (path, options) => (await ask(path, options)).json();

/** Stream a chat completion: `onText` gets each piece; gives the last chunk, which has citations and retrieval. */
export async function chat(body, signal, onText) {
  const response = await ask("/v1/chat/completions", { method: "POST", body: { ...body, stream: true }, signal });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let held = "", last = null;
  for (;;) {
    const { done, value } = await reader.read().catch((error) => {
      throw error.name === "AbortError" ? error : new Error(t("brokenOff"));
    });
    if (done) throw new Error(t("brokenOff")); // a whole answer ends with [DONE]
    const lines = (held + value).split("\n");
    held = lines.pop();
    for (const line of lines) {
      if (!line.startsWith("data:")) continue;
      const data = line.slice(5).trim();
      if (data === "[DONE]") return last;
      const chunk = JSON.parse(data);
      if (chunk.error) throw new Error(chunk.error.message);
      onText(chunk.choices[0]?.delta.content ?? "");
      if (chunk.citations) last = chunk;
    }
  }
}
