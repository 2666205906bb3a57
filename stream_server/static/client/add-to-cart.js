import { say, StockElement } from './element.js';

/**
 * Keeps a form inside the tag (fields `variantId` and `quantity`, one button) in step with the stock,
 * or makes one. Dispatches `add-to-cart` with the choice; a listener that needs time calls
 * `detail.waitUntil(promise)`. If no listener does, a form with an action is submitted.
 */
export class AddToCart extends StockElement {
  static html =
    '<slot><form part="form"><label part="label"><span part="name"></span><select part="variant"' +
    ' name="variantId"></select></label><label part="label">Quantity: <input part="quantity"' +
    ' name="quantity" type="number" value="1" required></label><button part="button">Add to Cart' +
    '</button></form></slot>';

  #isAdding = false;
  #isReady = false;

  get variantId() {
    return this.#field('variantId')?.value || super.variantId;
  }

  /** @param {string} name @returns {any} */
  #field(name) {
    return this.form.elements.namedItem(name);
  }

  /** @type {StockElement['render']} */
  render({ isAvailable, availableQuantity }, product) {
    const { variants = [], isAvailable: canBeHad } = product;
    const select = this.#field('variantId');
    if (!this.#isReady && this.piece('variant') === select) {
      this.piece('name', this.getAttribute('variant-label') ?? 'Select Color:');
      if (!variants.length) select.parentNode.remove();
      select.replaceChildren(
        ...variants.map((each) => new Option(each.variantValue, each.variantId)),
      );
      select.value = super.variantId ?? variants[0]?.variantId;
    }
    for (const option of select?.options ?? []) {
      const variant = variants.find(({ variantId }) => variantId === option.value);
      option.dataset.name ??= option.text.replace(/ - Sold Out$/, '');
      const text = option.dataset.name + (variant?.isAvailable === false ? ' - Sold Out' : '');
      if (option.text !== text) option.text = text;
    }
    if (!this.#isReady) {
      this.#isReady = true;
      this.choose();
      return this.shown;
    }
    const canBuy = canBeHad && isAvailable;
    const text = canBuy ? (this.#isAdding ? 'Adding...' : 'Add to Cart') : 'Sold Out';
    const quantity = this.#field('quantity') ?? {};
    quantity.min = 1;
    const most = Number(this.getAttribute('max-quantity'));
    quantity.max = Math.min(availableQuantity ?? (most || 100), most || Infinity);
    quantity.disabled = !canBuy;
    if (canBuy && Number(quantity.value) > (availableQuantity ?? Infinity)) {
      quantity.value = availableQuantity;
    }
    const button = this.form.querySelector('button');
    if (button) {
      button.disabled = text !== 'Add to Cart';
      button.textContent = text;
    }
    return text;
  }

  choose() {
    const { productId, variantId } = this;
    if (variantId) this.emit('variant-change', { productId, variantId });
    this.update();
  }

  /** @param {Event} event */
  async submit(event) {
    event.preventDefault();
    const { form, productId, variantId, product } = this;
    const name = this.getAttribute('name') ?? product?.name ?? productId;
    if (this.#isAdding) return;
    if (this.shown === 'Sold Out') return this.#tell('This item is currently sold out', 'danger');
    /** @type {Promise<unknown>[]} */
    const promises = [];
    const waitUntil = (/** @type {Promise<unknown>} */ promise) => promises.push(promise);
    const quantity = Number(this.#field('quantity')?.value ?? 1);
    const detail = { productId, variantId, quantity, name, waitUntil };
    this.#isAdding = true;
    this.update();
    try {
      this.emit('add-to-cart', detail);
      if (!promises.length && form.hasAttribute('action')) {
        const body = new URLSearchParams(/** @type {any} */ (new FormData(form)));
        const answer = await fetch(form.action, { method: 'POST', body });
        if (!answer.ok) throw answer;
      }
      await Promise.all(promises);
      this.#tell(`${name} added to cart`, 'success');
    } catch (error) {
      // A listener may refuse with a reason: a RangeError, whose message is for the shopper.
      const reason = error instanceof RangeError ? error.message : 'Failed to add item to cart';
      this.#tell(reason, 'danger');
    }
    this.#isAdding = false;
    this.update();
  }

  /** @param {string} text @param {string} kind */
  #tell(text, kind) {
    say(text);
    this.emit('inventory-toast', { text, kind });
  }
}
