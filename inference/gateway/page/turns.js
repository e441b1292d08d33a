// Turns of a conversation in the log, and the popover that shows the fact behind a mark.

import { element, t } from "./text.js";

const log = document.getElementById("log");
const popover = document.getElementById("fact");
let opener = null;

/** Add a turn; gives its element and the paragraph of its text. `who`: a name, or none for the word in `word`. */
export function addTurn(role, who, word, text = "") {
  const paragraph = element("p", { className: "text" }, text);
  const name = who ? element("h3", { textContent: who }) : element("h3", { data: { text: word } });
  const turn = element("article", { className: `turn ${role}` }, name, paragraph);
  const atEnd = isAtEnd();
  log.append(turn);
  if (atEnd || role === "user") scrollDown();
  return { turn, paragraph };
}

export const isAtEnd = () => log.scrollHeight - log.scrollTop - log.clientHeight < 80;
export const scrollDown = () => log.scrollTo({ top: log.scrollHeight });

/** The reply's text with its marks as buttons, and what was retrieved for it. */
export function finishTurn({ turn, paragraph }, text, citations, retrieval) {
  const characters = Array.from(text); // places are counted in code points, not in UTF-16
  const pieces = [];
  let place = 0;
  for (const citation of citations) {
    if (citation.start < place) continue;
    const mark = element("button", {
      type: "button", className: "mark", textContent: characters.slice(citation.start, citation.end).join(""),
      ariaHasPopup: "dialog", onclick: () => showFact(mark, citation),
    });
    pieces.push(characters.slice(place, citation.start).join(""), mark);
    place = citation.end;
  }
  pieces.push(characters.slice(place).join(""));
  paragraph.replaceChildren(...(text ? pieces : [element("i", { data: { text: "nothing" } })]));
  const facts = retrieval.map(({ mark, fact, score }) =>
    element("li", {}, `${mark} ${fact} `, element("span", { className: "score", textContent: number(score) })));
  const summary = element("summary", { data: { text: "retrieved", value: retrieval.length } });
  turn.append(element("details", {}, summary, element("ul", {}, ...facts)));
}

const number = (score) => (score === null ? "–" : score.toFixed(3));

function showFact(mark, citation) {
  opener = mark;
  document.getElementById("fact-text").textContent = `${citation.mark} ${citation.fact}`;
  const from = citation.source ? ` · ${citation.source}` : "";
  document.getElementById("fact-score").textContent =
    (citation.score === null ? t("noScore") : t("score", number(citation.score))) + from;
  popover.showPopover();
  const place = mark.getBoundingClientRect();
  const below = place.bottom + 6 + popover.offsetHeight < innerHeight;
  popover.style.top = `${below ? place.bottom + 6 : Math.max(8, place.top - 6 - popover.offsetHeight)}px`;
  popover.style.left = `${Math.max(8, Math.min(place.left, innerWidth - popover.offsetWidth - 8))}px`;
  popover.focus();
}

// Browsers give the focus back in some ways of closing only.
popover.addEventListener("beforetoggle", (event) => {
  if (event.newState === "closed" && popover.contains(document.activeElement)) opener?.focus();
});
document.getElementById("fact-close").onclick = () => popover.hidePopover();
log.addEventListener("scroll", () => popover.hidePopover());
