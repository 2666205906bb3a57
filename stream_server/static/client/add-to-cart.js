import { say, StockElement, styles, toast } from './element.js';

/**
 * Makes a form inside the tag (fields `variantId` and `quantity`, one button) follow the stock, or
 * brings one. Sends `add-to-cart` with what was chosen; a listener that needs time calls
 * `detail.waitUntil(promise)`. Without one, a form with an action is sent there.
 */
export class AddToCart extends StockElement {
  static styles = styles(`
    form { display: grid; gap: .75em }
    label { display: grid; gap: .25em }
    :disabled { cursor: not-allowed }
  `);

  /** @type {HTMLFormElement | undefined} */
  #form;
  #isAdding = false;

  disconnectedCallback() {
    super.disconnectedCallback();
    this.#form?.removeEventListener('submit', this.#submit);
    this.#form?.removeEventListener('change', this.#select);
    this.#form = undefined;
  }

  get variantId() {
    return this.#field('variantId')?.value || super.variantId;
  }

  /** @param {string} name @returns {any} */
  #field(name) {
    return this.#form?.elements.namedItem(name);
  }

  /** @type {StockElement['render']} */
  render(stock, product) {
    const { variants } = product;
    if (!this.#form) {
      this.#form = this.querySelector('form') ?? this.#build(product);
      this.#form.addEventListener('submit', this.#submit);
      this.#form.addEventListener('change', this.#select);
      this.#select();
      if (this.variantId) return this.update(), '';
    }
    for (const option of this.#field('variantId')?.options ?? []) {
      const variant = variants?.find(({ variantId }) => variantId === option.value);
      option.dataset.name ??= option.text.replace(/ - Sold Out$/, '');
      const text = option.dataset.name + (variant?.isAvailable === false ? ' - Sold Out' : '');
      if (option.text !== text) option.text = text;
    }
    const canBuy = product.isAvailable && stock.isAvailable;
    const quantity = this.#field('quantity');
    if (quantity) {
      quantity.min = 1;
      quantity.max = stock.availableQuantity ?? 100;
      quantity.disabled = !canBuy;
      if (canBuy && quantity.value > +quantity.max) quantity.value = quantity.max;
    }
    const button = this.#form.querySelector('button');
    const text = canBuy ? (this.#isAdding ? 'Adding...' : 'Add to Cart') : 'Sold Out';
    if (button) {
      button.disabled = !canBuy || this.#isAdding;
      button.textContent = text;
    }
    this.toggleAttribute('sold-out', !canBuy);
    return text;
  }

  /** @param {import('stream-server/stock-stream.js').Inventory} product */
  #build({ variants }) {
    const root = this.shadowRoot ?? this.attachShadow({ mode: 'open' });
    const label = this.getAttribute('variant-label') ?? 'Select Color:';
    root.adoptedStyleSheets = AddToCart.styles;
    root.innerHTML =
      '<form part="form"><label part="label"><span></span><select part="variant" name="variantId">' +
      '</select></label><label part="label">Quantity: <input part="quantity" name="quantity"' +
      ' type="number" value="1" required></label><button part="button"></button></form>';
    const [select] = root.querySelectorAll('select');
    if (variants) {
      this.piece('label').firstChild.textContent = label;
      for (const { variantId, variantValue } of variants) {
        select.add(new Option(variantValue, variantId, false, variantId === super.variantId));
      }
    } else this.piece('label').remove();
    return /** @type {HTMLFormElement} */ (this.piece('form'));
  }

  #select = () => {
    const { productId, variantId } = this;
    const detail = { productId, variantId };
    if (variantId) this.dispatchEvent(new CustomEvent('variant-change', { bubbles: true, detail }));
    this.update();
  };

  /** @param {Event} event */
  #submit = async (event) => {
    event.preventDefault();
    const form = /** @type {HTMLFormElement} */ (this.#form);
    const { productId, variantId, product } = this;
    const name = this.getAttribute('name') ?? product?.name ?? productId;
    const button = form.querySelector('button');
    if (this.#isAdding) return;
    if (button?.disabled) return this.#tell('This item is currently sold out', 'danger');
    /** @type {Promise<unknown>[]} */
    const promises = [];
    const quantity = Number(this.#field('quantity')?.value ?? 1);
    const detail = {
      productId,
      variantId,
      quantity,
      name,
      waitUntil: (/** @type {Promise<unknown>} */ promise) => promises.push(promise),
    };
    this.#isAdding = true;
    this.update();
    try {
      const init = { bubbles: true, composed: true, cancelable: true, detail };
      const isWelcome = this.dispatchEvent(new CustomEvent('add-to-cart', init));
      if (!promises.length && isWelcome && form.hasAttribute('action')) {
        promises.push(this.#send(form));
      }
      await Promise.all(promises);
      this.#tell(`${name} added to cart`, 'success');
    } catch {
      this.#tell('Failed to add item to cart', 'danger');
    }
    this.#isAdding = false;
    this.update();
  };

  /** @param {HTMLFormElement} form */
  async #send(form) {
    const body = new URLSearchParams(/** @type {any} */ (new FormData(form)));
    const headers = { Accept: 'application/json' };
    const answer = await fetch(form.action, { method: 'POST', headers, body });
    if (!answer.ok) throw new Error(answer.statusText);
  }

  /** @param {string} text @param {string} kind */
  #tell(text, kind) {
    say(text);
    toast(this, text, kind);
  }
}
