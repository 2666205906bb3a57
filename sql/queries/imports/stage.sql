-- Where an import puts what its file says until all of it is checked. `row` is the position in the
-- file, `part` that of a variant in its row. NULL: the file does not say; where it may say NULL
-- itself, `…_given` tells one from the other. Gone at the transaction's end.
create temporary table staged_products (
    row bigint, id text, name text, description text, category text, base_price integer,
    status text, requires_assembly boolean, max_quantity integer, max_quantity_given boolean,
    sold_quantity integer, low_stock_threshold integer, max_per_order integer,
    max_per_order_given boolean
) on commit drop;

create temporary table staged_variants (
    row bigint, part integer, product_id text, id text, variant_value text, sku text,
    price integer, price_given boolean, status text, max_quantity integer,
    max_quantity_given boolean, sold_quantity integer, low_stock_threshold integer
) on commit drop;

-- Ids that are not their own skeleton (files/looks.py): those of the file, and once they are needed
-- those of the database. `unseen`: a character in it that shows nothing.
create temporary table staged_looks (
    is_variant boolean, id text, skeleton text, unseen text
) on commit drop;
