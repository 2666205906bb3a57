-- order_data(of_order): an order as the API returns it. `total` is the price of its units. `amount` is the
-- sum that was paid according to the provider, with tax and shipping; null if it is not known.
-- Locks: none.
create or replace function order_data(of_order bigint) returns jsonb
language sql stable
set search_path from current
as $$
    select jsonb_build_object(
               'orderId', o.id, 'status', o.status, 'paymentReference', o.payment_reference,
               'createdAt', wire_time(o.created_at), 'updatedAt', wire_time(o.updated_at),
               'total', order_total(o.id), 'amount', o.amount, 'currency', o.currency,
               'refundedAmount', o.refunded_amount,
               'lines', (select jsonb_agg(jsonb_build_object(
                                    'productId', l.product_id, 'variantId', l.variant_id,
                                    'quantity', l.quantity,
                                    'filledQuantity', l.filled_quantity,
                                    'refundedQuantity', l.refunded_quantity,
                                    'unitPrice', l.unit_price)
                                order by l.product_id, l.variant_id)
                           from order_lines l
                          where l.order_id = o.id))
      from orders o
     where o.id = of_order
$$;
