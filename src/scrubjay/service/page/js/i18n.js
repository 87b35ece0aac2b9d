/** Texts, numbers and dates in the language of the reader. */

const LANGUAGES = { en: "en", zh: "zh-CN" };
let texts = {};
let language = "en";

/** The language from storage or browser: "en" or "zh". */
export function chosenLanguage() {
  return document.documentElement.lang.startsWith("zh") ? "zh" : "en";
}

/** Load the texts of a language, and remember it. */
export async function setLanguage(name) {
  const answer = await fetch(`page/locales/${name}.json`);
  texts = await answer.json();
  language = name;
  document.documentElement.lang = LANGUAGES[name];
  try {
    localStorage.setItem("scrubjay.language", name);
  } catch { /* storage is blocked: the choice lasts until the page is closed */ }
}

/**
 * The text of a key with values put in. A text may have several forms by the value of `n`, as Intl.PluralRules names
 * them; numbers are written as the language does.
 */
export function t(key, values = {}) {
  const entry = texts[key];
  if (entry === undefined) throw new Error(`no text for ${key}`);
  const form = typeof entry === "string" ? entry : (entry[new Intl.PluralRules(locale()).select(values.n)] ?? entry.other);
  return form.replace(/\{(\w+)\}/g, (_, name) => {
    const value = values[name];
    return typeof value === "number" ? number(value) : String(value ?? "");
  });
}

/** The tag of the language for Intl. */
export function locale() {
  return LANGUAGES[language];
}

export function number(value, digits = 0) {
  return new Intl.NumberFormat(locale(), { maximumFractionDigits: digits, minimumFractionDigits: digits }).format(value);
}

/** A share from 0 to 1 in per cent. */
export function percent(share, digits = 0) {
  const options = { style: "percent", maximumFractionDigits: digits, minimumFractionDigits: digits };
  return new Intl.NumberFormat(locale(), options).format(share);
}

/** A time of the server, ISO 8601 in UTC, in the reader's zone. */
export function dateTime(text) {
  const time = new Date(text);
  if (Number.isNaN(time.getTime())) return "–";
  return new Intl.DateTimeFormat(locale(), { dateStyle: "medium", timeStyle: "short" }).format(time);
}

/** Seconds in the unit that fits. */
export function duration(seconds) {
  const [value, unit] = seconds < 90 ? [seconds, "second"] : seconds < 5400 ? [seconds / 60, "minute"] : [seconds / 3600, "hour"];
  const options = { style: "unit", unit, unitDisplay: "short", maximumFractionDigits: value < 10 ? 1 : 0 };
  return new Intl.NumberFormat(locale(), options).format(value);
}

/** Names joined as the language does. */
export function list(names) {
  return new Intl.ListFormat(locale(), { type: "conjunction" }).format(names);
}

/** Compares names as the language sorts them, numbers by their value. */
export function byName(one, other) {
  return one.localeCompare(other, locale(), { numeric: true });
}
