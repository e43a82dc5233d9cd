// The thread follows the answer that comes, until someone scrolls up to read.
import { useEffect, useLayoutEffect, useRef, useState } from "../ui/dom.js";

const NEAR_PX = 80;

/** @param {any} content what may have grown @param {string | null} id the conversation */
export function useFollowing(content, id) {
  const place = useRef(/** @type {any} */ (null));
  const following = useRef(true);
  const [away, setAway] = useState(false);

  const toEnd = () => {
    following.current = true;
    setAway(false);
    place.current.scrollTop = place.current.scrollHeight;
  };
  const onScroll = () => {
    if (!place.current) return; // Told late, of a thread that is not shown any more.
    const { scrollHeight, scrollTop, clientHeight } = place.current;
    following.current = scrollHeight - scrollTop - clientHeight < NEAR_PX;
    setAway(!following.current);
  };
  useLayoutEffect(() => {
    // What welcomes is read from its beginning.
    if (following.current) place.current.scrollTop = id ? place.current.scrollHeight : 0;
  }, [content, id]);
  useEffect(() => {
    following.current = true;
    if (id) toEnd();
  }, [id]);
  return { place, onScroll, toEnd, away: away && id !== null };
}
