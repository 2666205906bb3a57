import { StockElement } from './element.js';
import { money } from './money.js';

/** The price, in the currency of the nearest attribute `currency`. */
export class LivePrice extends StockElement {
  static html = '<span part="price"><slot></slot></span>';

  /** @type {StockElement['render']} */
  render({ price }) {
    const text = money(price, this);
    this.piece('price', text);
    return text;
  }
}
