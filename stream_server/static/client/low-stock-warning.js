import { StockElement } from './element.js';

/** Speaks of the last units, and is hidden while there are more, or none. */
export class LowStockWarning extends StockElement {
  static html =
    '<div part="box"><slot><strong part="title"></strong><span part="text">' +
    'This is a limited edition item. Order soon before it sells out.</span></slot></div>';

  /** @type {StockElement['render']} */
  render({ isLowStock, availableQuantity }) {
    const title = `Only ${availableQuantity} ${availableQuantity === 1 ? 'unit' : 'units'} remaining`;
    this.replaceChildren();
    this.hidden = !isLowStock;
    this.piece('title', title);
    return title;
  }
}
