import { say, StockElement, styles } from './element.js';

/**
 * Asks for an address to write to when there is stock again; hidden while there is. A form inside
 * the tag (field `email`) is used, or one is brought.
 */
export class NotifyMe extends StockElement {
  static html =
    '<slot><form part="form"><label part="label">E-mail <input part="email" name="email"' +
    ' type="email" autocomplete="email" required></label><button part="button">Notify Me</button>' +
    '</form></slot><p part="message"></p>';
  static styles = styles(':host([hidden]) { display: none } [part~=message]:empty { display: none }');

  connectedCallback() {
    super.connectedCallback();
    this.addEventListener('submit', this.#submit);
    this.piece('form').addEventListener('submit', this.#submit);
  }

  /** @type {StockElement['render']} */
  render({ isAvailable }) {
    this.hidden = isAvailable;
    return '';
  }

  #submit = async (/** @type {Event} */ event) => {
    event.preventDefault();
    const form = /** @type {HTMLFormElement} */ (event.target);
    const email = new FormData(form).get('email');
    const place = `/api/products/${encodeURIComponent(this.productId)}/notifications`;
    let text = 'That did not work. Please try again';
    try {
      const answer = await fetch(this.store?.base + place, {
        method: 'POST',
        headers: { 'Content-Type': 'application/json' },
        body: JSON.stringify({ email, variantId: this.variantId }),
      });
      const { error, data } = await answer.json();
      text = error?.message ?? data?.message ?? 'We will write to you when it is back in stock';
      if (answer.ok) form.hidden = true;
    } catch {
      // said below
    }
    this.piece('message').textContent = text;
    say(text);
  };
}
