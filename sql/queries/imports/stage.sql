-- Tables that hold the content of an import's file until all of it is checked; they are dropped at the
-- end of the transaction. `row` is the position in the file, `part` the variant's position in its row. NULL
-- means that the file gives no value; for columns that may be NULL, `…_given` tells the two cases apart.
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

-- Ids that differ from their skeleton (inventory/imports/looks.py): ids of the file and, if they are
-- needed, ids of the database. `unseen`: an invisible character in the id.
create temporary table staged_looks (
    is_variant boolean, id text, skeleton text, unseen text
) on commit drop;
