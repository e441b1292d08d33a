// The page's words in English and Chinese. Elements name theirs in data-text, data-label or data-placeholder.

const WORDS = {
  en: {
    menu: "Persons, conversations, settings", person: "Person", facts: "Facts of this conversation",
    newCard: "New", edit: "Edit", import: "Import", export: "Export", delete: "Delete",
    conversations: "Conversations", newConversation: "New conversation", settings: "Settings",
    citations: "Marks in replies", citationsDefault: "as the gateway is set", citationsModel: "as the model sets them", citationsVerified: "verified, sentence by sentence",
    key: "API key, if the gateway asks for one", use: "Use", conversation: "Conversation",
    message: "Message", messageHint: "Message. Enter sends, Shift+Enter makes a line", send: "Send", stop: "Stop",
    name: "Name", factsOneALine: "Facts, one a line", factsHint: "I drive a night bus in Leeds.\nI play the banjo after dinner.",
    save: "Save", cancel: "Cancel", close: "Close", fact: "Fact", newCardTitle: "New card", editCardTitle: "Edit card",
    you: "You", persona: "Persona", noCard: "no card yet", gone: "card deleted", nothing: "(nothing was said)",
    hello: "Choose a person or make one, and say something. The marks in a reply show the facts it rests on.",
    score: "retrieved with score {0}", noScore: "no score: it was not retrieved for this message",
    retrieved: "Facts retrieved: {0}", messages: "{0} messages", deleteTalk: "Delete the conversation {0}",
    confirmCard: "Delete the card of {0}?", confirmTalk: "Delete this conversation?",
    saved: "Saved. Conversations that have begun keep the facts they began with.",
    imported: "{0} was imported.", needCard: "Make a card first, or import one.", needFacts: "Write at least one fact.",
    noCardFile: "{0} is no character card V2 in JSON.", needKey: "This gateway asks for an API key; enter it under Settings.",
    wrongKey: "The gateway does not know this API key; enter another under Settings.",
    unreachable: "The gateway cannot be reached; try again in a moment.",
    brokenOff: "The reply broke off.", failed: "The gateway answered with status {0}.",
    stopped: "Stopped.", notKept: "This turn was not kept; the message is back below.",
  },
  zh: {
    menu: "人物、对话、设置", person: "人物", facts: "本次对话的事实",
    newCard: "新建", edit: "编辑", import: "导入", export: "导出", delete: "删除",
    conversations: "对话", newConversation: "新对话", settings: "设置",
    citations: "回复中的标记", citationsDefault: "按网关设置", citationsModel: "由模型标注", citationsVerified: "逐句核实",
    key: "API 密钥（网关要求时填写）", use: "使用", conversation: "对话",
    message: "消息", messageHint: "消息。Enter 发送，Shift+Enter 换行", send: "发送", stop: "停止",
    name: "名字", factsOneALine: "事实，每行一条", factsHint: "我在利兹开夜班公交车。\n我晚饭后弹班卓琴。",
    save: "保存", cancel: "取消", close: "关闭", fact: "事实", newCardTitle: "新建卡片", editCardTitle: "编辑卡片",
    you: "你", persona: "人物", noCard: "还没有卡片", gone: "卡片已删除", nothing: "（没有回复内容）",
    hello: "选择或新建一个人物，然后说点什么。回复中的标记指出它所依据的事实。",
    score: "检索得分 {0}", noScore: "无得分：并非为这条消息检索到",
    retrieved: "检索到的事实：{0}", messages: "{0} 条消息", deleteTalk: "删除对话 {0}",
    confirmCard: "删除 {0} 的卡片？", confirmTalk: "删除这个对话？",
    saved: "已保存。已经开始的对话仍使用开始时的事实。",
    imported: "已导入 {0}。", needCard: "请先新建或导入一张卡片。", needFacts: "请至少写一条事实。",
    noCardFile: "{0} 不是 JSON 格式的 V2 角色卡。", needKey: "此网关需要 API 密钥，请在“设置”中填写。",
    wrongKey: "网关不认识这个 API 密钥，请在“设置”中换一个。",
    unreachable: "无法连接网关，请稍后再试。",
    brokenOff: "回复中断了。", failed: "网关返回状态 {0}。",
    stopped: "已停止。", notKept: "这一轮没有保存，消息已放回下方输入框。",
  },
};

let language = localStorage.getItem("language") ?? (navigator.language.startsWith("zh") ? "zh" : "en");

export const locale = () => language;

export function t(word, ...values) {
  return WORDS[language][word].replace(/\{(\d)\}/g, (_, n) => values[n]);
}

/** Put the words into all elements of `root` that name them; data-value fills the {0} of data-text. */
export function translate(root = document) {
  for (const one of root.querySelectorAll("[data-text]")) one.textContent = t(one.dataset.text, one.dataset.value);
  for (const one of root.querySelectorAll("[data-label]")) one.setAttribute("aria-label", t(one.dataset.label));
  for (const one of root.querySelectorAll("[data-placeholder]")) one.placeholder = t(one.dataset.placeholder);
}

export function switchLanguage() {
  language = language === "en" ? "zh" : "en";
  localStorage.setItem("language", language);
}

/** An element with properties, data and children; strings become text nodes, never markup. */
export function element(tag, { data = {}, ...properties } = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  Object.assign(made.dataset, data);
  if (data.text) made.textContent = t(data.text, data.value);
  made.append(...children);
  return made;
}
