// Shared by the elements: the store, the product, the style, announcements and the glow of changes.

import { stockStream } from './stock-stream.js';

/** @import {Inventory, Stock, StockStream} from 'stream-server/stock-stream.js' */

const GLOW = 2_000; // ms
const PAUSE = 2_000; // ms between two announcements
const GONE = { availableQuantity: 0, isAvailable: false, isLowStock: false, stockMessage: 'Sold Out' };
const STYLES = `
  :host { display: inline-block; position: relative; font-variant-numeric: tabular-nums }
  :host([hidden]), [part~=message]:empty, [part~=update], [part~=stale] { display: none }
  :host([state]) { --state: var(--stock-default, #5f6368) }
  :host([state=danger]), :host([state=stale]), :host([state=offline]) {
    --state: var(--stock-danger, #c5221f)
  }
  :host([state=warning]), :host([state=polling]), [part~=box] { --state: var(--stock-warning, #b06000) }
  :host([state=success]), :host([state=live]) { --state: var(--stock-success, #137333) }
  [part~=badge], [part~=box], [part~=toast] {
    padding: .2em .6em; border-radius: .4em; color: color-mix(in srgb, var(--state), black 35%);
    background: color-mix(in srgb, var(--state), white 85%)
  }
  [part~=badge] { display: inline-block; white-space: nowrap }
  [part~=update] { position: absolute; left: 100%; top: 0; font-size: .75em; white-space: nowrap }
  [part~=update], :host([updated]) [part~=price] { color: var(--stock-update, #2459c4) }
  :host([updated]) [part~=update], :host([stale]) [part~=stale], [part~=title] { display: block }
  form, label, :host(inventory-toasts) { display: grid; gap: .5em }
  :host(inventory-toasts) { position: fixed; bottom: 1rem; right: 1rem; z-index: 9 }
  [part~=toast] { background: #26292e; color: white }
  [part~=dot] {
    display: inline-block; padding: .3em; margin-right: .4em; border-radius: 50%;
    background: var(--state)
  }
  @media (prefers-reduced-motion: no-preference) {
    [part~=badge] { transition: scale .3s }
    :host([updated]) [part~=badge] { scale: 1.06 }
  }
`;

/** The nearest element's attribute. @param {Element} element @param {string} name */
export const around = (element, name) => element.closest(`[${name}]`)?.getAttribute(name);

/** @type {HTMLElement | undefined} */
let region;
/** @type {Set<string>} */
const unsaid = new Set();

/** Announces a text to screen readers: once, together with other texts, and not too often. */
export function say(/** @type {string} */ text) {
  if (!unsaid.size) {
    setTimeout(() => {
      const all = [...unsaid];
      unsaid.clear();
      if (all.length > 3) all.splice(3, all.length, `${all.length - 3} more changes`);
      if (region) region.textContent = all.join('. ');
    }, PAUSE);
  }
  unsaid.add(text);
  region ??= document.createElement('div');
  region.role = 'status';
  region.style.cssText = 'position:fixed;clip-path:inset(50%)';
  if (!region.isConnected) document.body.append(region);
}

/** @type {CSSStyleSheet} */
let sheet;

/** An element that listens while it is on the page. */
export class StoreElement extends HTMLElement {
  static html = '';

  #end = new AbortController();

  /** @returns {StockStream} */
  get store() {
    return stockStream(around(this, 'base'));
  }

  connectedCallback() {
    this.#end = new AbortController();
    if (!this.shadowRoot) {
      if (!sheet) (sheet = new CSSStyleSheet()).replaceSync(STYLES);
      const root = this.attachShadow({ mode: 'open' });
      root.innerHTML = /** @type {typeof StoreElement} */ (this.constructor).html;
      root.adoptedStyleSheets = [sheet];
    }
    this.connect(this.#end.signal);
  }

  disconnectedCallback() {
    this.#end.abort();
  }

  /** Begins to listen, until the signal. @param {AbortSignal} signal */
  connect(signal) {}

  /** @param {string} part @param {string} [text] that it shows from now on @returns {any} */
  piece(part, text) {
    const found = /** @type {any} */ (this.shadowRoot?.querySelector(`[part~=${part}]`));
    if (text !== undefined) found.textContent = text;
    return found;
  }

  /** @param {string} type @param {object} detail */
  emit(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { bubbles: true, composed: true, detail }));
  }

  /** The form inside the tag, or the one that the element brings. @returns {HTMLFormElement} */
  get form() {
    const form = this.querySelector('form');
    if (!form) this.replaceChildren();
    return form ?? this.piece('form');
  }
}

/**
 * Shows the product that its attribute `product-id` names, or that of the nearest element around it.
 * The content of the tag is shown until the product is known.
 */
export class StockElement extends StoreElement {
  static observedAttributes = ['product-id', 'variant-id', 'base'];

  /** @type {Inventory | undefined} */
  product;
  /** The text that a shopper saw last. */
  /** @type {string} */
  shown = '';
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #glow;

  /** @param {AbortSignal} signal */
  connect(signal) {
    const { productId, store } = this;
    this.shown = '';
    signal.onabort = store.watch(productId, () => this.update());
    document.addEventListener('variant-change', this, { signal });
    for (const target of [this, this.piece('form')]) {
      for (const type of ['submit', 'change']) target?.addEventListener(type, this, { signal });
    }
    this.update();
  }

  attributeChangedCallback() {
    if (!this.isConnected || !this.shadowRoot) return;
    this.disconnectedCallback();
    this.connectedCallback();
  }

  get productId() {
    return around(this, 'product-id') ?? '';
  }

  /** @returns {string | null} */
  get variantId() {
    return this.getAttribute('variant-id');
  }

  update() {
    const { variantId, shown, store } = this;
    const product = store.get(this.productId);
    this.toggleAttribute('stale', store.isStale);
    this.product = product ?? this.product;
    if (!this.product || product === undefined) return;
    const variant = product?.variants?.find((each) => each.variantId === variantId);
    const stock = variantId ? variant : product;
    this.shown = this.render({ ...this.product, ...(stock ?? GONE) }, this.product);
    if (!shown || shown === this.shown) return;
    clearTimeout(this.#glow);
    this.#glow = setTimeout(() => this.removeAttribute('updated'), GLOW);
    this.setAttribute('updated', '');
  }

  /**
   * Shows the stock, and returns the text that a shopper sees.
   * @param {Stock & {variantValue?: string}} stock of the variant, or of the product
   * @param {Inventory} product
   */
  render(stock, product) {
    return '';
  }

  /** @param {any} event */
  handleEvent(event) {
    const { type, detail } = event;
    if (type === 'submit') this.submit(event);
    if (type === 'change') this.choose();
    if (this.hasAttribute('selected-variant') && detail?.productId === this.productId) {
      this.setAttribute('variant-id', detail.variantId);
    }
  }

  /** @param {Event} event of the form */
  submit(event) {}

  /** Called when the choice in the form has changed. */
  choose() {}
}
