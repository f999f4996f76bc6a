// The relay's feed: read, and read again when it breaks.
import { ask, expired, Refused } from "./access.js";
import { readEvents } from "./sse.js";

const SILENT_MS = 6000;
const LONGEST_MS = 10000;

/**
 * @param take called with each event's name and data
 * @param tell called with `live`, `lost` (and seconds until the next try), or `refused` (and why)
 */
export async function follow(take, tell) {
  let wait = 1000;
  for (;;) {
    const stop = new AbortController();
    let watch;
    const heard = () => {
      clearTimeout(watch);
      watch = setTimeout(() => stop.abort(), SILENT_MS);
    };
    let isRefused = false;
    try {
      heard();
      const response = await ask("/dashboard/api/feed", { signal: stop.signal });
      await readEvents(response, (name, data) => {
        heard();
        wait = 1000;
        if (name === "refused") isRefused = true;
        else take(name, data);
        tell("live");
      });
    } catch (error) {
      if (error instanceof Refused && error.status === 401) return expired();
      if (error instanceof Refused && error.status === 403) return tell("refused", error.message);
    } finally {
      clearTimeout(watch);
      stop.abort();
    }
    if (isRefused) return expired();
    for (let left = wait; left > 0; left -= 1000) {
      tell("lost", Math.ceil(left / 1000));
      await new Promise((resolve) => setTimeout(resolve, Math.min(1000, left)));
    }
    wait = Math.min(LONGEST_MS, wait * 2);
  }
}
