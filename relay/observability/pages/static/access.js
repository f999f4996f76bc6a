// Who asks: an administrator's token where there are administrators. It is kept for this tab alone,
// and leaves it as a header, which no other site can send for us.
import { el } from "./dom.js";

const KEPT = "relay-admin-token";
let token = sessionStorage.getItem(KEPT) || "";

export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** fetch with the token; throws Refused for what is no 2xx. */
export async function ask(path, options = {}) {
  const headers = { "x-rtrelay-page": "1", ...options.headers };
  if (token) headers.authorization = `Bearer ${token}`;
  const response = await fetch(path, { cache: "no-store", credentials: "omit", ...options, headers });
  if (response.ok) return response;
  let message = `the relay answered ${response.status}`;
  try {
    message = (await response.json()).error.message;
  } catch {
    // It was no JSON of ours.
  }
  throw new Refused(response.status, message);
}

function forget() {
  token = "";
  sessionStorage.removeItem(KEPT);
}

/** Wait until the relay says what we may do, asking for a token where one is needed. */
export async function enter() {
  const leave = document.getElementById("leave");
  leave.addEventListener("click", () => {
    forget();
    location.reload();
  });
  let fault = "";
  for (;;) {
    let access;
    try {
      access = await (await ask("/dashboard/api/access")).json();
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      if (error.status !== 401 && error.status !== 429) throw error;
      forget();
      fault = error.status === 429 ? error.message : "The relay does not know this token.";
      access = { needs_token: true, role: "" };
    }
    if (!access.needs_token) return access;
    if (access.role) {
      leave.hidden = false;
      return access;
    }
    token = await wanted(fault);
    sessionStorage.setItem(KEPT, token);
  }
}

/** The token went bad while it was in use. */
export function expired() {
  forget();
  location.reload();
}

function wanted(fault) {
  return new Promise((resolve) => {
    const field = el("input", {
      id: "token", type: "password", required: true, autocomplete: "off", spellcheck: "false",
      "aria-describedby": "token-help", "aria-invalid": fault ? "true" : null,
    });
    const form = el(
      "form", {},
      el("h2", { id: "token-title", text: "Who is asking?" }),
      el("p", { id: "token-help", text: "This relay has administrators. Paste an administrator's token (rta_…); it stays in this tab and is gone when the tab is closed." }),
      fault ? el("p", { class: "fault", role: "alert", text: fault }) : null,
      el("label", { for: "token", text: "Administrator's token" }),
      field,
      el("button", { type: "submit", class: "primary", text: "Continue" }),
    );
    const dialog = el("dialog", { "aria-labelledby": "token-title" }, form);
    dialog.addEventListener("cancel", (event) => event.preventDefault());
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const given = field.value.trim();
      if (!given) return;
      dialog.close();
      dialog.remove();
      resolve(given);
    });
    document.body.append(dialog);
    dialog.showModal();
    field.focus();
  });
}
