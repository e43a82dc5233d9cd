// State outside of components: a value, and those who want to know when it changes.
import { useEffect, useState } from "./dom.js";

/**
 * @template T
 * @param {T} initial
 */
export function createStore(initial) {
  let value = initial;
  /** @type {Set<() => void>} */
  const watchers = new Set();

  return {
    get: () => value,
    /** Merge `patch` into the value. @param {Partial<T>} patch */
    set(patch) {
      value = { ...value, ...patch };
      for (const watcher of [...watchers]) watcher();
    },
    /** The value, in a component that is drawn again when it changes. @returns {T} */
    use() {
      const [, drawAgain] = useState({});
      useEffect(() => {
        const watcher = () => drawAgain({});
        watchers.add(watcher);
        watcher(); // It may have changed between drawing and this.
        return () => watchers.delete(watcher);
      }, []);
      return value;
    },
  };
}
