// An answer, drawn block by block: a block that did not change is left alone.
import { html, useLayoutEffect, useMemo, useRef, useState } from "./dom.js";
import { copy } from "./clipboard.js";
import { useWords } from "./i18n.js";
import { Icon } from "./icons.js";
import { blocksOf, codeOf, fragmentOf } from "./markdown.js";

/** @param {{ text: string }} props */
export function Prose({ text }) {
  const blocks = useMemo(() => blocksOf(text), [text]);
  return html`<div class="prose">
    ${blocks.map(({ key, ...block }) =>
      block.type === "code"
        ? html`<${Code} key=${key} code=${block.text} language=${(block.lang ?? "").split(/\s/)[0]} />`
        : html`<${Block} key=${key} raw=${block.raw} tokens=${block.tokens} />`,
    )}
  </div>`;
}

/** @param {{ raw: string, tokens: any }} props */
function Block({ raw, tokens }) {
  const place = useRef(/** @type {any} */ (null));
  useLayoutEffect(() => place.current.replaceChildren(fragmentOf(tokens)), [raw]);
  return html`<div class="block" dir="auto" ref=${place}></div>`;
}

/** @param {{ code: string, language: string }} props */
function Code({ code, language }) {
  const { t } = useWords();
  const place = useRef(/** @type {any} */ (null));
  useLayoutEffect(() => place.current.replaceChildren(codeOf(code, language)), [code, language]);
  return html`<div class="code">
    <header>
      <span>${language || t("code.plain")}</span>
      <${CopyButton} text=${code} label=${t("code.copy")} shown=${true} />
    </header>
    <pre tabindex="0" role="group" aria-label=${t("code.label", { language })}><code ref=${place}></code></pre>
  </div>`;
}

/** @param {{ text: string, label: string, shown?: boolean }} props `shown`: with its label */
export function CopyButton({ text, label, shown = false }) {
  const { t } = useWords();
  const [copied, setCopied] = useState(false);
  const onClick = async () => {
    await copy(text);
    setCopied(true);
    setTimeout(() => setCopied(false), 1600);
  };
  const said = copied ? t("copied") : label;
  return html`<button
    type="button"
    class="plain"
    onClick=${onClick}
    aria-label=${said}
    title=${shown ? undefined : said}
  >
    <${Icon} name=${copied ? "check" : "copy"} size=${16} />
    ${shown && html`<span>${copied ? t("copied") : t("copy")}</span>`}
  </button>`;
}
