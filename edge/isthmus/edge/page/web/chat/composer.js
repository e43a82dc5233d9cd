// Where one writes.
import { html, useEffect, useLayoutEffect, useRef, useState } from "../ui/dom.js";
import { useWords } from "../ui/i18n.js";
import { Icon } from "../ui/icons.js";
import { Select } from "../ui/select.js";

const ROUTES = ["auto", "prefer_on_device", "only_on_device", "prefer_in_cloud", "only_in_cloud"];

/**
 * @param {{ id: string | null, running: boolean, onSend: (text: string, route: string) => Promise<boolean>, onStop: () => void }} props
 */
export function Composer({ id, running, onSend, onStop }) {
  const { t } = useWords();
  const [text, setText] = useState("");
  const [route, setRoute] = useState("auto");
  const place = useRef(/** @type {any} */ (null));
  useLayoutEffect(() => grow(place.current), [text]);
  useEffect(() => {
    // A phone's keyboard is not to jump up when a conversation is opened.
    if (matchMedia("(pointer: fine)").matches) place.current.focus();
  }, [id]);

  const send = async () => {
    if (!text.trim() || running) return;
    setText("");
    // What the agent did not take is there to be sent again.
    if (!(await onSend(text.trim(), route))) setText((now) => now || text);
  };
  const onKeyDown = (/** @type {KeyboardEvent} */ event) => {
    // While an input method composes, Enter chooses a word.
    if (event.isComposing || event.keyCode === 229) return;
    if (event.key === "Enter" && !event.shiftKey) {
      event.preventDefault();
      send();
    }
    if (event.key === "Escape" && running) onStop();
  };
  return html`<form class="composer" onSubmit=${(/** @type {Event} */ e) => (e.preventDefault(), send())}>
    <div class="box">
      <textarea
        id="composer"
        ref=${place}
        rows="1"
        value=${text}
        onInput=${(/** @type {any} */ event) => setText(event.target.value)}
        onKeyDown=${onKeyDown}
        placeholder=${t("composer.placeholder")}
        aria-label=${t("composer.label")}
        dir="auto"
      ></textarea>
      <div class="row">
        <${Select}
          label=${t("route.label")}
          value=${route}
          options=${ROUTES.map((name) => ({ value: name, title: t(`route.${name}`) }))}
          onChange=${setRoute}
        />
        <span class="spring"></span>
        ${running
          ? html`<button type="button" class="round" onClick=${onStop} aria-label=${t("stop")} title=${t("stop")}>
              <${Icon} name="stop" size=${20} />
            </button>`
          : html`<button class="round" disabled=${!text.trim()} aria-label=${t("send")} title=${t("send")}>
              <${Icon} name="send" size=${20} />
            </button>`}
      </div>
    </div>
  </form>`;
}

/** As high as its text, up to what the style allows. @param {HTMLTextAreaElement} area */
function grow(area) {
  area.style.height = "auto";
  area.style.height = `${area.scrollHeight}px`;
}
