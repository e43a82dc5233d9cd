// Markdown to DOM. A model's answer is not to be trusted: a prompt may have told it to write HTML,
// or an image whose address carries what it has read. So nothing but plain marks gets through, and
// an image is a link that a person may follow, never one that the browser fetches by itself.
import { marked } from "../lib/marked/marked.esm.js";
import DOMPurify from "../lib/dompurify/purify.es.mjs";
import hljs from "../lib/highlightjs-cdn-assets/highlight.min.js";

const TAGS = [
  ..."h1 h2 h3 h4 h5 h6 p br hr ul ol li blockquote pre code em strong del a".split(" "),
  ..."table thead tbody tr th td sup sub span input".split(" "),
];
const ATTRIBUTES = ["href", "title", "align", "start", "class", "type", "checked", "disabled"];
const BREAK = /^<br *\/?>$/i;
const SAFE_ADDRESS = /^(?:https?|mailto):/i;

const purify = DOMPurify(window);
purify.addHook("afterSanitizeAttributes", (/** @type {any} */ node) => {
  if (node.tagName === "A") {
    if (!SAFE_ADDRESS.test(node.getAttribute("href") ?? "")) node.removeAttribute("href");
    node.setAttribute("target", "_blank");
    node.setAttribute("rel", "noopener noreferrer nofollow");
  }
  // Markdown makes boxes of tasks, and nothing else that one could fill in.
  if (node.tagName === "INPUT") {
    if (node.getAttribute("type") !== "checkbox") node.remove();
    else node.setAttribute("disabled", "");
  }
  if (node.hasAttribute?.("class") && !/^(hljs|language)-/.test(node.className)) {
    node.removeAttribute("class");
  }
});

/** The highest heading of an answer is its third level: the page and the message stand above it. */
const BELOW = 2;
let shift = BELOW;

const escape = (/** @type {string} */ text) =>
  text.replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);

marked.use({
  gfm: true,
  breaks: false,
  renderer: {
    heading({ tokens, depth }) {
      const level = Math.min(6, depth + shift);
      return `<h${level}>${/** @type {any} */ (this).parser.parseInline(tokens)}</h${level}>`;
    },
    // HTML in an answer is text, but for the line breaks that a cell of a table cannot do without.
    html: (/** @type {any} */ { text }) => (BREAK.test(text) ? "<br>" : escape(text)),
    image: (/** @type {any} */ { href, text }) =>
      `<a href="${escape(href)}">${escape(text || href)}</a>`,
  },
});

/**
 * The blocks of a text: only the last one changes while it streams.
 * @param {string} text
 * @returns {{ key: string, type: string, raw: string, lang?: string, text: string, tokens: any }[]}
 */
export function blocksOf(text) {
  const tokens = marked.lexer(text);
  const depths = tokens.flatMap((token) => (token.type === "heading" ? [token.depth] : []));
  const up = BELOW + 1 - Math.min(...depths, 7);
  return tokens
    .filter((token) => token.type !== "space" && token.type !== "def")
    .map((token, at) => ({
      key: `${at}.${token.type}`,
      type: token.type,
      raw: token.raw,
      lang: token.lang,
      text: token.text,
      tokens: Object.assign([token], { links: tokens.links, up }),
    }));
}

/** Markup that is safe to show. @param {string} markup @returns {DocumentFragment} */
function clean(markup) {
  return purify.sanitize(markup, {
    ALLOWED_TAGS: TAGS,
    ALLOWED_ATTR: ATTRIBUTES,
    ALLOW_DATA_ATTR: false,
    ALLOW_ARIA_ATTR: false,
    RETURN_DOM_FRAGMENT: true,
  });
}

/** A block as DOM. @param {any} tokens as `blocksOf` gives them */
export function fragmentOf(tokens) {
  shift = tokens.up;
  const fragment = clean(marked.parser(tokens));
  for (const table of fragment.querySelectorAll("table")) {
    // Wide tables scroll by themselves, and a keyboard must reach what scrolls.
    const frame = document.createElement("div");
    frame.className = "scrolls";
    frame.tabIndex = 0;
    table.replaceWith(frame);
    frame.append(table);
  }
  return fragment;
}

/** Code with its parts marked. @param {string} code @param {string} language */
export function codeOf(code, language) {
  const known = language && hljs.getLanguage(language);
  return clean(known ? hljs.highlight(code, { language, ignoreIllegals: true }).value : escape(code));
}
