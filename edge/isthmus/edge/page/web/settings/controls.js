// The few controls that settings are made with.
import { html, useEffect, useRef } from "../ui/dom.js";
import { useWords } from "../ui/i18n.js";

const MOST_USD = 1e9;

/** @param {{ by?: string }} props who has fixed a setting, if anybody */
export function Fixed({ by }) {
  const { t } = useWords();
  return by ? html`<p class="fixed">${t("settings.fixed", { by })}</p>` : null;
}

/**
 * @param {{ name: string, label: string, value: string, disabled?: boolean, compact?: boolean,
 *   options: { value: string, title: string, text?: string, lang?: string, disabled?: boolean }[],
 *   onChange: (value: any) => void }} props
 */
export function Choice({ name, label, value, disabled, compact, options, onChange }) {
  return html`<fieldset class=${`choice ${compact ? "compact" : ""}`} disabled=${disabled}>
    <legend class=${compact ? "" : "hidden"}>${label}</legend>
    <div class="options">
      ${options.map(
        (one) => html`<label lang=${one.lang}>
          <input
            type="radio"
            name=${name}
            value=${one.value}
            checked=${one.value === value}
            disabled=${one.disabled}
            onChange=${() => onChange(one.value)}
          />
          <span class="option"><b>${one.title}</b>${one.text && html`<span>${one.text}</span>`}</span>
        </label>`,
      )}
    </div>
  </fieldset>`;
}

/** @param {{ label: string, text: string, value: boolean, fixed?: string, onChange: (value: boolean) => void }} props */
export function Switch({ label, text, value, fixed, onChange }) {
  return html`<div class="switch">
    <label>
      <input
        type="checkbox"
        role="switch"
        checked=${value}
        disabled=${Boolean(fixed)}
        onChange=${(/** @type {any} */ event) => onChange(event.target.checked)}
      />
      <span class="option"><b>${label}</b><span>${text}</span></span>
    </label>
    <${Fixed} by=${fixed} />
  </div>`;
}

/**
 * Dollars, or nothing for no limit. What did not hold goes back to what does.
 * @param {{ label: string, value: number | null, fixed?: string, onChange: (usd: number | null) => Promise<boolean> }} props
 */
export function Money({ label, value, fixed, onChange }) {
  const { t } = useWords();
  const place = useRef(/** @type {any} */ (null));
  useEffect(() => {
    place.current.value = value ?? "";
  }, [value]);
  const take = async () => {
    const field = place.current;
    if (!field.checkValidity()) return field.reportValidity();
    const given = field.value === "" ? null : Number(field.value);
    if (given !== value && !(await onChange(given))) field.value = value ?? "";
  };
  return html`<div class="money">
    <label>
      <b>${label}</b>
      <span class="amount">
        <span aria-hidden="true">$</span>
        <input
          ref=${place}
          class="field"
          type="number"
          inputmode="decimal"
          min="0"
          max=${MOST_USD}
          step="any"
          placeholder=${t("settings.no_limit")}
          disabled=${Boolean(fixed)}
          onChange=${take}
        />
      </span>
    </label>
    <${Fixed} by=${fixed} />
  </div>`;
}
