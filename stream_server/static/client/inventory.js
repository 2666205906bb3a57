// What the wire says of a product, checked before it is believed.

/** @import {Inventory, WireUpdate} from 'stream-server/stock-stream.js' */

/** @param {unknown} value */
const isText = (value) => typeof value === 'string';

/** @param {unknown} value */
const isCount = (value) => Number.isSafeInteger(value) && Number(value) >= 0;

/** @param {any} value */
const isStock = (value) =>
  [value?.soldQuantity, value?.price].every(isCount) &&
  [value.maxQuantity, value.availableQuantity].every((each) => each === null || isCount(each)) &&
  [value.isAvailable, value.isLowStock].every((each) => typeof each === 'boolean') &&
  [value.status, value.stockMessage].every(isText);

/** @param {any} value */
const isVariant = (value) => isStock(value) && [value.variantId, value.variantValue].every(isText);

/** @param {any} value @returns {value is Inventory} */
export const isInventory = (value) =>
  isStock(value) &&
  isCount(value.version) &&
  [value.productId, value.updatedAt].every(isText) &&
  (value.variants === undefined ||
    (Array.isArray(value.variants) && value.variants.every(isVariant)));

/** @param {any} value @returns {value is WireUpdate} */
export const isUpdate = (value) =>
  isStock(value) &&
  isCount(value.version) &&
  (value.variantId === null || isText(value.variantId)) &&
  isStatus(value);

/** @param {any} value @returns {value is {productId: string, status: string, timestamp: string}} */
export const isStatus = (value) =>
  [value?.productId, value?.status, value?.timestamp].every(isText);

/**
 * The product after an update; undefined if it is of a variant that the product did not have,
 * whose name an update does not say.
 * @param {Inventory} product
 * @param {WireUpdate} update
 * @returns {Inventory | undefined}
 */
export function updated(product, { productId, variantId, timestamp, version, ...stock }) {
  const next = { ...product, version, updatedAt: timestamp };
  if (variantId === null) return { ...next, ...stock };
  if (!product.variants?.some((each) => each.variantId === variantId)) return undefined;
  next.variants = product.variants
    .map((each) => (each.variantId === variantId ? { ...each, ...stock } : each))
    .filter((each) => each.status !== 'draft');
  return next;
}
