/** Which generation answers: promotion and rollback, each after a confirmation. */

import { at, call } from "./api.js";
import { announce, toast } from "./announce.js";
import { ask } from "./dialogs.js";
import { h } from "./dom.js";
import { t } from "./i18n.js";
import { refreshStatus } from "./session.js";

/** Let an earlier generation answer again. */
export function askToRollBack(generation, { serving, revision }, done) {
  const content = [h("p", {}, t("rollback.ask", { generation, serving })), h("p", { class: "note" }, t("serving.safe"))];
  const dialog = ask({ title: t("rollback.title"), content, action: t("rollback.action") }, async () => {
    const answer = await call("v1/rollback", { method: "POST", json: { revision, generation } });
    await changed(answer);
  });
  dialog.addEventListener("close", done);
}

/** Let a generation answer; where its gate fails, only with a second decision. */
export function askToPromote(gate, revision, done) {
  const force = gate.passed ? null : h("input", { type: "checkbox", required: true, name: "force" });
  const content = [
    h("p", {}, t("promote.ask", { generation: gate.generation, serving: gate.serving })), h("p", { class: "note" }, t("serving.safe")),
    force ? h("label", { class: "tick" }, force, t("promote.force")) : null,
  ].filter(Boolean);
  const dialog = ask({ title: t("promote.title", { generation: gate.generation }), content, action: t("promote.action"), danger: !gate.passed }, async () => {
    const answer = await call(`${at("generations", gate.generation)}/promote`, { method: "POST", json: { revision, force: force?.checked ?? false } });
    await changed(answer);
  });
  dialog.addEventListener("close", done);
}

async function changed(answer) {
  toast(t("serving.changed", { generation: answer.serving }));
  announce(t("serving.changed", { generation: answer.serving }));
  await refreshStatus();
}
