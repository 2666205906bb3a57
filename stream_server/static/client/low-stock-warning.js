import { StockElement, styles } from './element.js';

/** Speaks of the last units, and is hidden while there are more, or none. */
export class LowStockWarning extends StockElement {
  static html =
    '<div part="box"><slot><strong part="title"></strong><span part="text">' +
    'This is a limited edition item. Order soon before it sells out.</span></slot></div>';
  static styles = styles(`
    :host { display: block }
    :host([hidden]) { display: none }
    [part~=box] {
      padding: .75em 1em; border-radius: var(--stock-radius, .4em);
      border: 1px solid var(--stock-warning-border, #e5c766);
      background: var(--stock-warning-background, #fdf6dc); color: var(--stock-warning-color, #5c3d00);
    }
    [part~=text] { display: block; font-size: .875em }
  `);

  /** @type {StockElement['render']} */
  render({ isLowStock, availableQuantity }) {
    this.replaceChildren();
    this.hidden = !isLowStock;
    const units = availableQuantity === 1 ? 'unit' : 'units';
    return (this.piece('title').textContent = `Only ${availableQuantity} ${units} remaining`);
  }
}
