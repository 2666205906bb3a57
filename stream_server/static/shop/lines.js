// Lines of a cart on a page: their names, prices and stock.

/** @import {Line} from './cart.js' */

import { money as moneyAt } from '/client/money.js';
import { stockStream } from '/client/stock-stream.js';
import { pageOf, pictureOf } from './links.js';

/** @typedef {Pick<Line, 'productId' | 'variantId' | 'quantity'> & {name?: string}} Wanted */

const store = stockStream();

/** Makes an element with attributes and content. A string becomes text, never HTML.
 * @param {string} tag
 * @param {Record<string, string | number | boolean | null | undefined>} [attributes]
 * @param {...(Node | string)} content
 */
export function make(tag, attributes = {}, ...content) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === true) element.setAttribute(name, '');
    else if (value !== false && value != null) element.setAttribute(name, String(value));
  }
  element.append(...content);
  return element;
}

/** Formats an amount as the server does. @param {number} amount in the currency's smallest unit */
export const money = (amount) => moneyAt(amount, document.documentElement);

/** @type {(() => void)[]} */
let unfollow = [];

/** Calls `listener` when one of these products changes; ends the previous watch.
 * @param {Wanted[]} lines @param {() => void} listener
 */
export function follow(lines, listener) {
  const before = unfollow;
  const ids = new Set(lines.map(({ productId }) => productId));
  unfollow = [...ids].map((id) => store.watch(id, listener));
  for (const stop of before) stop();
}

/** The current stock of a line: null if there is no such product or variant, undefined if it is not
 * known yet.
 * @param {Wanted} line
 */
export function stockOf({ productId, variantId }) {
  const product = store.get(productId);
  if (!product || variantId === null) return product;
  return product.variants?.find((each) => each.variantId === variantId) ?? null;
}

/** @param {Wanted} line */
export const nameOf = ({ productId, name }) => store.get(productId)?.name ?? name ?? productId;

/** The value of the line's variant; empty without a variant. @param {Wanted} line */
export function variantOf({ productId, variantId }) {
  const variants = store.get(productId)?.variants;
  return variants?.find((each) => each.variantId === variantId)?.variantValue ?? '';
}

/** The sum in the smallest unit of the currency; undefined while a price is unknown. @param {Wanted[]} lines */
export function totalOf(lines) {
  let total = 0;
  for (const line of lines) {
    const price = stockOf(line)?.price;
    if (price === undefined) return undefined;
    total += price * line.quantity;
  }
  return total;
}

/** The picture and the name of a line. `refresh` updates them.
 * @param {Wanted} line
 */
export function shown(line) {
  const image = /** @type {HTMLImageElement} */ (make('img', { alt: '', width: 80, height: 80 }));
  const link = make('a', { href: pageOf(line.productId) });
  const variant = make('span', { class: 'dim' });
  const refresh = () => {
    const finish = variantOf(line);
    const src = pictureOf(line.productId, finish);
    if (image.getAttribute('src') !== src) image.src = src;
    link.textContent = nameOf(line);
    variant.textContent = finish;
  };
  refresh();
  return { image, link, variant, refresh };
}
