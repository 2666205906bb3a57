import { StockElement } from './element.js';

/** Shows `Sold Out`; otherwise the content with slot="available", or nothing. */
export class SoldOutBadge extends StockElement {
  static html = '<span part="badge"><slot>Sold Out</slot></span>';

  /** @type {StockElement['render']} */
  render({ isAvailable }) {
    const state = isAvailable ? 'default' : 'danger';
    this.hidden = isAvailable && !this.querySelector('[slot=available]');
    this.setAttribute('state', state);
    this.piece('badge').firstChild.name = isAvailable ? 'available' : '';
    return state;
  }
}
