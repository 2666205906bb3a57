import { around } from './element.js';

/** An amount in a currency's smallest unit (cents, yen) as people write it, in the language and the
 * currency of the nearest attributes `lang` and `currency`; values that Intl refuses are ignored.
 * The decimals are those of payments: Intl's own are for display, and differ by browser.
 * @param {number} amount @param {Element} element
 * @returns {string}
 */
export const money = (
  amount,
  element,
  lang = around(element, 'lang')?.replace('_', '-'),
  currency = around(element, 'currency')?.toUpperCase() || 'USD',
) => {
  // One string without separators: no other currency's code occurs across two of these.
  const without = 'BIFCLPDJFGNFJPYKMFKRWMGAPYGRWFUGXVNDVUVXAFXOFXPF'.includes(currency);
  const digits = without ? 0 : 'BHDIQDJODKWDLYDOMRTND'.includes(currency) ? 3 : 2;
  try {
    return (amount / 10 ** digits).toLocaleString(lang, {
      style: 'currency',
      currency,
      minimumFractionDigits: digits,
    });
  } catch {
    // The page's attributes may name no language, or no currency.
    return money(amount, element, 'en', lang === 'en' ? 'USD' : currency);
  }
};
