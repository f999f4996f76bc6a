// Before anything is drawn: the theme that was chosen here, else the system's.
"use strict";
(() => {
  const root = document.documentElement;
  const order = ["auto", "dark", "light"];
  let chosen = "auto";
  try {
    chosen = localStorage.getItem("relay-theme") || "auto";
  } catch {
    // No storage: the system's theme.
  }
  if (!order.includes(chosen)) chosen = "auto";
  root.dataset.theme = chosen;
  document.addEventListener("DOMContentLoaded", () => {
    const button = document.getElementById("theme");
    const show = () => {
      root.dataset.theme = chosen;
      button.textContent = `Theme: ${chosen}`;
      document.dispatchEvent(new Event("themechange"));
    };
    button.addEventListener("click", () => {
      chosen = order[(order.indexOf(chosen) + 1) % order.length];
      try {
        localStorage.setItem("relay-theme", chosen);
      } catch {
        // It holds for this page then.
      }
      show();
    });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", show);
    show();
  });
})();
