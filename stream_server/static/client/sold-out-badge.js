import { StockElement, styles } from './element.js';

/** `Sold Out`, and else what is inside the tag with slot="available", or nothing. */
export class SoldOutBadge extends StockElement {
  static html = '<span part="badge"><slot>Sold Out</slot></span>';
  static styles = styles(`
    :host { display: inline-block }
    :host([hidden]) { display: none }
    [part~=badge] {
      display: inline-block; padding: .15em .6em; border-radius: var(--stock-radius, 1em);
      font-size: .875em;
      background: var(--stock-danger-background, #fbdcdc); color: var(--stock-danger-color, #7a1010);
    }
    :host([state=default]) [part~=badge] {
      background: var(--stock-default-background, #e8eaed); color: var(--stock-default-color, #26292e);
    }
  `);

  /** @type {StockElement['render']} */
  render({ isAvailable }) {
    const name = isAvailable ? 'available' : '';
    this.hidden = isAvailable && !this.querySelector('[slot=available]');
    this.setAttribute('state', isAvailable ? 'default' : 'danger');
    this.shadowRoot?.querySelector('slot')?.setAttribute('name', name);
    return name;
  }
}
