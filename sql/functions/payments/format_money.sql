-- format_money(amount, currency): an amount in a currency's smallest unit in the usual notation, such as
-- `49.00 USD` and `4900 JPY`; without a currency, the bare number.
-- The currencies without cents are those of https://docs.stripe.com/currencies and of ISO 4217.
-- Locks: none.
create or replace function format_money(amount numeric, currency text) returns text
language sql immutable
set search_path from current
as $$
    select case
           when amount is null then 'an unknown amount'
           when currency is null then amount::text
           else round(amount / 10::numeric ^ digits, digits) || ' ' || upper(currency)
           end
      from (values (case
                    when upper(currency) in ('BIF', 'CLP', 'DJF', 'GNF', 'JPY', 'KMF', 'KRW', 'MGA',
                                             'PYG', 'RWF', 'UGX', 'VND', 'VUV', 'XAF', 'XOF', 'XPF')
                    then 0
                    when upper(currency) in ('BHD', 'IQD', 'JOD', 'KWD', 'LYD', 'OMR', 'TND') then 3
                    else 2
                    end)) as unit (digits)
$$;
