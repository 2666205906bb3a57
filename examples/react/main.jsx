import { StrictMode, useState } from 'react';
import { createRoot } from 'react-dom/client';
import { useConnection, useStock } from './use-stock.js';

const dollars = new Intl.NumberFormat('en-US', { style: 'currency', currency: 'USD' });

/** @param {{ productId: string }} props */
function Product({ productId }) {
  const product = useStock(productId);
  if (product === undefined) return <p>Loading…</p>;
  if (product === null) return <p>We do not sell this any more.</p>;
  return (
    <article>
      <h2>{product.name}</h2>
      <p>
        {/* Prices are whole cents. */}
        {dollars.format(product.price / 100)} · <strong>{product.stockMessage}</strong>
      </p>
      <button disabled={!product.isAvailable}>Buy</button>
    </article>
  );
}

function Shop() {
  const connection = useConnection();
  const [isOpen, setOpen] = useState(true);
  return (
    <>
      <p role="status">{connection}</p>
      <Product productId="Unit-8x8x8-Founder" />
      {/* The stream drops the product of a removed component: watch the network panel. */}
      <label>
        <input type="checkbox" checked={isOpen} onChange={() => setOpen(!isOpen)} /> The set, too
      </label>
      {isOpen && <Product productId="Set-Starter" />}
    </>
  );
}

const root = /** @type {HTMLElement} */ (document.getElementById('root'));
createRoot(root).render(
  <StrictMode>
    <Shop />
  </StrictMode>,
);
