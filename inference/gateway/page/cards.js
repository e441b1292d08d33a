// Cards: the form to make and edit one, import and export. The page's state stays in page.js.

import { ask, askJson } from "./api.js";
import { t } from "./text.js";

const get = (id) => document.getElementById(id);
const dialog = get("card");
const path = (id) => `/v1/personas/${encodeURIComponent(id)}`;
let saving = null;

export const listCards = async () => (await askJson("/v1/personas")).data;
export const deleteCard = (id) => ask(path(id), { method: "DELETE" });

export const random = (length) =>
  Array.from(crypto.getRandomValues(new Uint8Array(length)), (byte) => (byte % 36).toString(36)).join("");

/** An id from a name. One that holds letters an id cannot have, or whose id is taken, gets a random end. */
async function freshId(name) {
  const latin = name.normalize("NFKD").replace(/\p{M}/gu, "");
  const id = latin.replace(/[^A-Za-z0-9_.-]+/g, "-").replace(/^[^A-Za-z0-9]+|-+$/g, "").slice(0, 50).toLowerCase();
  const taken = (await listCards()).some((card) => card.id === id);
  return id && !taken && !/[^\x00-\x7f]/.test(latin) ? id : `${id || "card"}-${random(6)}`;
}

/** Show the form for `card`, or for a new one; `done` is called with the card that was stored. */
export function editCard(card, done) {
  get("card-title").textContent = t(card ? "editCardTitle" : "newCardTitle");
  get("card-name").value = card?.name || card?.id || "";
  get("card-facts").value = card?.facts.join("\n") ?? "";
  get("card-notice").textContent = "";
  saving = async (name, facts) => {
    if (!card) {
      done(await askJson(path(await freshId(name)), { method: "PUT", body: { name, facts } }));
      return;
    }
    // By way of the character card, so that what an imported one says beside its facts is kept.
    const { spec, data } = await askJson(`${path(card.id)}?format=chara_card_v2`);
    const extensions = { ...data.extensions, persona_factory: { facts } };
    const body = { spec, data: { ...data, name, description: facts.join("\n"), extensions } };
    done(await askJson(path(card.id), { method: "PUT", body }));
  };
  dialog.showModal();
}

get("card-form").onsubmit = async (event) => {
  event.preventDefault();
  const facts = get("card-facts").value.split("\n").map((line) => line.trim()).filter(Boolean);
  get("card-save").disabled = true; // a second click would make a second card
  try {
    if (!facts.length) throw new Error(t("needFacts"));
    await saving(get("card-name").value.trim(), facts);
    dialog.close();
  } catch (error) {
    get("card-notice").textContent = error.message;
  } finally {
    get("card-save").disabled = false;
  }
};
get("card-cancel").onclick = () => dialog.close();

/** Store the character card V2 in `file`; gives the stored card. */
export async function importCard(file) {
  let card = null;
  try {
    card = JSON.parse(await file.text());
  } catch { /* said below */ }
  if (card?.spec !== "chara_card_v2" || typeof card.data?.name !== "string") throw new Error(t("noCardFile", file.name));
  return askJson(path(await freshId(card.data.name)), { method: "PUT", body: { spec: card.spec, data: card.data } });
}

/** Have the browser save the card as a character card V2. */
export async function exportCard(id) {
  const card = await askJson(`${path(id)}?format=chara_card_v2`);
  const url = URL.createObjectURL(new Blob([JSON.stringify(card, null, 2)], { type: "application/json" }));
  const link = document.createElement("a");
  Object.assign(link, { href: url, download: `${id}.json` }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}
