import { say, StockElement } from './element.js';

/** Shows the stock: `Sold Out`, `Only 3 remaining!`, `42 available`, `In Stock`. */
export class StockIndicator extends StockElement {
  static html =
    '<span part="badge"><slot></slot></span><span part="update" aria-hidden="true">Live Update</span>' +
    '<span part="stale">Stock info may be outdated</span>';

  /** @type {StockElement['render']} */
  render({ stockMessage, isAvailable, availableQuantity, isLowStock, variantValue }, { name }) {
    const isNumber = stockMessage === `${availableQuantity} available`;
    const message =
      isNumber && this.hasAttribute('long')
        ? `${availableQuantity} ${availableQuantity === 1 ? 'item' : 'items'} available`
        : stockMessage;
    const enough = isLowStock ? 'warning' : 'default';
    const state = isAvailable ? (availableQuantity === null ? 'success' : enough) : 'danger';
    if (this.shown && this.getAttribute('state') !== state) {
      say([name, variantValue, message].filter(Boolean).join(', '));
    }
    this.setAttribute('state', state);
    this.piece('badge', message);
    return message;
  }
}
