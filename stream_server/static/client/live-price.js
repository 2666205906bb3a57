import { money, StockElement, styles } from './element.js';

/** The price, in the currency of the nearest attribute `currency`. */
export class LivePrice extends StockElement {
  static html = '<span part="price"><slot></slot></span>';
  static styles = styles(`
    :host { font-variant-numeric: tabular-nums }
    :host([updated]) [part~=price] { color: var(--stock-update-color, #2459c4) }
  `);

  /** @type {StockElement['render']} */
  render({ price }) {
    return (this.piece('price').textContent = money(price, this));
  }
}
