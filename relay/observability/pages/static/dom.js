// Elements without markup: every text is a text node, so that no name can become anything else.

/** @param {Record<string, unknown>} properties `class`, `text`, `title`, `data`, `on`, else attributes */
export function el(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "class") node.className = value;
    else if (name === "text") node.textContent = value;
    else if (name === "data") Object.assign(node.dataset, value);
    else if (name === "on") for (const [kind, told] of Object.entries(value)) node.addEventListener(kind, told);
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

/** A name of configuration or a client: whatever its script, it stays where it is. */
export const name = (text, kind = "name") => el("bdi", { class: kind, text });

/** Set a text only when it is another one: what did not change is not read aloud again. */
export function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Set an attribute, or take it away (null), only when that changes something. */
export function mark(node, attribute, value) {
  if (value === null) {
    if (node.hasAttribute(attribute)) node.removeAttribute(attribute);
  } else if (node.getAttribute(attribute) !== String(value)) node.setAttribute(attribute, value);
}

/**
 * Make the children of `parent` one for each item, in their order. What is there stays what it is,
 * with its focus; `make(item)` gives `{node, update}`.
 */
export function keyed(parent, items, keyOf, make) {
  const held = (parent.heldParts ??= new Map());
  const wanted = new Set();
  let at = parent.firstElementChild;
  for (const item of items) {
    const key = keyOf(item);
    if (wanted.has(key)) continue;
    wanted.add(key);
    let part = held.get(key);
    if (!part) {
      part = make(item);
      held.set(key, part);
    }
    part.update(item);
    if (part.node === at) at = at.nextElementSibling;
    else parent.insertBefore(part.node, at);
  }
  for (const [key, part] of held) {
    if (!wanted.has(key)) {
      part.close?.();
      part.node.remove();
      held.delete(key);
    }
  }
}

/** One sentence in place of what is not there. */
export function empty(parent, text) {
  keyed(parent, [text], (one) => one, (one) => ({ node: el("p", { class: "empty", text: one }), update() {} }));
}
