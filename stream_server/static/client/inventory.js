// Checks what the server sends about a product before it is used.

/** @import {Inventory, WireUpdate} from 'stream-server/stock-stream.js' */

/** @typedef {Record<string, (value: any) => boolean>} Shape */

const isText = (/** @type {unknown} */ value) => typeof value === 'string';
const isTruth = (/** @type {unknown} */ value) => value === !!value;
const isCount = (/** @type {any} */ value) => Number.isSafeInteger(value) && value >= 0;
const isQuantity = (/** @type {unknown} */ value) => value === null || isCount(value);

/** @param {any} value @param {Shape} shape */
const fits = (value, shape) => Object.keys(shape).every((key) => shape[key](value?.[key]));

const STOCK = {
  maxQuantity: isQuantity,
  soldQuantity: isCount,
  availableQuantity: isQuantity,
  isAvailable: isTruth,
  isLowStock: isTruth,
  price: isCount,
  status: isText,
  stockMessage: isText,
};
const VARIANT = { ...STOCK, variantId: isText, variantValue: isText };
const STATUS = { productId: isText, status: isText, timestamp: isText };

/** @param {any} value @returns {value is Inventory} */
export const isInventory = (value) =>
  fits(value, { ...STOCK, productId: isText, updatedAt: isText, version: isCount }) &&
  (value.variants === undefined ||
    (Array.isArray(value.variants) &&
      value.variants.every((/** @type {unknown} */ each) => fits(each, VARIANT))));

/** @param {any} value @returns {value is {productId: string, status: string, timestamp: string}} */
export const isStatus = (value) => fits(value, STATUS);

/** @param {any} value @returns {value is WireUpdate} */
export const isUpdate = (value) =>
  fits(value, { ...STOCK, ...STATUS, version: isCount }) &&
  (value.variantId === null || isText(value.variantId));

/**
 * The product after an update; undefined if the update is of an unknown variant, because an update
 * does not have the variant's name.
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
