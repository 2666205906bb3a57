// The cart: kept in localStorage, the same in all tabs of the shop.

/**
 * @typedef {object} Line units of a product or, where it has variants, of one of them
 * @property {string} productId
 * @property {string | null} variantId
 * @property {number} quantity
 * @property {string} name as it was when it was added, until there is word of it
 * @property {number | null} [most] of the product in one order
 */

import * as storage from './storage.js';

const KEY = 'shop-cart';
const CHECKOUT = 'shop-checkout';
/** What one order may have without a token: of lines, of units of a line, and in all. */
const { maxLines, maxUnits, maxCartUnits } = document.documentElement.dataset;
const LIMITS = {
  lines: Number(maxLines) || 100,
  units: Number(maxUnits) || 1000,
  cartUnits: Number(maxCartUnits) || 2000,
};

const changes = new EventTarget();

addEventListener('storage', ({ key }) => {
  if (key === KEY || key === null) changes.dispatchEvent(new Event('change'));
});

/** @param {any} line @returns {line is Line} */
const isLine = (line) =>
  typeof line?.productId === 'string' &&
  (line.variantId === null || typeof line.variantId === 'string') &&
  Number.isSafeInteger(line.quantity) &&
  line.quantity > 0 &&
  typeof line.name === 'string';

/** What is in it; nothing that somebody else may have left in the storage. @returns {Line[]} */
export function lines() {
  try {
    const kept = JSON.parse(storage.read('localStorage', KEY) ?? '[]');
    return Array.isArray(kept) ? kept.filter(isLine) : [];
  } catch {
    return [];
  }
}

/** Whether the browser keeps it for the next page, too. @param {Line[]} next */
function keep(next) {
  const isKept = storage.write('localStorage', KEY, JSON.stringify(next));
  changes.dispatchEvent(new Event('change'));
  return isKept;
}

/** Calls the listener whenever the cart has changed, here or in another tab. */
export function watch(/** @type {() => void} */ listener) {
  changes.addEventListener('change', listener);
}

/** @param {Pick<Line, 'productId' | 'variantId'>} one */
const same = (one) => (/** @type {Line} */ other) =>
  one.productId === other.productId && one.variantId === other.variantId;

/** The largest quantity of a line beside the others, and why. @param {Line} line @param {Line[]} all
 * @returns {[number, string]} */
function limitOf(line, all) {
  const count = (/** @type {Line[]} */ some) => some.reduce((sum, { quantity }) => sum + quantity, 0);
  const others = all.filter((each) => !same(line)(each));
  const ofProduct = count(others.filter(({ productId }) => productId === line.productId));
  const ofLine = Math.min(LIMITS.units, (line.most ?? Infinity) - ofProduct);
  const ofCart = LIMITS.cartUnits - count(others);
  return ofCart < ofLine
    ? [ofCart, `One order may have ${LIMITS.cartUnits} units at most in all`]
    : [ofLine, `One order may have ${Math.min(line.most ?? LIMITS.units, LIMITS.units)} at most`];
}

/** The largest quantity that a line of the cart may have. @param {Line} line */
export const mostOf = (line) => Math.max(1, limitOf(line, lines())[0]);

/** Adds to what is there. Throws a RangeError, in words for the shopper, where one order may not have
 * so much, and an Error where the browser keeps nothing. @param {Line} line */
export function add(line) {
  const all = lines();
  const there = all.find(same(line));
  if (!isLine(line)) throw new TypeError('This is no line of a cart');
  const [most, why] = limitOf(line, all);
  if ((there?.quantity ?? 0) + line.quantity > most) throw new RangeError(why);
  if (!there && all.length >= LIMITS.lines) {
    throw new RangeError(`One order may have ${LIMITS.lines} different products at most`);
  }
  const before = lines();
  if (there) there.quantity += line.quantity;
  if (keep(there ? all : [...all, line])) return;
  keep(before);
  throw new Error('This browser keeps no cart');
}

/** Gives a line this quantity, or the largest that it may have, and then says why. None removes it.
 * @param {Pick<Line, 'productId' | 'variantId'>} line @param {number} quantity */
export function setQuantity(line, quantity) {
  const all = lines();
  const there = all.find(same(line));
  let why = '';
  if (there) {
    const [most, reason] = limitOf(there, all);
    if (quantity > most) why = reason;
    there.quantity = Math.min(quantity, Math.max(1, most));
  }
  keep(all.filter((each) => each.quantity > 0));
  return why;
}

export function clear() {
  keep([]);
  storage.remove('localStorage', CHECKOUT);
}

/** Names this browser's checkout, so that asking again replaces its hold and takes no second. */
export function checkoutToken() {
  const token = storage.read('localStorage', CHECKOUT) ?? storage.uniqueName();
  storage.write('localStorage', CHECKOUT, token);
  return token;
}
