// What the browser keeps for the shop: in its storage, or, where that is full, blocked or missing, in
// this page alone. Nothing here throws.

/** @typedef {'localStorage' | 'sessionStorage'} Kind */

/** @type {Map<string, string>} */
const here = new Map();

/** @param {Kind} kind @param {string} key @returns {string | null} */
export function read(kind, key) {
  try {
    return here.get(kind + key) ?? globalThis[kind].getItem(key);
  } catch {
    return null;
  }
}

/** Whether it is kept beyond this page; else it is kept in it. @param {Kind} kind @param {string} key @param {string} value */
export function write(kind, key, value) {
  try {
    globalThis[kind].setItem(key, value);
    here.delete(kind + key);
    return true;
  } catch {
    here.set(kind + key, value);
    return false;
  }
}

/** @param {Kind} kind @param {string} key */
export function remove(kind, key) {
  here.delete(kind + key);
  try {
    globalThis[kind].removeItem(key);
  } catch {
    // There was nothing to remove.
  }
}

/** A name that nobody else has (RFC 9562, version 4); `randomUUID` is for secure pages only. */
export function uniqueName() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = [...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join('');
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-');
}
