-- The newest state of every variant.
select id, product_id, variant_value, status, price, max_quantity, sold_quantity,
       reserved_quantity, low_stock_threshold, version
  from variants
