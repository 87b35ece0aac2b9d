/** Modal dialogs: a frame with a title, and a question with a confirmation. */

import { explainError } from "./api.js";
import { add, h, put, uniqueId } from "./dom.js";
import { t } from "./i18n.js";
import { icon } from "./icons.js";

/**
 * Open a dialog; it is removed when it closes, and the focus goes back to where it was.
 *
 * @param {string} title
 * @param {Node[]} content
 * @param {{wide?: boolean, closed?: () => void}} options
 * @returns {HTMLDialogElement}
 */
export function openDialog(title, content, { wide = false, closed } = {}) {
  const id = uniqueId("title");
  const dialog = h("dialog", { class: wide ? "wide" : null, "aria-labelledby": id });
  const close = h("button", { class: "button square", type: "button", "aria-label": t("close"), onclick: () => dialog.close() }, icon("close"));
  add(dialog, h("div", { class: "dialog-head" }, h("h2", { id }, title), close), h("div", { class: "dialog-body" }, content));
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  dialog.addEventListener("close", () => {
    dialog.remove();
    closed?.();
  });
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}

/** Close all dialogs, because the reader goes to another view. */
export function closeDialogs() {
  for (const dialog of document.querySelectorAll("dialog[open]")) dialog.close();
}

/**
 * Ask before something is done, do it, and tell what went wrong without losing what was entered.
 *
 * @param {{title: string, content: Node[], action: string, danger?: boolean}} question
 * @param {() => Promise<void>} act - runs at the confirmation; its errors are shown in the dialog, which stays open.
 */
export function ask({ title, content, action, danger = false }, act) {
  const problem = h("p", { class: "problem", role: "alert" });
  const confirm = h("button", { class: `button ${danger ? "danger" : "primary"}`, type: "submit" }, action);
  const cancel = h("button", { class: "button", type: "button", onclick: () => dialog.close() }, t("cancel"));
  const form = h("form", { class: "stack" }, content, problem, h("div", { class: "dialog-foot" }, cancel, confirm));
  let busy = false;
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (busy) return;
    busy = true;
    confirm.setAttribute("aria-disabled", "true");
    put(problem);
    try {
      await act();
      dialog.close();
    } catch (error) {
      const { title: kind, detail } = explainError(error);
      put(problem, `${kind}. ${detail}`);
    } finally {
      busy = false;
      confirm.removeAttribute("aria-disabled");
    }
  });
  const dialog = openDialog(title, [form]);
  form.querySelector("input, select")?.focus();
  return dialog;
}
