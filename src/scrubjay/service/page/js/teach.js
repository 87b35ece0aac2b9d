/** Teaches a class from a few images, in seconds, in a dialog. */

import { at, call } from "./api.js";
import { ask } from "./dialogs.js";
import { h } from "./dom.js";
import { duration, t } from "./i18n.js";
import { refreshStatus } from "./session.js";
import { toast } from "./announce.js";

/**
 * @param {{files?: () => Promise<File[]>, queries?: string[], shown: Node[], name?: string, taught: (answer: object) => void}} what
 *     `files` are made when the reader confirms; `queries` are content hashes of kept queries; `shown` are their images.
 */
export async function askToTeach({ files = async () => [], queries = [], shown, name = "", taught }) {
  const { classes } = await call("v1/classes").catch(() => ({ classes: [] }));
  const input = h("input", { class: "input", name: "class", value: name, maxlength: "200", required: true, list: "known-classes", autocomplete: "off" });
  const known = h("datalist", { id: "known-classes" }, classes.map((each) => h("option", { value: each.name })));
  const content = [
    h("p", { class: "note" }, t("teach.lead")), h("ul", { class: "thumbs" }, shown.map((each) => h("li", {}, each))),
    h("label", { class: "field" }, h("span", {}, t("teach.name")), input), known,
  ];
  ask({ title: t("teach.title"), content, action: t("teach.action") }, async () => {
    const form = new FormData();
    for (const file of await files()) form.append("images", file, file.name);
    for (const each of queries) form.append("queries", each);
    const answer = await call(`${at("classes", input.value.trim())}/images`, { method: "POST", form });
    const values = { name: answer.name, n: answer.images, generation: answer.generation, seconds: duration(answer.seconds) };
    toast(answer.serving ? t("teach.done", values) : t("teach.notserving", { ...values, reason: answer.gate.join("; ") }));
    await refreshStatus();
    taught(answer);
  });
}
