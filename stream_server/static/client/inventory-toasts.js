import { money, styles } from './element.js';
import { stockStream } from './stock-stream.js';

/** @import {Inventory} from 'stream-server/stock-stream.js' */

const MOST = 3;

/** Notes that float in a corner and go by themselves: of what sold out, came back, costs else. */
export class InventoryToasts extends HTMLElement {
  static styles = styles(`
    :host {
      position: fixed; inset: auto 1rem 1rem auto; z-index: var(--toast-layer, 10);
      display: grid; gap: .5rem; max-width: min(22rem, 100vw - 2rem); pointer-events: none;
    }
    [part~=toast] {
      padding: .75em 1em; border-radius: var(--stock-radius, .4em); pointer-events: auto;
      background: var(--toast-background, #26292e); color: var(--toast-color, #fff);
      box-shadow: 0 2px 12px #0004; animation: fade var(--toast-time, 5s) forwards;
    }
    [part~=toast]:hover { animation-play-state: paused }
    @keyframes fade { 90% { opacity: 1 } to { opacity: 0 } }
  `);

  #store = stockStream();
  /** @type {Map<string, HTMLElement>} */
  #toasts = new Map();

  connectedCallback() {
    if (!this.shadowRoot) {
      this.attachShadow({ mode: 'open' }).adoptedStyleSheets = InventoryToasts.styles;
    }
    this.#store = stockStream(this.closest('[base]')?.getAttribute('base'));
    this.#store.addEventListener('update', this.#update);
    document.addEventListener('inventory-toast', this.#toast);
  }

  disconnectedCallback() {
    this.#store.removeEventListener('update', this.#update);
    document.removeEventListener('inventory-toast', this.#toast);
  }

  #update = (/** @type {any} */ { detail }) => {
    const { before, after } = /** @type {{before?: Inventory, after: Inventory}} */ (detail);
    if (!before) return;
    const differs = (/** @type {keyof Inventory} */ key) => before[key] !== after[key];
    let text = '';
    if (this.hasAttribute('all') && differs('availableQuantity')) text = after.stockMessage;
    if (differs('price')) text = `now ${money(after.price, this)}`;
    if (after.isLowStock && differs('isLowStock')) text = after.stockMessage;
    if (differs('isAvailable')) text = after.isAvailable ? 'back in stock' : 'Sold Out';
    if (text) this.show(`${after.name ?? after.productId}: ${text}`, 'update', after.productId);
  };

  #toast = (/** @type {any} */ { detail: { text, kind } }) => this.show(text, kind);

  /** @param {string} text @param {string} [kind] @param {string} [key] what it replaces */
  show(text, kind = 'default', key = text) {
    const toast = document.createElement('div');
    toast.setAttribute('part', `toast ${kind}`);
    toast.textContent = text;
    toast.onanimationend = () => this.#drop(key, toast);
    this.#toasts.get(key)?.remove();
    this.#toasts.delete(key);
    this.#toasts.set(key, toast);
    this.shadowRoot?.append(toast);
    for (const [oldest, element] of this.#toasts) {
      if (this.#toasts.size > MOST) this.#drop(oldest, element);
    }
  }

  /** @param {string} key @param {HTMLElement} toast */
  #drop(key, toast) {
    toast.remove();
    if (this.#toasts.get(key) === toast) this.#toasts.delete(key);
  }
}
