-- record_payment(of_order, amount, currency, goods, shop_currency): records the sum that was paid for an
-- order, in the currency's smallest unit. `goods` is the part of it for the order's units, before any
-- discount, if it differs from `amount`: tax and shipping make `amount` larger, a discount makes it
-- smaller. If that part is not the price of the units (order_total), or the currency is not the shop's,
-- it raises an alert, which stays open until the difference is refunded or somebody acknowledges it.
-- Without `goods`, a second call with the same amount changes nothing. Returns whether there is a
-- difference.
-- Locks: the order; its alert.
-- Raises: SS009 for an unknown order, SS001 for an amount below 0, 42501 (refuse_strangers).
create or replace function record_payment(
    of_order      bigint,
    amount        bigint,
    currency      text default null,
    goods         bigint default null,
    shop_currency text default null
) returns boolean
language plpgsql
security definer
set search_path from current
as $$
#variable_conflict use_column
declare
    placed  orders;
    code    text := upper(record_payment.currency);
    total   numeric;
    differs boolean;
begin
    perform refuse_strangers();
    if (record_payment.amount >= 0) is not true then
        perform refuse_field('amount', 'a whole number from 0');
    end if;
    select * into placed from orders o where o.id = of_order for update;
    if not found then
        raise exception 'there is no order %', of_order
            using errcode = 'SS009', detail = jsonb_build_object('orderId', of_order);
    end if;
    if record_payment.goods is null and placed.amount = record_payment.amount
       and (placed.currency = code) is not false then
        return false;
    end if;
    update orders o
       set amount = record_payment.amount, currency = coalesce(code, placed.currency)
     where o.id = of_order;
    total := order_total(of_order);
    differs := coalesce(record_payment.goods, record_payment.amount) <> total
               or (code <> upper(shop_currency)) is true;
    if differs then
        perform raise_alert(null, null, 'payment', format(
            'Order %s costs %s, but %s was paid%s%s', of_order,
            format_money(total, coalesce(shop_currency, code)),
            format_money(record_payment.amount, code),
            case when record_payment.goods <> record_payment.amount
                 then ', ' || format_money(record_payment.goods, code) || ' of it for the goods' end,
            ' (' || placed.payment_reference || ')'),
            'order ' || of_order);
    else
        perform close_alert(null, null, 'payment', 'order ' || of_order);
    end if;
    return differs;
end
$$;
