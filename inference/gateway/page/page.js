// The page: which person, which conversation, and the talk itself. Texts from outside are put in as text nodes only.

import { KeyError, ask, askJson, chat, setKey } from "./api.js";
import { deleteCard, editCard, exportCard, importCard, listCards, random } from "./cards.js";
import { element, locale, switchLanguage, t, translate } from "./text.js";
import { addTurn, finishTurn, isAtEnd, scrollDown } from "./turns.js";

const get = (id) => document.getElementById(id);
const wide = matchMedia("(min-width: 48rem)");
let cards = [], talks = [];
let card = null; // of the conversation on screen; none where it was deleted, or nothing is chosen
let talk = null; // the stored conversation on screen: id and facts; none before its first reply
let running = null; // the AbortController of the reply that is coming

const nameOf = (one) => one?.name || one?.id;
const cardOf = (id) => cards.find((one) => one.id === id) ?? null;
const talkPath = (id) => `/v1/conversations/${encodeURIComponent(id)}`;

function notify(text = "", good = false) {
  const atEnd = isAtEnd(); // before the notice takes its room
  get("notice").textContent = text;
  get("notice").className = good ? "good" : "";
  if (atEnd) scrollDown();
}

/** What an event does; should it fail, the page says why. */
const guarded = (action) => async (...values) => {
  notify();
  try {
    await action(...values);
  } catch (error) {
    notify(error.message);
    if (error instanceof KeyError) {
      get("side").open = true;
      get("key").focus();
    }
  }
};

function showCards() {
  const options = cards.map((one) => element("option", { value: one.id, textContent: nameOf(one) }));
  if (!card) options.unshift(element("option", { value: "", textContent: t(talk ? "gone" : "noCard") }));
  get("person").replaceChildren(...options);
  get("person").value = card?.id ?? "";
  const facts = talk?.facts ?? card?.facts ?? [];
  get("facts").replaceChildren(...facts.map((fact) => element("li", { textContent: fact })));
  for (const id of ["edit-card", "export-card", "delete-card"]) get(id).disabled = !card;
}

function showTalks() {
  get("talks").replaceChildren(...talks.map(({ id, persona, turns }) => {
    const label = [nameOf(cardOf(persona)) ?? persona ?? t("persona"), dateOf(id)].join(" · ");
    const name = element("button", { type: "button", className: "talk", onclick: guarded(() => open(id)) }, label,
      element("small", { data: { text: "messages", value: turns } }));
    if (id === talk?.id) name.ariaCurrent = "true";
    const remove = element("button", { type: "button", textContent: "×", ariaLabel: t("deleteTalk", label) });
    remove.onclick = guarded(async () => {
      if (!confirm(t("confirmTalk"))) return;
      await ask(talkPath(id), { method: "DELETE" });
      if (id === talk?.id) begin();
      await load();
      get("new-talk").focus();
    });
    return element("li", {}, name, remove);
  }));
}

/** The page's own ids begin with the time; others are shown as they are. */
function dateOf(id) {
  const time = /^page-(\d+)-/.exec(id);
  const format = { month: "short", day: "numeric", hour: "numeric", minute: "2-digit" };
  return time ? new Date(Number(time[1])).toLocaleString(locale(), format) : id;
}

async function load() {
  cards = await listCards();
  talks = (await askJson("/v1/conversations")).data;
  card = card && cardOf(card.id);
  if (!talk) card ??= cards[0] ?? null;
  showCards();
  showTalks();
}

/** An empty log; the conversation is stored with its first reply. */
function begin() {
  running?.abort();
  talk = null;
  card ??= cards[0] ?? null;
  if (location.hash) history.pushState(null, "", "/");
  showEmpty();
  showCards();
  showTalks();
}

function showEmpty() {
  get("log").replaceChildren(element("p", { className: "hello", data: { text: "hello" } }));
}

async function open(id) {
  const found = await askJson(talkPath(id));
  running?.abort();
  talk = found;
  card = cardOf(found.persona);
  if (location.hash.slice(1) !== id) location.hash = id;
  get("log").replaceChildren();
  for (const { role, content, citations, retrieval } of found.turns) {
    if (role === "user") addTurn(role, "", "you", content);
    else finishTurn(addTurn(role, nameOf(card), "persona"), content, citations, retrieval);
  }
  showCards();
  showTalks();
  scrollDown();
  if (!wide.matches) get("side").open = false;
}

async function send() {
  const field = get("message"), message = field.value.trim();
  if (!message || running) return;
  if (!card && !talk) throw new Error(t("needCard"));
  if (!wide.matches) get("side").open = false;
  const id = talk?.id ?? `page-${Date.now()}-${random(6)}`, facts = talk?.facts ?? card.facts, asked = card;
  // A conversation whose card was deleted goes on with the facts that it has.
  const model = card ? `persona/${card.id}` : "persona-factory";
  field.value = "";
  get("log").querySelector(".hello")?.remove();
  const said = addTurn("user", "", "you", message);
  const reply = addTurn("assistant", nameOf(card), "persona");
  let text = "";
  const mine = (running = new AbortController());
  showRunning();
  try {
    const body = { model, conversation: id, messages: [{ role: "user", content: message }] };
    const last = await chat({ ...body, citations: get("citations").value || null }, mine.signal, (piece) => {
      const atEnd = isAtEnd();
      reply.paragraph.textContent = text += piece;
      if (atEnd) scrollDown();
    });
    finishTurn(reply, text, last.citations, last.retrieval);
    scrollDown();
    if (!talk && card === asked && reply.turn.isConnected) {
      talk = { id, facts };
      location.hash = id;
    }
  } catch (error) {
    for (const { turn } of [said, reply]) turn.classList.add("lost");
    reply.turn.append(element("p", { className: "why", data: { text: "notKept" } }));
    field.value = [message, field.value].filter(Boolean).join("\n");
    scrollDown();
    throw error.name === "AbortError" ? new Error(t("stopped")) : error;
  } finally {
    if (running === mine) running = null;
    showRunning();
  }
  await load();
}

function showRunning() {
  const focused = [get("send"), get("stop")].includes(document.activeElement);
  get("send").hidden = Boolean(running);
  get("stop").hidden = !running;
  get("log").ariaBusy = String(Boolean(running)); // read out once it is whole
  if (focused) get("message").focus();
}

/** Show what the address names: a conversation, or none. */
async function follow() {
  const id = location.hash.slice(1);
  if (id === (talk?.id ?? "")) return;
  if (!id) return begin();
  try {
    await open(id);
  } catch (error) {
    history.replaceState(null, "", "/");
    if (!talk) begin();
    throw error;
  }
}

function speak() {
  document.documentElement.lang = locale() === "zh" ? "zh-Hans" : "en";
  get("language").textContent = locale() === "zh" ? "English" : "中文";
  get("language").lang = locale() === "zh" ? "en" : "zh-Hans";
  translate();
  showCards();
  showTalks();
}

const start = guarded(async () => {
  await load();
  await follow();
});

get("language").onclick = () => {
  switchLanguage();
  speak();
};
get("person").onchange = guarded(() => {
  card = cardOf(get("person").value);
  begin();
});
get("citations").onchange = () => localStorage.setItem("citations", get("citations").value);
get("new-card").onclick = () => editCard(null, guarded(stored));
get("edit-card").onclick = () => editCard(card, guarded(async (made) => {
  card = made;
  await load();
  if (talk) notify(t("saved"), true);
}));
get("import-card").onclick = () => get("card-file").click();
get("card-file").onchange = guarded(async () => {
  const [file] = get("card-file").files;
  get("card-file").value = ""; // so that the same file can be chosen again
  if (!file) return;
  const made = await importCard(file);
  await stored(made);
  notify(t("imported", nameOf(made)), true);
});
get("export-card").onclick = guarded(() => exportCard(card.id));
get("delete-card").onclick = guarded(async () => {
  if (!confirm(t("confirmCard", nameOf(card)))) return;
  await deleteCard(card.id);
  await load();
  get("new-card").focus();
});
get("new-talk").onclick = guarded(() => {
  begin();
  if (!wide.matches) get("side").open = false;
  get("message").focus();
});
get("key-form").onsubmit = async (event) => {
  event.preventDefault();
  setKey(get("key").value.trim());
  get("key").value = "";
  card = null; // another key has cards and conversations of its own
  cards = talks = [];
  begin();
  await start();
};
get("composer").onsubmit = (event) => {
  event.preventDefault();
  guarded(send)();
};
get("message").onkeydown = (event) => {
  // Enter that ends the input of a Chinese word sends nothing; Safari says so by the old keyCode only.
  if (event.key !== "Enter" || event.shiftKey || event.isComposing || event.keyCode === 229) return;
  event.preventDefault();
  guarded(send)();
};
get("stop").onclick = () => running?.abort();
addEventListener("popstate", guarded(follow));
wide.onchange = () => (get("side").open = wide.matches);

/** A new card is the one to talk to. */
async function stored(made) {
  await load();
  card = cardOf(made.id);
  begin();
  get("message").focus();
}

get("side").open = wide.matches;
get("citations").value = localStorage.getItem("citations") ?? "";
speak();
showEmpty();
start();
