// The hold of this browser's checkout, shared by all tabs of the shop.

import { link } from './links.js';
import * as storage from './storage.js';

/**
 * @typedef {object} Hold
 * @property {string} token of the reservation
 * @property {string} cart what was held: see `cartKey` of the checkout
 * @property {number} until ms since 1970, by this browser's clock
 * @property {{productId: string, variantId: string | null, quantity: number}[]} lines
 */

const KEY = 'shop-hold';

/** The hold that was stored last. It may have ended: only the server knows. @returns {Hold | undefined} */
export function read() {
  try {
    const hold = JSON.parse(storage.read('localStorage', KEY) ?? '');
    return typeof hold?.token === 'string' && Array.isArray(hold.lines) ? hold : undefined;
  } catch {
    return undefined;
  }
}

/** Stores the hold for all tabs. @param {Hold} hold */
export function keep(hold) {
  storage.write('localStorage', KEY, JSON.stringify(hold));
}

/** Forgets the hold in all tabs. */
export function forget() {
  storage.remove('localStorage', KEY);
}

/** Calls the listener when another tab has stored or forgotten a hold. @param {() => void} listener */
export function watch(listener) {
  addEventListener('storage', ({ key }) => {
    if (key === KEY || key === null) listener();
  });
}

/** The hold, if it has not ended by this browser's clock. @returns {Hold | undefined} */
export function active() {
  const hold = read();
  return hold && hold.until > Date.now() ? hold : undefined;
}

/** Units of a product, or of one of its variants, that this browser holds. Nobody else can buy them, so
 * they are in no number of the shop's.
 * @param {{productId: string, variantId?: string | null}} line without `variantId`: of all variants */
export function unitsOf({ productId, variantId }) {
  let units = 0;
  for (const line of active()?.lines ?? []) {
    const isMeant = variantId === undefined || line.variantId === variantId;
    if (line.productId === productId && isMeant) units += line.quantity;
  }
  return units;
}

/** Whole seconds that a hold has left. @param {Pick<Hold, 'until'>} hold */
export const secondsLeft = ({ until }) => Math.max(0, Math.ceil((until - Date.now()) / 1_000));

/** The time that a hold has left, such as `9:59`. @param {Pick<Hold, 'until'>} hold */
export function timeLeft(hold) {
  const seconds = secondsLeft(hold);
  return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, '0')}`;
}

/** Asks the server about the hold, and forgets it if it has ended. Resolves to whether it was paid. */
export async function verify() {
  const hold = active();
  if (!hold) return false;
  try {
    const answer = await fetch(link(`/api/reservations/${encodeURIComponent(hold.token)}`));
    const status = answer.ok ? (await answer.json()).data.status : answer.status;
    const hasEnded = ['converted', 'expired', 404, 410].includes(status);
    if (hasEnded && read()?.token === hold.token) forget();
    return status === 'converted';
  } catch {
    return false; // the server does not answer; this browser's clock is close
  }
}
