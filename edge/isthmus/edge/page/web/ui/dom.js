// Preact and htm, from one place.
export {
  html,
  render,
  useCallback,
  useEffect,
  useLayoutEffect,
  useMemo,
  useRef,
  useState,
} from "../lib/htm/standalone.module.js";
