// What the elements share: which product, what it costs, what is said aloud, what glows.

import { stockStream } from './stock-stream.js';

/**
 * @import {Inventory, Stock, StockStream} from 'stream-server/stock-stream.js'
 */

const GLOW = 2_000; // ms
const PAUSE = 2_000; // ms between two things that are said aloud
const GONE = { availableQuantity: 0, isAvailable: false, isLowStock: false, stockMessage: 'Sold Out' };

/** @param {string} text */
export function styles(text) {
  const sheet = new CSSStyleSheet();
  sheet.replaceSync(text);
  return [sheet];
}

/** Cents as money, in the element's language. @param {number} cents @param {Element} element */
export const money = (cents, element) =>
  new Intl.NumberFormat(element.closest('[lang]')?.getAttribute('lang') || undefined, {
    style: 'currency',
    currency: element.closest('[currency]')?.getAttribute('currency') ?? 'USD',
  }).format(cents / 100);

/** @param {Element} element @param {string} text @param {string} [kind] */
export const toast = (element, text, kind) =>
  element.dispatchEvent(
    new CustomEvent('inventory-toast', { bubbles: true, composed: true, detail: { text, kind } }),
  );

/** @type {HTMLElement | undefined} */
let region;
/** @type {Set<string>} */
const unsaid = new Set();

/** Has it read by screen readers: once, together with what else there is, not too often. */
export function say(/** @type {string} */ text) {
  if (!unsaid.size) {
    setTimeout(() => {
      const all = [...unsaid];
      unsaid.clear();
      const rest = all.length > 3 ? `. ${all.length - 3} more changes` : '';
      if (region) region.textContent = all.slice(0, 3).join('. ') + rest;
    }, PAUSE);
  }
  unsaid.add(text);
  region ??= document.createElement('div');
  region.role = 'status';
  region.style.cssText = 'position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%)';
  if (!region.isConnected) document.body.append(region);
}

/** @type {Map<Element, number>} */
const glowing = new Map();

/** Sets `updated` on the element for a while. @param {Element} element */
function glow(element) {
  if (!glowing.size) setTimeout(fade, GLOW);
  glowing.delete(element);
  glowing.set(element, Date.now());
  element.toggleAttribute('updated', true);
}

function fade() {
  for (const [element, since] of glowing) {
    if (Date.now() - since < GLOW) break;
    glowing.delete(element);
    element.toggleAttribute('updated', false);
  }
  if (glowing.size) setTimeout(fade, GLOW / 4);
}

/** @type {WeakSet<StockStream>} */
const heard = new WeakSet();

/**
 * Shows a product: that of its attribute `product-id`, or of the nearest element around it that
 * has one. What is inside the tag stands until there is word of the product.
 */
export class StockElement extends HTMLElement {
  static observedAttributes = ['product-id', 'variant-id', 'base'];
  static html = '';
  /** @type {CSSStyleSheet[]} */
  static styles = [];

  /** @type {StockStream | undefined} */
  store;
  /** @type {Inventory | undefined} */
  product;
  #shown = '';
  #unwatch = () => {};

  connectedCallback() {
    const { html, styles } = /** @type {typeof StockElement} */ (this.constructor);
    if (html && !this.shadowRoot) {
      const root = this.attachShadow({ mode: 'open' });
      root.innerHTML = html;
      root.adoptedStyleSheets = styles;
    }
    document.addEventListener('variant-change', this.#follow);
    const store = (this.store = stockStream(this.closest('[base]')?.getAttribute('base')));
    if (!heard.has(store)) {
      store.addEventListener('statechange', () => {
        if (store.state === 'stale') say('Stock info may be outdated');
      });
      heard.add(store);
    }
    const id = this.productId;
    this.#unwatch = id ? store.watch(id, () => this.update()) : () => {};
    this.update();
  }

  disconnectedCallback() {
    document.removeEventListener('variant-change', this.#follow);
    this.#unwatch();
  }

  attributeChangedCallback() {
    if (!this.isConnected || !this.store) return;
    this.#shown = '';
    this.disconnectedCallback();
    this.connectedCallback();
  }

  get productId() {
    return this.closest('[product-id]')?.getAttribute('product-id') ?? '';
  }

  get variantId() {
    return this.getAttribute('variant-id');
  }

  /** @param {string} name @returns {any} */
  piece(name) {
    return this.shadowRoot?.querySelector(`[part~=${name}]`);
  }

  update() {
    const product = this.store?.get(this.productId);
    this.toggleAttribute('stale', this.store?.isStale);
    if (product) this.product = product;
    if (!this.product || product === undefined) return;
    const { variants } = this.product;
    const stock =
      product && this.variantId
        ? variants?.find((each) => each.variantId === this.variantId)
        : product;
    const before = this.#shown;
    this.#shown = this.render({ ...this.product, ...(stock ?? GONE) }, this.product);
    if (before && before !== this.#shown) glow(this);
  }

  /**
   * Shows it, and returns what a shopper sees.
   * @param {Stock & {variantValue?: string}} stock of the variant, or of the product
   * @param {Inventory} product
   * @returns {string}
   */
  render(stock, product) {
    return stock.stockMessage + product.version;
  }

  #follow = (/** @type {any} */ { detail }) => {
    if (this.hasAttribute('selected-variant') && detail.productId === this.productId) {
      this.setAttribute('variant-id', detail.variantId);
    }
  };
}
