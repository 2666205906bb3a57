import { say, StockElement, styles } from './element.js';

/** How much there is: `Sold Out`, `Only 3 remaining!`, `42 available`, `In Stock`. */
export class StockIndicator extends StockElement {
  static html =
    '<span part="badge"><slot></slot></span><span part="update" aria-hidden="true">Live Update</span>' +
    '<span part="stale">Stock info may be outdated</span>';
  static styles = styles(`
    :host { display: inline-block; position: relative }
    :host([hidden]) { display: none }
    [part~=badge] {
      display: inline-block; padding: .15em .6em; border-radius: var(--stock-radius, 1em);
      font-size: .875em; font-variant-numeric: tabular-nums; white-space: nowrap;
      background: var(--stock-default-background, #e8eaed); color: var(--stock-default-color, #26292e);
    }
    :host([state=danger]) [part~=badge] {
      background: var(--stock-danger-background, #fbdcdc); color: var(--stock-danger-color, #7a1010);
    }
    :host([state=warning]) [part~=badge] {
      background: var(--stock-warning-background, #fdefc3); color: var(--stock-warning-color, #5c3d00);
    }
    :host([state=success]) [part~=badge] {
      background: var(--stock-success-background, #d8f2de); color: var(--stock-success-color, #0f4a22);
    }
    [part~=update] {
      position: absolute; left: 100%; top: 0; padding-left: .5em; font-size: .75em;
      white-space: nowrap; visibility: hidden; color: var(--stock-update-color, #2459c4);
    }
    :host([updated]) [part~=update] { visibility: visible }
    [part~=stale] { display: none; font-size: .75em }
    :host([stale]) [part~=stale] { display: block }
    @media (prefers-reduced-motion: no-preference) {
      :host([updated]) [part~=badge] { animation: pulse .6s }
      @keyframes pulse { 50% { transform: scale(1.06) } }
    }
  `);

  /** @type {StockElement['render']} */
  render(stock, product) {
    const { stockMessage, isAvailable, availableQuantity, isLowStock, variantValue } = stock;
    const message = this.hasAttribute('long')
      ? stockMessage.replace(/^1 available$/, '1 item available').replace(/^(\d+) av/, '$1 items av')
      : stockMessage;
    const state =
      (!isAvailable && 'danger') ||
      (availableQuantity === null && 'success') ||
      (isLowStock ? 'warning' : 'default');
    const before = this.product && this.piece('badge').querySelector('slot') === null;
    if (before && this.getAttribute('state') !== state) {
      say([product.name, variantValue, message].filter(Boolean).join(', '));
    }
    this.setAttribute('state', state);
    this.piece('badge').textContent = message;
    return message;
  }
}
