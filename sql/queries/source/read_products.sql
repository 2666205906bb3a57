-- The newest state of every product.
select id, name, status, base_price, max_quantity, sold_quantity, reserved_quantity,
       low_stock_threshold, version, changed_xid::text::bigint as changed_xid, updated_at,
       published_at is not null as published
  from products
