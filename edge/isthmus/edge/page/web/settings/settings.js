// Settings: each is applied to the next request as soon as it is chosen.
import { agent, get, request } from "../api.js";
import { removeAll } from "../chat/conversations.js";
import { announce } from "../ui/announce.js";
import { confirm } from "../ui/dialogs.js";
import { html, useEffect, useState } from "../ui/dom.js";
import { errorWords, tOrNull, useWords } from "../ui/i18n.js";
import { Icon } from "../ui/icons.js";
import { LANGUAGES, THEMES, chooseLanguage, chooseTheme, preferences } from "../ui/preferences.js";
import { Choice, Fixed, Money, Switch } from "./controls.js";

/** @param {{ onMenu: () => void }} props */
export function Settings({ onMenu }) {
  const { t } = useWords();
  const [settings, setSettings] = useState(/** @type {any} */ (null));
  const [said, setSaid] = useState({ text: "", bad: false });
  const { returns } = agent.use();
  // That the agent is away stands above every view.
  const refused = (/** @type {any} */ error) =>
    setSaid({ text: error.code === "unreachable" ? "" : errorWords(error), bad: true });
  useEffect(() => {
    get("/settings").then(setSettings, refused);
  }, [returns]);
  const change = async (/** @type {object} */ patch) => {
    try {
      setSettings(await request("PATCH", "/settings", patch));
      setSaid({ text: t("settings.saved"), bad: false });
      announce(t("settings.saved"));
      return true;
    } catch (error) {
      refused(error);
      // What was chosen and did not hold goes back to what does.
      setSettings({ ...settings });
      return false;
    }
  };
  return html`
    <header class="bar">
      <button class="plain menu" onClick=${onMenu} aria-label=${t("menu")}><${Icon} name="menu" size=${20} /></button>
      <h1>${t("tab.settings")}</h1>
      ${said.text && html`<p class=${`said ${said.bad ? "bad" : ""}`} role=${said.bad ? "alert" : undefined}>
        <${Icon} name=${said.bad ? "warning" : "check"} size=${16} />${said.text}
      </p>`}
    </header>
    <div class="page" tabindex="-1">
      <div class="settings">
        ${settings && html`<${OfTheAgent} settings=${settings} change=${change} />`}
        <${OfThePage} />
        <${Data} />
      </div>
    </div>
  `;
}

/** @param {{ settings: any, change: (patch: object) => Promise<boolean> }} props */
function OfTheAgent({ settings, change }) {
  const { t } = useWords();
  const { fixed, privacy, budget } = settings;
  return html`
    <${Section} title=${t("settings.preset")} text=${t("settings.preset_text")} fixed=${fixed.preset}>
      <${Choice}
        name="preset"
        label=${t("settings.preset")}
        value=${settings.preset}
        disabled=${Boolean(fixed.preset)}
        options=${settings.presets.map((/** @type {any} */ one) => ({
          value: one.name,
          title: tOrNull(`preset.${one.name}`) ?? one.name,
          text: tOrNull(`preset.${one.name}_text`) ?? one.summary,
          disabled: one.allowed === false && one.name !== settings.preset,
        }))}
        onChange=${(/** @type {string} */ preset) => change({ preset })}
      />
    <//>
    <${Section} title=${t("settings.budget")} text=${t("settings.budget_text")}>
      <div class="pair">
        ${["day_usd", "month_usd"].map(
          (name) => html`<${Money}
            label=${t(`settings.${name}`)}
            value=${budget[name]}
            fixed=${fixed[`budget.${name}`]}
            onChange=${(/** @type {number | null} */ usd) => change({ budget: { [name]: usd } })}
          />`,
        )}
      </div>
    <//>
    <${Section} title=${t("settings.privacy")} text=${t("settings.privacy_text")} fixed=${fixed["privacy.policy"]}>
      <${Switch}
        label=${t("settings.consent")}
        text=${t("settings.consent_text")}
        value=${privacy.consent}
        fixed=${fixed["privacy.consent"]}
        onChange=${(/** @type {boolean} */ consent) => change({ privacy: { consent } })}
      />
      <${Choice}
        name="policy"
        label=${t("settings.policy")}
        value=${privacy.policy}
        disabled=${Boolean(fixed["privacy.policy"])}
        options=${privacy.policies.map((/** @type {string} */ name) => ({
          value: name,
          title: tOrNull(`policy.${name}`) ?? name,
          text: tOrNull(`policy.${name}_text`) ?? "",
        }))}
        onChange=${(/** @type {string} */ policy) => change({ privacy: { policy } })}
      />
    <//>
  `;
}

function OfThePage() {
  const { t, language } = useWords();
  const { theme } = preferences.use();
  return html`<${Section} title=${t("settings.page")} text=${t("settings.page_text")}>
    <${Choice}
      name="language"
      compact
      label=${t("settings.language")}
      value=${language}
      options=${LANGUAGES.map((value) => ({ value, title: { en: "English", zh: "中文" }[value], lang: value }))}
      onChange=${chooseLanguage}
    />
    <${Choice}
      name="theme"
      compact
      label=${t("settings.theme")}
      value=${theme}
      options=${THEMES.map((value) => ({ value, title: t(`theme.${value}`) }))}
      onChange=${chooseTheme}
    />
  <//>`;
}

function Data() {
  const { t } = useWords();
  const ask = () =>
    confirm({
      title: t("settings.delete_all"),
      text: t("settings.delete_all_text"),
      yes: t("settings.delete_all"),
      onYes: removeAll,
    });
  return html`<${Section} title=${t("settings.data")} text=${t("settings.data_text")}>
    <button class="button danger" onClick=${ask}><${Icon} name="trash" size=${16} />${t("settings.delete_all")}</button>
  <//>`;
}

/** @param {{ title: string, text: string, fixed?: string, children: any }} props */
function Section({ title, text, fixed, children }) {
  return html`<section class="setting">
    <div class="about"><h2>${title}</h2><p>${text}</p><${Fixed} by=${fixed} /></div>
    <div class="control">${children}</div>
  </section>`;
}
