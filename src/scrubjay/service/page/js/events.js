/** Server-sent events over fetch, because EventSource cannot send the key. */

import { ApiError, call, at, send } from "./api.js";

const PAUSE = 1500; // milliseconds between attempts
const ENDED = new Set(["done", "failed", "cancelled"]);

/**
 * Follow a job until it ends, through lost connections and restarts of the service.
 *
 * @param {string} id
 * @param {(job: object) => void} changed - called with every record of the job.
 * @param {AbortSignal} signal
 * @returns {Promise<object | null>} the last record; null if the reader went elsewhere.
 */
export async function followJob(id, changed, signal) {
  while (!signal.aborted) {
    try {
      for await (const job of events(`${at("jobs", id)}/events`, signal)) changed(job);
      const job = await call(at("jobs", id), { signal });
      changed(job);
      if (ENDED.has(job.state)) return job;
    } catch (error) {
      if (error.name === "AbortError") return null;
      if (error instanceof ApiError && error.status >= 400 && error.status < 500 && error.status !== 429) throw error;
    }
    await new Promise((resolve) => setTimeout(resolve, PAUSE));
  }
  return null;
}

async function* events(path, signal) {
  const answer = await send(path, { signal });
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const blocks = (rest + value.replaceAll("\r", "")).split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      const data = block.split("\n").filter((line) => line.startsWith("data:")).map((line) => line.slice(5).trimStart());
      if (data.length) yield JSON.parse(data.join("\n"));
    }
  }
}
