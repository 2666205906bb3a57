import { StoreElement } from './element.js';
import { money } from './money.js';

/** @import {Inventory} from 'stream-server/stock-stream.js' */

const MAX_TOASTS = 3;

/** Shows a message for a few seconds when something sells out, comes back or changes its price. */
export class InventoryToasts extends StoreElement {
  /** @type {Map<string, HTMLElement>} */
  #toasts = new Map();

  /** @param {AbortSignal} signal */
  connect(signal) {
    this.store.addEventListener('update', (event) => this.#update(event), { signal });
    document.addEventListener(
      'inventory-toast',
      (/** @type {any} */ { detail: { text, kind } }) => this.show(text, kind),
      { signal },
    );
  }

  /** @param {any} event */
  #update({ detail }) {
    const { before, after } = /** @type {{before?: Inventory, after: Inventory}} */ (detail);
    if (!before) return;
    const differs = (/** @type {keyof Inventory} */ key) => before[key] !== after[key];
    let text = '';
    if (this.hasAttribute('all') && differs('availableQuantity')) text = after.stockMessage;
    if (differs('price')) text = `now ${money(after.price, this.#elementOf(after.productId))}`;
    if (after.isLowStock && differs('isLowStock')) text = after.stockMessage;
    if (differs('isAvailable')) text = after.isAvailable ? 'back in stock' : 'Sold Out';
    if (text) this.show(`${after.name ?? after.productId}: ${text}`, 'update', after.productId);
  }

  /** Where the page shows the product's price: in which currency and language. @param {string} id */
  #elementOf(id) {
    const shown = `[product-id=${JSON.stringify(id)}]`;
    const price = document.querySelector(`live-price${shown}, ${shown} live-price`);
    return price ?? document.querySelector(shown) ?? this;
  }

  /** @param {string} text @param {string} [kind] @param {string} [key] of what it replaces */
  show(text, kind, key = text) {
    const toast = document.createElement('div');
    toast.setAttribute('part', `toast ${kind}`);
    toast.textContent = text;
    this.#toasts.get(key)?.remove();
    this.#toasts.delete(key);
    this.#toasts.set(key, toast);
    this.shadowRoot?.append(toast);
    const fading = toast.animate({ opacity: [1, 1, 0] }, Number(this.getAttribute('time') ?? 5_000));
    fading.onfinish = () => toast.remove();
    toast.onpointerenter = () => fading.pause();
    toast.onpointerleave = () => fading.play();
    for (const [oldest, element] of this.#toasts) {
      if (element.isConnected && this.#toasts.size <= MAX_TOASTS) return;
      element.remove();
      this.#toasts.delete(oldest);
    }
  }
}
