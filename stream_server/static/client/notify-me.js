import { say, StockElement } from './element.js';

/**
 * Asks for an e-mail address to notify of a restock; hidden while there is stock. It uses a form
 * inside the tag (field `email`), or makes one.
 */
export class NotifyMe extends StockElement {
  static html =
    '<slot><form part="form"><label part="label">E-mail <input part="email" name="email"' +
    ' type="email" autocomplete="email" required></label><button part="button">Notify Me</button>' +
    '</form></slot><p part="message"></p>';

  /** @type {StockElement['render']} */
  render({ isAvailable }) {
    this.hidden = isAvailable;
    return this.form.className;
  }

  /** @param {Event} event */
  async submit(event) {
    event.preventDefault();
    const { form, productId, variantId, store } = this;
    const body = JSON.stringify({ email: new FormData(form).get('email'), variantId });
    let text = 'Please try again';
    try {
      const answer = await fetch(
        `${store.base}/api/products/${encodeURIComponent(productId)}/notifications`,
        { method: 'POST', headers: { 'Content-Type': 'application/json' }, body },
      );
      const { error, data } = await answer.json();
      text = (error ?? data)?.message ?? 'We will write when it is back in stock';
      form.hidden = answer.ok;
    } catch {
      // the message follows below
    }
    this.piece('message', text);
    say(text);
  }
}
