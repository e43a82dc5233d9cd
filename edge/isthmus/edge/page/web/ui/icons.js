// Line icons, drawn in the colour of the text beside them. They never carry meaning alone.
import { html } from "./dom.js";

const PATHS = {
  chat: "M4 5h16v11H9l-5 4z",
  live: "M3 12h4l3-7 4 14 3-7h4",
  settings: "M4 7h9m5 0h2M4 17h2m5 0h9M15.5 4.5v5M8.5 14.5v5",
  plus: "M12 5v14M5 12h14",
  search: "M10.5 4a6.5 6.5 0 1 0 0 13 6.5 6.5 0 0 0 0-13zM15.5 15.5 20 20",
  menu: "M4 7h16M4 12h16M4 17h16",
  close: "M6 6l12 12M18 6 6 18",
  send: "M12 19V5M6 11l6-6 6 6",
  stop: "M7 7h10v10H7z",
  copy: "M9 9h11v11H9zM5 15H4V4h11v1",
  check: "M5 13l4.5 4.5L19 7",
  edit: "M4 20h4L19 9l-4-4L4 16zM13 7l4 4",
  trash: "M4 7h16M9 7V4h6v3M6 7l1 13h10l1-13M10 11v5M14 11v5",
  again: "M20 11a8 8 0 0 0-14.5-4L3 10M3 4v6h6M4 13a8 8 0 0 0 14.5 4L21 14M21 20v-6h-6",
  up: "M7 11v9H4v-9zM7 11l4-8c1.7 0 2.5 1.2 2.2 2.8L12.7 9H19c1.2 0 2 1 1.8 2.2l-1.2 7c-.2 1-1 1.8-2 1.8H7",
  down: "M17 13V4h3v9zM17 13l-4 8c-1.7 0-2.5-1.2-2.2-2.8l.5-3.2H5c-1.2 0-2-1-1.8-2.2l1.2-7C4.6 4.8 5.4 4 6.4 4H17",
  left: "M14 6l-6 6 6 6",
  right: "M10 6l6 6-6 6",
  below: "M6 9l6 6 6-6",
  device: "M7 3h10v18H7zM11 18h2",
  cloud: "M7 18a4.5 4.5 0 0 1-.6-8.960 6 6 0 0 1 11.5 1.480A3.8 3.8 0 0 1 17.5 18z",
  shield: "M12 3l7 3v5c0 4.5-3 8-7 10-4-2-7-5.5-7-10V6z",
  table: "M4 5h16v14H4zM4 10h16M4 14.5h16M10 5v14",
  warning: "M12 4 2.5 20h19zM12 10v5M12 17.5v.5",
  link: "M10 14a4 4 0 0 0 6 0l3-3a4 4 0 0 0-6-6l-1 1M14 10a4 4 0 0 0-6 0l-3 3a4 4 0 0 0 6 6l1-1",
};

/** @param {{ name: keyof typeof PATHS, size?: number }} props */
export function Icon({ name, size = 18 }) {
  return html`<svg
    class="icon"
    width=${size}
    height=${size}
    viewBox="0 0 24 24"
    fill="none"
    stroke="currentColor"
    stroke-width="1.8"
    stroke-linecap="round"
    stroke-linejoin="round"
    aria-hidden="true"
    focusable="false"
  >
    <path d=${PATHS[name]} />
  </svg>`;
}
