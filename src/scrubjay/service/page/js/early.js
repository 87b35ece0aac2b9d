// Runs before the first paint: the chosen theme and language, so that nothing flashes. A classic script on purpose.
(function () {
  try {
    var theme = localStorage.getItem("scrubjay.theme");
    if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
    var language = localStorage.getItem("scrubjay.language") || navigator.language || "en";
    document.documentElement.lang = language.toLowerCase().indexOf("zh") === 0 ? "zh-CN" : "en";
  } catch (error) { /* storage is blocked: the system's theme and English */ }
})();
