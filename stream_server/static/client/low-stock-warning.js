import { StockElement } from './element.js';

/** Shows that few units are left; hidden while there are more, or none. */
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
