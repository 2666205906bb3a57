import { around } from './element.js';

/** An amount in a currency's smallest unit (cents, yen) as people write it, in the language and the
 * currency of the nearest attributes `lang` and `currency`; what Intl refuses of them is left aside.
 * The decimals are those in which payments count: Intl's own are for display, and differ by browser.
 * @param {number} amount @param {Element} element
 * @returns {string}
 */
export const money = (
  amount,
  element,
  lang = around(element, 'lang')?.replace('_', '-'),
  currency = around(element, 'currency')?.toUpperCase() || 'USD',
) => {
  // Side by side: no other currency's code stands across two of these.
  const without = 'BIFCLPDJFGNFJPYKMFKRWMGAPYGRWFUGXVNDVUVXAFXOFXPF'.includes(currency);
  const digits = without ? 0 : 'BHDIQDJODKWDLYDOMRTND'.includes(currency) ? 3 : 2;
  try {
    return (amount / 10 ** digits).toLocaleString(lang, {
      style: 'currency',
      currency,
      minimumFractionDigits: digits,
    });
  } catch {
    // The page's own words may be no language, or no currency.
    return money(amount, element, 'en', lang === 'en' ? 'USD' : currency);
  }
};
